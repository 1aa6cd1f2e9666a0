"""`backup create` on real servers: standard tools alone can check and restore what is in the store."""

from __future__ import annotations

import gzip
import io
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from pyrage import x25519

from tasks.backup import encryption
from tasks.backup.catalog import find
from tasks.backup.create import create
from tasks.backup.manifest import File, Manifest
from tasks.environment import Environment
from tasks.errors import Refused, TaskError
from tasks.store import Store, open_store
from tests.support.servers import BIN, S3, Postgres
from tests.support.task_processes import task

TABLES = """
CREATE SCHEMA "odd schema";
CREATE TABLE orders (id bigint PRIMARY KEY, note text);
CREATE TABLE "odd schema"."Odd ""table" (id int);
CREATE TABLE parted (id int, at date) PARTITION BY RANGE (at);
CREATE TABLE parted_2025 PARTITION OF parted FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE parent (id int);
CREATE TABLE child () INHERITS (parent);
CREATE TABLE levels (level int);
INSERT INTO orders SELECT n, md5(n::text) FROM generate_series(1, 5000) n;
INSERT INTO "odd schema"."Odd ""table" VALUES (1), (2);
INSERT INTO parted VALUES (1, '2025-05-05');
INSERT INTO parent VALUES (1);
INSERT INTO child VALUES (1), (2);
INSERT INTO levels VALUES (3), (4);
"""
ROWS = {
    'odd schema.Odd "table': 2,
    "public.child": 2,
    "public.levels": 2,
    "public.orders": 5000,
    "public.parent": 1,
    "public.parted": 1,
    "runbook.sentinel": 1,
}


@pytest.fixture
def settings(postgres: Postgres, s3: S3, database: str, bucket: str, tmp_path: Path) -> dict[str, str]:
    postgres.execute(TABLES, database)
    return {
        **s3.environment(bucket),
        "DATABASE_URL": postgres.url(database) + "?schema=public&connection_limit=5",
        "SCHEMA_LEVEL_QUERY": "SELECT max(level) FROM levels",
        "SCRATCH": str(tmp_path),
    }


def backup(settings: dict[str, str], **changed: str) -> tuple[Manifest, Store]:
    environment = Environment(settings | changed)
    return create(environment, "manual"), open_store(environment)


def downloaded(store: Store, manifest: Manifest, into: Path) -> Path:
    """The backup's whole folder, as `aws s3 sync` would leave it."""
    for entry in store.entries(manifest.folder):
        path = into / entry.key.removeprefix(manifest.folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.get(entry.key))
    return into


def sha256sum(folder: Path) -> subprocess.CompletedProcess[str]:
    (companion,) = folder.glob("*.sha256")
    return subprocess.run(
        ["sha256sum", "-c", companion.name], cwd=folder, capture_output=True, text=True, env={"LC_ALL": "C"}
    )


@pytest.fixture
def restored(postgres: Postgres) -> Iterator[str]:
    with postgres.database() as name:
        yield name


def pg_restore(postgres: Postgres, dump: Path, into: str, *flags: str) -> None:
    subprocess.run(
        [BIN / "pg_restore", "--exit-on-error", "--no-password", *flags, f"--dbname={postgres.url(into)}", dump],
        check=True,
        capture_output=True,
    )


def rows(postgres: Postgres, database: str) -> dict[str, int]:
    """Counted anew, by PostgreSQL's own idea of what a user's tables are."""
    tables = "SELECT schemaname, relname FROM pg_stat_user_tables JOIN pg_class USING (relname) WHERE relkind = 'r'"
    with postgres.connect(database) as connection:
        return {
            # There is one partition: the manifest has its rows under the root.
            f"{schema}.{table.removesuffix('_2025')}": connection.execute(
                sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(schema, table))
            ).fetchone()[0]  # type: ignore[index] - count gives a row
            for schema, table in connection.execute(tables).fetchall()
        }


