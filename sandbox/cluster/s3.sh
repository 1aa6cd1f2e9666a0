#!/bin/bash
# Becomes the S3 server: s3.sh WEED CONFIGURATION ARGUMENTS…
#
# It puts sockets into /tmp, under names that another sandbox's server has too. So it gets a /tmp of its own, and
# reaches by other names what may lie in the machine's. Called inside `unshare --mount`.
set -euo pipefail
program=$1 configuration=$2
shift 2
mkdir -p /run/s3/tmp
touch /run/s3/weed /run/s3/configuration
mount --bind "$program" /run/s3/weed
mount --bind "$configuration" /run/s3/configuration
mount --bind /run/s3/tmp /tmp
exec /run/s3/weed "$@" -s3.config=/run/s3/configuration
