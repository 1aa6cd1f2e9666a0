#!/usr/bin/env bash
# Prepares a job of a pipeline: the program's Python packages, the engine and its plugins, and what it logs in with.
# Usage: ci/set-up.sh [--program-only]
#
# Reads from the environment, each of them optional:
#   KUBECONFIG_CONTENT   a kubeconfig; becomes a file that only this user can read
#   EKS_CLUSTER          instead of it: the name of an EKS cluster, with credentials of AWS in the environment
#   REGISTRY, REGISTRY_USER, REGISTRY_PASSWORD   the registry from which a deploy reads an image's labels
# On GitHub later steps get PATH, KUBECONFIG and DOCKER_CONFIG; elsewhere: . "$RUNBOOK_ENV" (default .ci-env).
set -euo pipefail
umask 077
private=$(mktemp -d "${RUNNER_TEMP:-/tmp}/runbook.XXXXXX")

python3 -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.txt
.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .

keep() { # NAME VALUE: for the steps that follow
    if [ -n "${GITHUB_ENV:-}" ]; then
        echo "$1=$2" >> "$GITHUB_ENV"
    else
        printf 'export %s=%q\n' "$1" "$2" >> "${RUNBOOK_ENV:-.ci-env}"
    fi
    export "$1=$2"
}

# The engine of the version that the Python package has, by Automation API's own installer.
engine=$(command -v pulumi || true)
wanted=$(.venv/bin/python -c 'import importlib.metadata; print(importlib.metadata.version("pulumi"))')
path="$PWD/.venv/bin:$PATH"
if [ -z "$engine" ] || [ "$("$engine" version)" != "v$wanted" ]; then
    home="${PULUMI_HOME:-$HOME/.pulumi}/versions/$wanted"
    .venv/bin/python -c 'import sys
from pulumi.automation import PulumiCommand
from semver import VersionInfo
PulumiCommand.install(root=sys.argv[1], version=VersionInfo.parse(sys.argv[2]))' "$home" "$wanted"
    path="$PWD/.venv/bin:$home/bin:$PATH"
fi
keep PATH "$path"
[ "${1:-}" != --program-only ] || exit 0
pulumi install --no-dependencies # the plugins

if [ -n "${KUBECONFIG_CONTENT:-}" ]; then
    printf '%s\n' "$KUBECONFIG_CONTENT" > "$private/kubeconfig"
    keep KUBECONFIG "$private/kubeconfig"
elif [ -n "${EKS_CLUSTER:-}" ]; then
    aws eks update-kubeconfig --name "$EKS_CLUSTER" --kubeconfig "$private/kubeconfig" > /dev/null
    keep KUBECONFIG "$private/kubeconfig"
fi
if [ -n "${REGISTRY:-}" ]; then
    mkdir "$private/docker"
    python3 -c 'import base64, json, os
login = os.environ["REGISTRY_USER"] + ":" + os.environ["REGISTRY_PASSWORD"]
print(json.dumps({"auths": {os.environ["REGISTRY"]: {"auth": base64.b64encode(login.encode()).decode()}}}))' \
        > "$private/docker/config.json"
    keep DOCKER_CONFIG "$private/docker"
fi