def test_a_backup_restores_with_plain_tools(
    postgres: Postgres, settings: dict[str, str], database: str, restored: str, tmp_path: Path
) -> None:
    release = {"RELEASE_REVISION": "12", "RELEASE_GIT": "12e4567", "RELEASE_IMAGE": "shop@sha256:1"}
    manifest, store = backup(settings, **release)
    assert find(store, manifest.id) == manifest
    assert manifest.tables == ROWS
    assert (manifest.schema_level, manifest.database, manifest.format) == (4, database, "custom")
    assert manifest.release is not None
    assert manifest.release.git == "12e4567", "a commit that looks like a number stays text"
    assert manifest.server_version.startswith("15.")
    assert manifest.previous is None

    folder = downloaded(store, manifest, tmp_path / "copy")
    assert {path.name for path in folder.iterdir()} == {
        f"{manifest.id}.dump",
        f"{manifest.id}.dump.sha256",
        "roles.sql",
        "manifest.json",
    }
    assert sha256sum(folder).returncode == 0
    pg_restore(postgres, folder / f"{manifest.id}.dump", restored)
    assert rows(postgres, restored) == ROWS
    with postgres.connect(restored) as connection:
        found = connection.execute("SELECT token, written_at FROM runbook.sentinel").fetchall()
    assert found == [(manifest.sentinel.token, manifest.sentinel.written_at)]

    roles = (folder / "roles.sql").read_text()
    assert "CREATE ROLE postgres" in roles
    assert "PASSWORD" not in roles.replace("NOPASSWORD", "")

    again, _ = backup(settings)
    assert again.previous == manifest.id
    assert again.tables["runbook.sentinel"] == 2


def test_a_directory_dump(postgres: Postgres, settings: dict[str, str], restored: str, tmp_path: Path) -> None:
    manifest, store = backup(settings, BACKUP_FORMAT="directory", BACKUP_JOBS="2")
    folder = downloaded(store, manifest, tmp_path / "copy")
    assert sha256sum(folder).returncode == 0
    assert {file.name for file in manifest.dump} == {
        f"{manifest.id}.dump/{path.name}" for path in (folder / f"{manifest.id}.dump").iterdir()
    }
    pg_restore(postgres, folder / f"{manifest.id}.dump", restored, "--jobs=2")
    assert rows(postgres, restored) == ROWS == manifest.tables
    assert [path.name for path in tmp_path.iterdir()] == ["copy"], "scratch is empty again"


def test_rows_are_counted_in_the_snapshot_of_the_dump(
    postgres: Postgres, settings: dict[str, str], database: str, restored: str, tmp_path: Path
) -> None:
    """A row written during the backup is both in the dump and in the count, or in neither."""
    with postgres.connect(database) as writer, ThreadPoolExecutor(1) as pool:
        forever = b"DO $$ BEGIN LOOP INSERT INTO levels VALUES (4); COMMIT; END LOOP; END $$"
        writing = pool.submit(writer.execute, forever)
        try:
            while rows(postgres, database)["public.levels"] <= 2 and not writing.done():
                time.sleep(0.01)  # the writer has begun when its rows are there
            manifest, store = backup(settings)
        finally:
            writer.cancel()
        assert isinstance(writing.exception(), psycopg.errors.QueryCanceled)
    folder = downloaded(store, manifest, tmp_path / "copy")
    pg_restore(postgres, folder / f"{manifest.id}.dump", restored)
    assert manifest.tables["public.levels"] > 2
    assert rows(postgres, restored) == manifest.tables


