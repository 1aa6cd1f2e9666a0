#!/bin/sh
# Probe: the server answers PONG (while loading its data it answers an error) to a user who may do nothing else, so that
# it stays well while passwords change.
[ "$(REDISCLI_AUTH='' redis-cli --user health ping)" = PONG ]
