"""`runbook secrets provider`: change what encrypts a stack's secrets, a passphrase or a key service."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from ops.commands.update import LockPolicy, StackLock, require_unlocked
from ops.errors import Refused
from ops.stack import stack_file
from ops.stack.session import Session
from ops.stack.stack_file import StackText

PROVIDERS = ("passphrase", "awskms://", "azurekeyvault://", "gcpkms://", "hashivault://")


def change_provider(session: Session, provider: str, passphrase: str | None, policy: LockPolicy) -> dict[str, Any]:
    """Encrypt the stack's configuration and state by another provider, or by another passphrase.

    The values stay the same, and earlier ciphertext can still be read with the old key: rotate values whose key leaked.
    """
    if not provider.startswith(PROVIDERS):
        raise Refused(f"{provider} is no secrets provider: give one of {', '.join(PROVIDERS)}. Nothing was changed.")
    if (provider == "passphrase") != (passphrase is not None):
        raise ValueError("a passphrase is for the provider passphrase only")
    with StackLock(session, "secrets provider", policy):
        require_unlocked(session, policy)
        # The engine writes Pulumi.<stack>.yaml beside Pulumi.yaml, also when the stack file is elsewhere.
        with tempfile.TemporaryDirectory(prefix="runbook-") as name:
            scratch = Path(name)
            shutil.copyfile(session.reader.folder / "Pulumi.yaml", scratch / "Pulumi.yaml")
            copy = scratch / f"Pulumi.{session.stack.rsplit('/', 1)[-1]}.yaml"
            copy.write_text(stack_file.read(session.file).text)
            answers = f"{passphrase}\n{passphrase}\n" if passphrase else ""
            words = ("stack", "change-secrets-provider", provider, "--stack", session.stack, "--cwd", name)
            session.reader.run(*words, stdin=answers, config_file=False, interactive=bool(passphrase))
            StackText(session.file, copy.read_text()).save()
    return {"result": "succeeded", "provider": provider, "seconds": round(session.seconds, 1), "url": None}
