"""The shop's own migration beside a real PgBouncer, with the variables that the program gives it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.pooler import Pooler, pgbouncer
from tests.support.program import RELEASE, Program, run_program, secrets_for, stack_config
from tests.support.servers import BIN, Postgres
from tests.support.shop_release import copy_release

PASSWORD = "of-the-owner"
MIGRATE = "npm run db:migrate --workspace backend"
WHICH = "INSERT INTO migrated_by SELECT pg_backend_pid()"


@pytest.fixture
def owner(postgres: Postgres, database: str) -> Iterator[str]:
    """A plain role, the owner of the database."""
    role = f"{database}_owner"
    postgres.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'; ALTER DATABASE {database} OWNER TO {role}")
    postgres.execute(f"ALTER SCHEMA public OWNER TO {role}; CREATE TABLE migrated_by (pid int)", database)
    postgres.execute(f"ALTER TABLE migrated_by OWNER TO {role}", database)
    yield role
    postgres.execute(f"DROP DATABASE {database} WITH (FORCE)")
    postgres.execute(f"DROP ROLE {role}")


@pytest.fixture
def pooler(postgres: Postgres, owner: str) -> Iterator[Pooler]:
    with pgbouncer(postgres, {owner: PASSWORD}) as pooler:
        yield pooler


def program(pooled: str, direct: str, runner: Mapping[str, str]) -> Program:
    """A release whose migration is the shop's own, and a client that wants DIRECT_URL, as Prisma's does."""
    config = stack_config("Pulumi.prod.yaml", release=RELEASE)
    config["runbook:data"]["postgres"] |= {"admin": False}
    config["runbook:application"]["secrets"] = [*config["runbook:application"].get("secrets", []), "DIRECT_URL"]
    asked = f'sh -c \'psql "$DIRECT_URL" --command "{WHICH}"\''
    config["runbook:commands"]["migrate"] = {"run": [MIGRATE, asked], "timeoutSeconds": 120, **runner}
    return run_program(config, secrets_for(config) | {"DATABASE_URL": pooled, "DIRECT_URL": direct})


def commands_of_job(made: Program) -> list[tuple[list[str], dict[str, str]]]:
    """What the containers of the migration's Job run, with which variables."""
    (job,) = (each for each in made.all("Job") if each.object_name.startswith("migrate-"))
    found: list[tuple[list[str], dict[str, str]]] = []
    for container in job.containers:
        if container["name"].startswith("migrate"):
            (source,) = container["envFrom"]
            variables = made.one("Secret", source["secretRef"]["name"]).inputs["stringData"]
            found.append((container["command"], variables))
    return found


def command_of_runner(made: Program) -> list[tuple[list[str], dict[str, str]]]:
    """What runs where `pulumi up` does."""
    (command,) = (each for each in made.all("Command") if each.name.startswith("migrate-"))
    return [(["sh", "-c", command.inputs["create"]], command.inputs["environment"])]


@pytest.mark.parametrize("runner", ["job", "command"])
def test_a_migration_goes_past_the_pooler(
    postgres: Postgres, database: str, owner: str, pooler: Pooler, tmp_path: Path, runner: str
) -> None:
    found_by = copy_release(tmp_path / "app")
    found_by["PATH"] += f":{BIN}"
    pooled, direct = (server.url(database, owner, PASSWORD) for server in (pooler, postgres))
    if runner == "job":
        commands = commands_of_job(program(pooled, direct, {}))
        assert len(commands) == 2
    else:
        commands = command_of_runner(program(pooled, direct, {"runner": "command", "directory": str(tmp_path / "app")}))
    pooler_pids = pids_of_pool(postgres, database, owner, pooled)
    for command, variables in commands:
        done = subprocess.run(
            command, cwd=tmp_path / "app", env={**found_by, **variables}, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
    with postgres.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM pgmigrations").fetchone() == (2,)
        (pid,) = (row[0] for row in connection.execute("SELECT pid FROM migrated_by").fetchall())
        # The lock of the shop's migration is one of the session: a session of the pool would keep it.
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = ANY(%s)"
        assert connection.execute(locks, [pooler_pids]).fetchone() == (0,)
    assert pid not in pooler_pids


def pids_of_pool(postgres: Postgres, database: str, owner: str, pooled: str) -> list[int]:
    """The server's sessions of the pooler, once it has all that it keeps."""
    from contextlib import ExitStack

    import psycopg

    with ExitStack() as clients:
        for _ in range(3):
            clients.enter_context(psycopg.connect(pooled)).execute("SELECT 1", prepare=False)
        with postgres.connect() as connection:
            query = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND usename = %s"
            pids = [row[0] for row in connection.execute(query, [database, owner]).fetchall()]
    assert len(pids) == 3
    return pids
