"""`.sandbox/env`: the shell variables with which plain `runbook`, `pulumi` and `kubectl` work here.

It contains the keys of the sandbox's S3 server: only its owner may read it.
"""

from __future__ import annotations

import os
import secrets
import shlex
import sys
from pathlib import Path

from sandbox import ui
from sandbox.cluster import Cluster
from sandbox.cluster.s3keys import REGION
from sandbox.paths import ENV_FILE, STATE
from sandbox.toolchain import Toolchain, install_plugins

STACK = "sandbox"
STACK_FILE = STATE / f"Pulumi.{STACK}.yaml"
PASSPHRASE = STATE / "passphrase"
PULUMI_HOME = STATE / "pulumi-home"
BACKEND = STATE / "backend"
"""The engine's state where the sandbox started no S3 server."""
STATE_BUCKET = "state"
"""The engine's state on the sandbox's S3 server, where pods reach it too."""


def variables(cluster: Cluster, toolchain: Toolchain) -> dict[str, str]:
    """What `env` sets, PATH as what comes before the caller's own."""
    return {
        "PATH": f"{Path(sys.executable).parent}:{toolchain.bin}",
        "KUBECONFIG": str(cluster.kubeconfig),
        "PULUMI_HOME": str(PULUMI_HOME),
        **_backend(cluster),
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(PASSPHRASE),
        # The engine reads PULUMI_OPTION_<FLAG> as that flag: the stack file is the sandbox's copy.
        "PULUMI_OPTION_CONFIG_FILE": str(STACK_FILE),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "RUNBOOK_STACK": STACK,
        **({"RUNBOOK_CA_FILE": str(cluster.ca)} if cluster.ca else {}),
    }


def _backend(cluster: Cluster) -> dict[str, str]:
    if cluster.s3 is None:
        return {"PULUMI_BACKEND_URL": f"file://{BACKEND}"}
    return {
        "RUNBOOK_S3": cluster.s3.url,
        "PULUMI_BACKEND_URL": f"s3://{STATE_BUCKET}?endpoint={cluster.s3.url}&region={REGION}&s3ForcePathStyle=true",
        "AWS_ACCESS_KEY_ID": cluster.s3.access_key,
        "AWS_SECRET_ACCESS_KEY": cluster.s3.secret_key,
    }


def write(cluster: Cluster, toolchain: Toolchain) -> dict[str, str]:
    """Write the file, make what it points to, and return the environment a child process gets from it."""
    if cluster.s3 and (BACKEND / ".pulumi" / "stacks" / "runbook" / f"{STACK}.json").exists():
        raise ui.SandboxError(
            f"an earlier version made this sandbox, with the engine's state in {BACKEND}; this one keeps it on S3. "
            "Recreate it, without its data: make down && make up"
        )
    for folder in (PULUMI_HOME, *([] if cluster.s3 else [BACKEND])):
        folder.mkdir(parents=True, exist_ok=True)
    if not PASSPHRASE.exists():
        PASSPHRASE.touch(mode=0o600)
        PASSPHRASE.write_text(secrets.token_urlsafe(32) + "\n")
    install_plugins(PULUMI_HOME, toolchain)
    values = variables(cluster, toolchain)
    lines = ["# The sandbox's environment, for a POSIX shell: . ./.sandbox/env"]
    for name, value in values.items():
        tail = ':"$PATH"' if name == "PATH" else ""
        lines.append(f"export {name}={shlex.quote(value)}{tail}")
    ENV_FILE.touch(mode=0o600)
    ENV_FILE.write_text("\n".join(lines) + "\n")
    return os.environ | values | {"PATH": f"{values['PATH']}:{os.environ.get('PATH', '')}"}
