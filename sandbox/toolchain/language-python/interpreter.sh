#!/bin/sh
# The python3 on PATH, which the host asks on every run for the installed packages, by pip:
# half a second of work, for an answer that the packages' metadata give in a fifth of it.
[ "$*" = "-m pip list -v --format json" ] && set -- "${0%/*}/pulumi-language-python-packages"
exec python3 "$@"
