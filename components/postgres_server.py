"""Where a bundled PostgreSQL has its data, in any image: the official ones too."""

from __future__ import annotations

POSTGRES_VOLUME = "/var/lib/postgresql/data"
PGDATA = f"{POSTGRES_VOLUME}/pgdata"
"""A folder of the volume: the root of a new file system is not empty (`lost+found`), and initdb refuses it."""
MOVE_TO_PGDATA = f"""set -eu
cd "${{1:-{POSTGRES_VOLUME}}}"
[ -s PG_VERSION ] || exit 0
[ -d pgdata ] || mkdir -m 0700 pgdata
for file in $(ls -A); do
    case $file in
    pgdata | lost+found | PG_VERSION) ;;
    *) mv "$file" pgdata/ ;;
    esac
done
mv PG_VERSION pgdata/
"""
"""Moves a database that an image initialised in the root of the volume. Its version goes last: a run that was killed is
run again."""
