"""Jobs of pg_cron, which one database of a server has: the one that `cron.database_name` names.

The extension can be made in no other. So a copy beside the live database has neither extension nor jobs; when it takes
the live one's name, it gets both from the database that it replaces, in one transaction: no job is there twice, and
pg_cron, which starts anew with the live database, runs those that it ran before. Before version 1.6 it does not start
anew until the server does (citusdata/pg_cron#188): there a restore in place is refused.
"""

from __future__ import annotations

import re
from typing import Any

from psycopg import Connection, sql
from psycopg.types.json import Jsonb

from tasks.errors import Refused

STARTS_ANEW = (1, 6)
"""The first version whose scheduler comes back when its session was ended."""
_VERSION = "SELECT extversion FROM pg_extension WHERE extname = 'pg_cron'"
_AVAILABLE = "SELECT FROM pg_available_extensions WHERE name = 'pg_cron'"
_GRANTS = """
WITH granted AS (
  SELECT 'SCHEMA cron' AS what, (aclexplode(nspacl)).* FROM pg_namespace WHERE nspname = 'cron'
  UNION ALL
  SELECT 'TABLE ' || oid::regclass, (aclexplode(relacl)).* FROM pg_class
  WHERE relnamespace = 'cron'::regnamespace AND relkind = 'r'
  UNION ALL
  SELECT 'FUNCTION ' || oid::regprocedure, (aclexplode(proacl)).* FROM pg_proc
  WHERE pronamespace = 'cron'::regnamespace)
SELECT format('GRANT %s ON %s TO %s%s', privilege_type, what, coalesce(quote_ident(rolname), 'PUBLIC'),
              CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
FROM granted LEFT JOIN pg_roles r ON r.oid = grantee WHERE grantee = 0 OR rolname IS NOT NULL
"""


def has_jobs(connection: Connection[Any]) -> bool:
    """Whether a database has the extension."""
    return connection.execute(_VERSION).rowcount > 0


def may_have_jobs(connection: Connection[Any]) -> bool:
    """Whether a database of this server may have the extension."""
    return connection.execute(_AVAILABLE).rowcount > 0


def require_movable(connection: Connection[Any], live: str) -> None:
    """Refuse where pg_cron runs in the live database and would not go on in the restored one."""
    if not has_jobs(connection):
        return
    role, superuser, sees = connection.execute(
        "SELECT current_user::text, rolsuper, has_schema_privilege('cron', 'USAGE')"
        " FROM pg_roles WHERE rolname = current_user"
    ).fetchall()[0]
    ((version,),) = connection.execute(
        "SELECT default_version FROM pg_available_extensions WHERE name = 'pg_cron'"
    ).fetchall()
    why: list[str] = []
    if not superuser:
        why.append(f"only a superuser may end its session and make the extension anew, and {role} is none")
    if _parse(version) < STARTS_ANEW:
        why.append(f"version {version} does not start again before the server does once its session was ended")
    if not why:
        return
    jobs = ""
    if sees:
        rows = connection.execute("SELECT coalesce(jobname, 'job ' || jobid) FROM cron.job ORDER BY jobid").fetchall()
        jobs = f" (jobs that {role} sees: {', '.join(name for (name,) in rows) or 'none'})"
    raise Refused(
        "jobs_in_database",
        f"pg_cron runs in {live}{jobs}, and its jobs would not go on after a restore in place: {'; '.join(why)}. "
        "Nothing was changed. Move them, as a superuser: set cron.database_name to another database, such as postgres, "
        f"restart the server, schedule them there with cron.schedule_in_database(name, schedule, command, '{live}'), "
        f"and DROP EXTENSION pg_cron in {live}. A restore beside it (`restore into`) needs none of this",
    )


def _parse(version: str) -> tuple[int, ...]:
    """(1, 4) from `1.4-1`."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def move_jobs(replaced: Connection[Any], live: Connection[Any]) -> int:
    """Make the extension in the live database, with the jobs and privileges of the replaced one; how many jobs."""
    version = replaced.execute(_VERSION).fetchone()
    if version is None:
        return 0
    ((jobs,),) = replaced.execute("SELECT coalesce(jsonb_agg(to_jsonb(job)), '[]') FROM cron.job").fetchall()
    last, called = replaced.execute("SELECT last_value, is_called FROM cron.jobid_seq").fetchall()[0]
    grants = replaced.execute(_GRANTS).fetchall()
    with live.transaction():
        live.execute(sql.SQL("CREATE EXTENSION pg_cron VERSION {}").format(sql.Literal(version[0])))
        live.execute("INSERT INTO cron.job SELECT * FROM jsonb_populate_recordset(NULL::cron.job, %s)", (Jsonb(jobs),))
        live.execute("SELECT setval('cron.jobid_seq', %s, %s)", (last, called))
        for (grant,) in grants:
            live.execute(grant.encode())
    return len(jobs)
