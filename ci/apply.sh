#!/usr/bin/env bash
# Updates a stack with its settings and the image that it runs. Usage: ci/apply.sh STACK [options of runbook deploy]
set -euo pipefail
stack=$1
shift
image=$(pulumi config get --path 'runbook:release.image' --stack "$stack" 2> /dev/null || true)
if [ -z "$image" ]; then
    echo "$stack has no release yet: runbook deploy IMAGE --stack $stack makes the first one."
    exit 0
fi
exec runbook deploy "$image" --stack "$stack" "$@"
