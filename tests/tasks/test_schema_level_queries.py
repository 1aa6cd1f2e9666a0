"""The queries that docs/releases.md gives for each migration tool, on tables as those tools make them."""

from __future__ import annotations

import re

import pytest

from settings import Backup
from tasks.backup.postgres import schema_level
from tests.support.program import ROOT
from tests.support.servers import Postgres

QUERIES = dict(re.findall(r"^\| ([\w-]+) \| `(SELECT .+)` \|$", (ROOT / "docs/releases.md").read_text(), re.MULTILINE))
TABLES = {
    "Prisma": """CREATE TABLE _prisma_migrations (id text, finished_at timestamptz, migration_name text, rolled_back_at
        timestamptz); INSERT INTO _prisma_migrations VALUES ('a', now(), 'init', NULL), ('b', now(), 'mood', NULL),
        ('c', NULL, 'failed', NULL), ('d', now(), 'undone', now())""",
    "Django": """CREATE TABLE django_migrations (id int, app text, name text, applied timestamptz);
        INSERT INTO django_migrations VALUES (1, 'shop', '0001_initial', now()), (2, 'auth', '0001_initial', now()),
        (3, 'shop', 'a_mood_for_each_entry', now())""",
    "Alembic": """CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
        INSERT INTO alembic_version VALUES ('0002_mood')""",
    "Knex": """CREATE TABLE knex_migrations (id int, name text, batch int, migration_time timestamptz);
        INSERT INTO knex_migrations VALUES (1, '20260101_init.js', 1, now()), (2, '20260102_mood.js', 2, now())""",
    "Flyway": """CREATE TABLE flyway_schema_history (installed_rank int, version text, description text, type text,
        success boolean); INSERT INTO flyway_schema_history VALUES (0, NULL, '<< Flyway Schema Creation >>', 'SCHEMA',
        true), (1, '1', 'init', 'SQL', true), (2, '1.1', 'mood', 'SQL', true), (3, '2', 'failed', 'SQL', false)""",
    "Rails": """CREATE TABLE schema_migrations (version varchar PRIMARY KEY);
        INSERT INTO schema_migrations VALUES ('20260101000000'), ('20260102000000')""",
    "TypeORM": """CREATE TABLE migrations (id int, "timestamp" bigint, name text);
        INSERT INTO migrations VALUES (1, 1700000000000, 'Init'), (2, 1700000000001, 'Mood')""",
    "node-pg-migrate": """CREATE TABLE pgmigrations (id int, name text, run_on timestamp);
        INSERT INTO pgmigrations VALUES (1, '1_init', now()), (2, '2_mood', now())""",
}


def test_every_query_is_tried() -> None:
    assert set(QUERIES) == set(TABLES)
    assert QUERIES["Prisma"] == Backup.model_fields["schema_level_query"].default


@pytest.mark.parametrize("tool", TABLES)
def test_the_level_of_each_tool(tool: str, postgres: Postgres, database: str) -> None:
    with postgres.connect(database) as connection:
        assert schema_level(connection, QUERIES[tool]) == 0
    postgres.execute(TABLES[tool], database)
    with postgres.connect(database) as connection:
        assert schema_level(connection, QUERIES[tool]) == 2
