#!/bin/sh
# Become the server, with its password taken from a file. Arguments go to the server (e.g. --maxmemory 64mb).
set -eu

fail() {
    echo "redis: $1" >&2
    exit 64
}

[ -z "${REDIS_PASSWORD:-}" ] ||
    fail "REDIS_PASSWORD is set; passwords are read from a file only. Mount it and set REDIS_PASSWORD_FILE."
for argument in "$@"; do
    case $argument in
    *requirepass* | *masterauth*) fail "a password on the command line is readable by everybody: use REDIS_PASSWORD_FILE." ;;
    esac
done
[ -n "${REDIS_PASSWORD_FILE:-}" ] || fail "REDIS_PASSWORD_FILE is not set."
[ -s "$REDIS_PASSWORD_FILE" ] || fail "REDIS_PASSWORD_FILE=$REDIS_PASSWORD_FILE is missing or empty."

# Only the password's SHA-256 enters the configuration, which is handed over on standard input and never lies on a disk.
hash=$(printf '%s' "$(cat "$REDIS_PASSWORD_FILE")" | sha256sum | cut -d ' ' -f 1)
exec redis-server - "$@" <<EOF
bind * -::*
dir /data
appendonly yes
protected-mode no
user default on #$hash ~* &* +@all
EOF
