#!/bin/sh
# Become the server, with its password taken from a file, and with the users of another, if there is one: a line each,
# as Redis writes them (`user shop-a on #<SHA-256 of its password> ~* &* +@all`). Users made by ACL SETUSER are gone with
# the process, so whoever makes them writes them there too. Arguments go to the server (e.g. --maxmemory 64mb).
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

if [ -n "${REDIS_USERS_FILE:-}" ]; then
    [ -r "$REDIS_USERS_FILE" ] || fail "REDIS_USERS_FILE=$REDIS_USERS_FILE cannot be read."
    # A line of another kind would be any setting of the server; a password in clear would be in its memory and ACL LIST.
    awk -v file="$REDIS_USERS_FILE" '
        function refuse(why) { print "redis: REDIS_USERS_FILE=" file ", line " NR ": " why > "/dev/stderr"; exit 64 }
        NF == 0 || /^#/ { next }
        $1 != "user" || NF < 3 { refuse("not `user NAME RULES`") }
        $2 == "default" || $2 == "health" { refuse("user " $2 " is made by the image") }
        / (>|<|nopass)/ { refuse("give the password of user " $2 " as #<its SHA-256>") }
    ' "$REDIS_USERS_FILE" || exit 64
fi

# Only the password's SHA-256 enters the configuration, which is handed over on standard input and never lies on a disk.
hash=$(printf '%s' "$(cat "$REDIS_PASSWORD_FILE")" | sha256sum | cut -d ' ' -f 1)
exec redis-server - "$@" <<EOF
bind * -::*
appendonly yes
protected-mode no
user default on #$hash ~* &* +@all
user health on nopass resetkeys resetchannels -@all +ping
$(cat "${REDIS_USERS_FILE:-/dev/null}")
EOF
