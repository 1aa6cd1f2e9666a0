"""How a bundled Redis starts, in any image that has `redis-server`, `redis-cli` and a shell: the official ones too."""

from __future__ import annotations

START = r"""set -eu
for file in "$REDIS_PASSWORD_FILE" "$REDIS_USERS_FILE"; do
    [ -s "$file" ] || { echo "redis: $file is missing or empty" >&2; exit 64; }
done
hash=$(printf '%s' "$(cat "$REDIS_PASSWORD_FILE")" | sha256sum | cut -d ' ' -f 1)
exec redis-server - "$@" <<EOF
bind * -::*
appendonly yes
protected-mode no
user default on #$hash ~* &* +@all
user health on nopass resetkeys resetchannels -@all +ping
$(cat "$REDIS_USERS_FILE")
EOF
"""
"""Only hashes of passwords enter the configuration, which is handed over on standard input and never is on a disk.
Users made by ACL SETUSER are gone with the process, so rotation writes them to the file too. Arguments go to the
server."""

HEALTHY = "[ \"$(REDISCLI_AUTH='' redis-cli --user health ping)\" = PONG ]"
"""The server answers PONG (while it loads its data, an error) to a user who may do nothing else, so that it stays ready
while passwords change."""


def start_command(*arguments: str) -> list[str]:
    """The command line of the server's container."""
    return ["sh", "-c", START, "redis", *arguments]
