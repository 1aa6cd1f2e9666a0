"""Who encrypts a stack's secrets: a passphrase or a key service, and the way from one to the other."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from ops.commands.update import LockPolicy, require_unlocked
from ops.errors import Refused
from ops.stack import stack_file
from ops.stack.locks import exclusive
from ops.stack.session import Session
from ops.stack.stack_file import StackText

PROVIDERS = ("passphrase", "awskms://", "azurekeyvault://", "gcpkms://", "hashivault://")


def change_provider(session: Session, provider: str, passphrase: str | None, policy: LockPolicy) -> dict[str, Any]:
    """Encrypt the stack's configuration and state by another provider, or by another passphrase.

    The values stay the same; what was encrypted before can still be read by the old key, so values whose key leaked
    are rotated as well.
    """
    if not provider.startswith(PROVIDERS):
        raise Refused(f"{provider} is no secrets provider: give one of {', '.join(PROVIDERS)}. Nothing was changed.")
    if (provider == "passphrase") != (passphrase is not None):
        raise ValueError("a passphrase goes with the provider of that name, and with no other")
    with exclusive(session.file, "secrets provider"):
        require_unlocked(session, policy)
        # The engine writes the Pulumi.<stack>.yaml beside the Pulumi.yaml, whatever file the stack is really kept in.
        with tempfile.TemporaryDirectory(prefix="runbook-") as name:
            scratch = Path(name)
            shutil.copyfile(session.reader.folder / "Pulumi.yaml", scratch / "Pulumi.yaml")
            copy = scratch / f"Pulumi.{session.stack.rsplit('/', 1)[-1]}.yaml"
            copy.write_text(stack_file.read(session.file).text)
            typed = f"{passphrase}\n{passphrase}\n" if passphrase else ""
            words = ("stack", "change-secrets-provider", provider, "--stack", session.stack, "--cwd", name)
            session.reader.run(*words, stdin=typed, config_file=False, interactive=bool(passphrase))
            StackText(session.file, copy.read_text()).save()
    return {"result": "succeeded", "provider": provider, "seconds": round(session.seconds, 1), "url": None}