def test_an_encrypted_backup_and_a_rotated_key(settings: dict[str, str], tmp_path: Path) -> None:
    old, new = x25519.Identity.generate(), x25519.Identity.generate()
    first, store = backup(settings, BACKUP_RECIPIENTS=str(old.to_public()))
    second, _ = backup(settings, BACKUP_RECIPIENTS=str(new.to_public()))
    assert first.encrypted
    assert first.key_ids == (str(old.to_public()),)
    keys = tmp_path / "identities"
    keys.write_text(f"# of this year\n{new}\n# of last year\n{old}\n")
    both = encryption.identities(Environment({"BACKUP_IDENTITIES_FILE": str(keys)}))

    for manifest in (first, second):
        folder = downloaded(store, manifest, tmp_path / manifest.id)
        assert sha256sum(folder).returncode == 0, "needs no key"
        assert {file.name for file in manifest.files} == {f"{manifest.id}.dump.age", "roles.sql.age"}
        plain = folder / "plain"
        with (folder / f"{manifest.id}.dump.age").open("rb") as source, plain.open("wb") as sink:
            encryption.decrypt(source, sink, both, manifest.id)
        listed = subprocess.run([BIN / "pg_restore", "--list", plain], capture_output=True, text=True, check=True)
        assert "TABLE DATA public orders" in listed.stdout

    def attempt(file: File, content: bytes, keys: list[x25519.Identity]) -> str:
        with pytest.raises(TaskError, match=file.name) as caught:
            encryption.decrypt(io.BytesIO(content), io.BytesIO(), keys, file.name)
        return caught.value.code

    (file,) = first.dump
    whole = store.get(first.key(file))
    assert attempt(file, whole, [new]) == "identity_missing"
    assert attempt(file, whole, []) == "identity_missing"
    assert attempt(file, whole[:-1000], [old]) == "checksum_mismatch"
    assert attempt(file, whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:], [old]) == "checksum_mismatch"


