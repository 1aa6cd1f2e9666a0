#!/bin/sh
# Initialise the data folder once, then become the server. Arguments go to the server (e.g. -c max_connections=50).
set -eu

fail() {
    echo "postgres: $1" >&2
    exit 64
}

[ -z "${POSTGRES_PASSWORD:-}" ] ||
    fail "POSTGRES_PASSWORD is set; passwords are read from a file only. Mount it and set POSTGRES_PASSWORD_FILE."

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    [ -n "${POSTGRES_PASSWORD_FILE:-}" ] || fail "$PGDATA is empty and POSTGRES_PASSWORD_FILE is not set."
    [ -s "$POSTGRES_PASSWORD_FILE" ] || fail "POSTGRES_PASSWORD_FILE=$POSTGRES_PASSWORD_FILE is missing or empty."
    user=${POSTGRES_USER:-postgres}
    database=${POSTGRES_DB:-$user}

    # Built beside its final name: an initialisation that was killed is started again, never taken for a finished one.
    fresh=$PGDATA.new
    rm -rf "$fresh"
    # Over TCP everybody proves the password. The socket is inside the pod, where only this user runs, which owns the files.
    initdb --pgdata="$fresh" --username="$user" --pwfile="$POSTGRES_PASSWORD_FILE" --encoding=UTF8 --locale=C.UTF-8 \
        --auth-host=scram-sha-256 --auth-local=trust --data-checksums
    echo 'host all all all scram-sha-256' >> "$fresh/pg_hba.conf"
    if [ "$database" != postgres ]; then
        quoted=$(printf '%s' "$database" | sed 's/"/""/g')
        echo "CREATE DATABASE \"$quoted\"" | postgres --single -j -D "$fresh" postgres
    fi
    sync
    mv "$fresh" "$PGDATA"
fi

# Kubernetes opens a volume to the pod's fsGroup each time it mounts it; PostgreSQL does not start on an open folder.
chmod 0700 "$PGDATA"

exec postgres -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql "$@"
