#!/bin/sh
# Probe: the server answers PONG to somebody who knows the password (while loading its data it answers an error).
REDISCLI_AUTH=$(cat "$REDIS_PASSWORD_FILE") || exit 1
export REDISCLI_AUTH
[ "$(redis-cli --no-auth-warning ping)" = PONG ]