def test_a_role_that_may_only_read(postgres: Postgres, settings: dict[str, str], database: str) -> None:
    with postgres.role(database) as role:
        settings = settings | {"DATABASE_URL": postgres.url(database, user=role, password=f"{role}-pw")}
        postgres.execute(f"GRANT pg_read_all_data TO {role}")
        with pytest.raises(TaskError, match=f"CREATE SCHEMA runbook AUTHORIZATION {role}") as caught:
            backup(settings)
        assert caught.value.code == "database_refused"

        postgres.execute(f"CREATE SCHEMA runbook AUTHORIZATION {role}", database)
        manifest, _ = backup(settings)
        assert manifest.tables == ROWS
        postgres.execute("ALTER TABLE orders ENABLE ROW LEVEL SECURITY", database)
        with pytest.raises(TaskError, match="row-level security"):
            backup(settings)


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-1], lambda data: data[:2000] + bytes([data[2000] ^ 4]) + data[2001:], lambda data: b""],
    ids=["truncated", "bit flipped", "emptied"],
)
def test_sha256sum_names_a_damaged_file(
    settings: dict[str, str], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    manifest, store = backup(settings)
    (dump,) = manifest.dump
    store.put(manifest.key(dump), damage(store.get(manifest.key(dump))))
    checked = sha256sum(downloaded(store, manifest, tmp_path / "copy"))
    assert checked.returncode == 1
    assert checked.stdout.splitlines() == [f"{dump.name}: FAILED", "roles.sql: OK"]


def test_if_behind(settings: dict[str, str]) -> None:
    done = task(settings, "backup", "create", "--kind", "pre-release", "--if-behind", "4")
    assert done.exit_code == 0
    assert "level 4" in done.result["skipped"]
    assert task(settings, "backup", "list").result == []
    # The check does not access the store when no backup is needed.
    away = settings | {"S3_ENDPOINT_URL": "http://127.0.0.1:1"}
    assert "skipped" in task(away, "backup", "create", "--kind", "pre-release", "--if-behind", "4").result
    assert task(settings, "backup", "create", "--kind", "pre-release", "--if-behind", "5").result["schema_level"] == 4
    unknown = task(settings | {"SCHEMA_LEVEL_QUERY": ""}, "backup", "create", "--kind", "manual", "--if-behind", "5")
    assert (unknown.exit_code, unknown.error) == (2, "environment_invalid")


@pytest.mark.parametrize(
    ("query", "level"),
    [("SELECT level FROM no_such_table", 0), ("SELECT max(level) FROM levels WHERE level > 9", 0), ("", None)],
)
def test_a_database_without_migrations(settings: dict[str, str], query: str, level: int | None) -> None:
    assert backup(settings, SCHEMA_LEVEL_QUERY=query)[0].schema_level == level


@pytest.mark.parametrize("query", ["SELECT 'four'", "SELECT 1, 2", "SELECT level FROM levels", "SELEKT 1"])
def test_a_level_query_that_gives_no_level(settings: dict[str, str], query: str) -> None:
    with pytest.raises(Refused, match="SCHEMA_LEVEL_QUERY"):
        backup(settings, SCHEMA_LEVEL_QUERY=query)
    assert list(open_store(Environment(settings)).entries()) == []


def test_into_a_volume(settings: dict[str, str], tmp_path: Path) -> None:
    manifest, _ = backup(settings, BACKUP_STORE=f"file://{tmp_path}/volume")
    folder = tmp_path / "volume" / "backups" / manifest.id
    assert sha256sum(folder).returncode == 0
    assert (folder / "manifest.json").exists()


def test_sqlite(s3: S3, bucket: str, tmp_path: Path) -> None:
    live = tmp_path / "live.db"
    with closing(sqlite3.connect(live, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute('CREATE TABLE "odd ""table" (n)')
        writer.executemany('INSERT INTO "odd ""table" VALUES (?)', [(n,) for n in range(1000)])
        writer.execute("CREATE TABLE level (n)")
        writer.execute("INSERT INTO level VALUES (2)")
        # Open and not committed: neither waited for nor in the backup, as the file in its write-ahead log is.
        writer.execute("BEGIN")
        settings = {
            **s3.environment(bucket),
            "DATABASE_URL": f"file:{live}?connection_limit=1",
            "SCHEMA_LEVEL_QUERY": "SELECT max(n) FROM level",
            "SCRATCH": str(tmp_path),
        }
        manifest, store = backup(settings)
    assert manifest.tables == {"main.level": 1, 'main.odd "table': 1000, "main.runbook_sentinel": 1}
    assert (manifest.engine, manifest.format, manifest.schema_level) == ("sqlite", "sqlite", 2)
    folder = downloaded(store, manifest, tmp_path / "copy")
    assert sha256sum(folder).returncode == 0
    (dump,) = manifest.dump
    copy = tmp_path / "copy.db"
    copy.write_bytes(gzip.decompress((folder / dump.name).read_bytes()))
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute('SELECT count(*) FROM "odd ""table"').fetchone() == (1000,)
        assert connection.execute("SELECT token FROM runbook_sentinel").fetchone() == (manifest.sentinel.token,)


def test_a_damaged_sqlite_database_is_not_backed_up(s3: S3, bucket: str, tmp_path: Path) -> None:
    live = tmp_path / "live.db"
    settings = {**s3.environment(bucket), "DATABASE_URL": f"sqlite:///{live}", "SCRATCH": str(tmp_path)}
    with pytest.raises(TaskError, match="unable to open") as caught:
        backup(settings)
    assert caught.value.code == "database_unreachable"
    assert not live.exists(), "looking for it has not made it"
    with closing(sqlite3.connect(live)) as connection:
        connection.execute("CREATE TABLE t (n)")
        connection.execute("CREATE INDEX i ON t (n)")
        connection.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(3000)])
        connection.commit()
    data = bytearray(live.read_bytes())
    data[-4000:-100] = bytes(3900)
    live.write_bytes(data)
    with pytest.raises(TaskError) as caught:
        backup(settings)
    assert caught.value.code == "database_damaged"
    assert list(open_store(Environment(settings)).entries()) == []
