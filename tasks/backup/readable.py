"""What a login may not read of a database, said before a dump instead of by pg_dump's first error in it."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from tasks.errors import TaskError

_MOST_NAMED = 10

# What pg_dump reads: tables, partitioned ones and sequences, without what extensions bring and temporary ones; large
# objects, which pg_read_all_data does not give up to version 17.
_UNREADABLE = """
SELECT CASE WHEN c.relkind = 'S' THEN 'sequence' ELSE 'table' END,
       quote_ident(n.nspname) || '.' || quote_ident(c.relname),
       CASE WHEN NOT has_schema_privilege(n.oid, 'USAGE') THEN 'no USAGE on schema ' || quote_ident(n.nspname)
            WHEN NOT has_table_privilege(c.oid, 'SELECT') THEN 'no SELECT'
            ELSE 'row-level security hides rows from this role' END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT 1 FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
  AND (NOT has_schema_privilege(n.oid, 'USAGE') OR NOT has_table_privilege(c.oid, 'SELECT')
       OR (c.relkind IN ('r', 'p') AND row_security_active(c.oid)))
UNION ALL
SELECT 'large object', oid::text,
       'no SELECT: GRANT SELECT ON LARGE OBJECT ' || oid || ' TO ' || quote_ident(current_user) || ' as its owner'
FROM pg_largeobject_metadata
WHERE current_setting('lo_compat_privileges') = 'off' AND NOT pg_has_role(lomowner, 'USAGE')
  AND NOT EXISTS (SELECT FROM aclexplode(lomacl) WHERE privilege_type = 'SELECT'
                  AND (grantee = 0 OR pg_has_role(grantee, 'USAGE')))
  AND NOT (current_setting('server_version_num')::int >= 180000 AND EXISTS (
    SELECT FROM pg_roles WHERE rolname = 'pg_read_all_data' AND pg_has_role(oid, 'USAGE')))
ORDER BY 2
"""


def require_readable(connection: Connection[Any], database: str) -> None:
    """`database_unreadable` names every table that a backup by this login would miss, and the remedy."""
    found = connection.execute(_UNREADABLE).fetchall()
    if not found:
        return
    named = [f"{kind} {name} ({why})" for kind, name, why in found[:_MOST_NAMED]]
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    role = connection.info.user
    raise TaskError(
        "database_unreadable",
        f"{role} may not read all of {database}: {', '.join(named)}{more}. Nothing was backed up. Let an administrator "
        "run: CREATE ROLE backup LOGIN BYPASSRLS PASSWORD '…'; GRANT pg_read_all_data TO backup; then write "
        "runbook:backup.ownLogin: true and run `pulumi config set --secret secrets:BACKUP_DATABASE_URL` "
        "(outside the cluster: BACKUP_DATABASE_URL) with that login's URL",
    )
