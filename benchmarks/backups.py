"""A backup to S3 and a restore test of it, against bare pg_dump and pg_restore with a file, by size of the database.

Ours does more: it streams to S3 with checksums, counts every row, fetches, verifies, compares, checks every index.
It compresses with zlib's level 3, the bare tool with its default, 6.
Needs no sandbox: a PostgreSQL and an S3 server of its own, on loopback. The ratios are of throughput: 1 is as fast
as the bare tool, and above it faster.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.timing import Series, in_turn, run
from sandbox.paths import ROOT
from tasks.backup.postgres import Database
from tests.support import servers

MIB = 1 << 20
SIZES = (256, 1280)
"""MiB of the databases: the larger one has to be of a gigabyte at least, once filled."""
JOBS = 2
_ROWS_PER_MIB = 4000
_FILL = """
CREATE TABLE customers (id bigint PRIMARY KEY, email text NOT NULL, name text NOT NULL, joined timestamptz NOT NULL);
INSERT INTO customers SELECT n, 'customer' || n || '@example.com', initcap(left(md5(n::text), 9)) || ' Example',
    timestamptz '2020-01-01' + n * interval '7 minutes' FROM generate_series(1, %(rows)s / 10) n;
CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint NOT NULL, placed timestamptz NOT NULL,
    status text NOT NULL, total numeric(10, 2) NOT NULL, reference uuid NOT NULL, note text);
INSERT INTO orders SELECT n, n %% (%(rows)s / 10) + 1,
    timestamptz '2020-01-01' + n * interval '1 minute',
    (array['open', 'paid', 'shipped', 'returned'])[1 + n %% 4], (n::bigint * 7919 %% 100000) / 100.0,
    md5(n::text)::uuid, 'Please leave the parcel number ' || n || ' with the neighbour at '
    || left(md5((n / 9)::text), 6) || ' street'
    FROM generate_series(1, %(rows)s) n;
CREATE INDEX ON orders (customer);
CREATE INDEX ON orders (placed);
ANALYZE;
"""


def measure(runs: int) -> dict[str, Any]:
    backups: dict[str, Any] = {}
    restores: dict[str, Any] = {}
    with servers.postgres() as server, servers.s3() as store, tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        for mebibytes in SIZES:
            with server.database(f"bench_{mebibytes}") as name:
                bench = _Bench(server, store, name, Path(folder))
                size = bench.fill(mebibytes)
                print(f"  a database of {size / MIB:.0f} MiB:", flush=True)
                taken = in_turn({"backup create": bench.back_up, "pg_dump -Fc": bench.dump}, runs)
                backups[f"{size / MIB:.0f} MiB"] = _result(taken, size, bench.peaks["create"])
                taken = in_turn({"restore test-begin": bench.prove, f"pg_restore -j {JOBS}": bench.restore}, runs)
                restores[f"{size / MIB:.0f} MiB"] = _result(taken, size, bench.peaks["test-begin"])
                restores[f"{size / MIB:.0f} MiB"]["steps"] = bench.steps
    return {
        "backup_vs_pg_dump": _result_of_sizes(
            "streaming a backup to S3 (level 3, checksums, row counts, manifest), against pg_dump -Fc (level 6)",
            backups,
        ),
        "restore_test_vs_pg_restore": _result_of_sizes(
            "fetching, verifying, restoring, comparing and checking a backup, against pg_restore from a file", restores
        ),
    }


class _Bench:
    """One database, and the commands that are timed on it."""

    def __init__(self, server: servers.Postgres, store: servers.S3, name: str, folder: Path) -> None:
        self._server, self._name = server, name
        self._file = folder / f"{name}.dump"
        self._restored = f"{name}_restored"
        self._bare = Database(server.url(self._restored)).environment()
        self._source = Database(server.url(name)).environment()
        self._environment = {
            **os.environ,
            **store.environment(store.new_bucket()),
            "DATABASE_URL": server.url(name),
            "RESTORE_DATABASE_URL": server.url(f"{name}_proven"),
            "SCRATCH": str(folder),
        }
        self.peaks: dict[str, list[int]] = {"create": [], "test-begin": []}
        """Peak resident memory of each run, in bytes."""
        self.steps: Mapping[str, float] = {}
        """Seconds of each step of the last restore test."""

    def fill(self, mebibytes: int) -> int:
        """Bytes of the database."""
        self._server.execute(_FILL % {"rows": mebibytes * _ROWS_PER_MIB}, self._name)
        with self._server.connect(self._name) as connection:
            connection.execute("CHECKPOINT")
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        assert row
        return row[0]

    def back_up(self, _turn: int) -> None:
        self._ours("backup", "create", "--kind", "manual")

    def dump(self, _turn: int) -> None:
        run([str(servers.BIN / "pg_dump"), "-Fc", f"--file={self._file}"], self._source)

    def prove(self, _turn: int) -> None:
        printed = self._ours("restore", "test-begin", "--jobs", str(JOBS))
        self.steps = {step["name"]: step["seconds"] for step in printed["steps"]}

    def restore(self, _turn: int) -> None:
        with self._server.connect() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {self._restored} WITH (FORCE)".encode())
            connection.execute(f"CREATE DATABASE {self._restored}".encode())
        flags = ["--exit-on-error", f"--jobs={JOBS}", f"--dbname={self._restored}"]
        run([str(servers.BIN / "pg_restore"), *flags, str(self._file)], self._bare)

    def _ours(self, *words: str) -> dict[str, Any]:
        """Our command's result; its peak memory, which includes that of the programs it runs, is kept."""
        with tempfile.TemporaryFile("w+") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "tasks", *words, "--json"],
                cwd=ROOT,
                env=self._environment,
                stdout=out,
                stderr=subprocess.DEVNULL,
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            printed = json.loads(out.read().splitlines()[-1])
        if process.returncode:
            raise SystemExit(f"{' '.join(words)} failed: {printed}")
        self.peaks[words[1]].append(usage.ru_maxrss * 1024)
        return printed


def _result(taken: Mapping[str, Series], size: int, peaks: list[int]) -> dict[str, Any]:
    return {
        "seconds": {name: series.to_json() for name, series in taken.items()},
        "mebibytes_per_second": {name: round(size / MIB / series.median, 1) for name, series in taken.items()},
        "our_peak_memory_mebibytes": round(max(peaks) / MIB, 1),
    }


def _result_of_sizes(what: str, sizes: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    ratios: dict[str, float] = {}
    for size, result in sizes.items():
        (ours, our_speed), (bare, bare_speed) = result["mebibytes_per_second"].items()
        ratios[f"{ours}/{bare}, throughput, {size}"] = round(our_speed / bare_speed, 2)
    (small, one), (large, other) = ((size, result["our_peak_memory_mebibytes"]) for size, result in sizes.items())
    ratios[f"peak memory, {large}/{small}"] = round(other / one, 2)
    return {"what": what, "sizes": dict(sizes), "ratios": ratios}
