"""Client-side encryption with age: read access to the store is not enough to read the backups.

Every backup is encrypted to the recipients of its day. A rotation changes BACKUP_RECIPIENTS and adds the new
identity to the file of identities, where the old ones stay: old backups are readable without being rewritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyrage
from pyrage import x25519

from tasks.environment import Environment
from tasks.errors import Refused, TaskError
from tasks.store.base import Sink


class Source(Protocol):
    """Gives bytes as they are asked for."""

    def read(self, size: int = -1, /) -> bytes: ...


def recipients(environment: Environment) -> tuple[str, ...]:
    """The public keys to encrypt to; empty when backups are not encrypted."""
    found = environment.words("BACKUP_RECIPIENTS")
    for recipient in found:
        try:
            x25519.Recipient.from_str(recipient)
        except pyrage.RecipientError:
            hint = "is a secret key: it belongs in BACKUP_IDENTITIES_FILE" if "SECRET" in recipient.upper() else ""
            shown = hint or f"has {recipient!r}, which is no age recipient (age1…)"
            raise Refused("environment_invalid", f"BACKUP_RECIPIENTS {shown}") from None
    return found


def identities(environment: Environment) -> tuple[x25519.Identity, ...]:
    """The secret keys, from the file that BACKUP_IDENTITIES_FILE names; empty when it is not set."""
    name = environment.text("BACKUP_IDENTITIES_FILE")
    if name is None:
        return ()
    try:
        lines = Path(name).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Refused("identity_missing", f"BACKUP_IDENTITIES_FILE {name} cannot be read: {why}") from None
    found: list[x25519.Identity] = []
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("#"):
            try:
                found.append(x25519.Identity.from_str(line.strip()))
            except pyrage.IdentityError:
                raise Refused(
                    "identity_missing", f"{name} line {number} is no age identity (AGE-SECRET-KEY-1…)"
                ) from None
    return tuple(found)


def encrypt(source: Source, sink: Sink, to: Iterable[str]) -> None:
    """Everything from `source`, encrypted, into `sink`, a piece at a time."""
    ends: Any = _Ends(source, sink)  # read and write are all that pyrage asks for
    try:
        pyrage.encrypt_io(ends, ends, [x25519.Recipient.from_str(recipient) for recipient in to])
    except (pyrage.EncryptError, OSError) as error:
        raise ends.failure or TaskError("encryption_failed", f"age could not encrypt: {error}") from None


def decrypt(source: Source, sink: Sink, keys: Sequence[x25519.Identity], name: str) -> None:
    """The reverse. `identity_missing` if none of the keys fits `name`; `checksum_mismatch` if it was changed."""
    if not keys:
        raise Refused(
            "identity_missing", f"{name} is encrypted: set BACKUP_IDENTITIES_FILE to a file with its age identity"
        )
    ends: Any = _Ends(source, sink)  # read and write are all that pyrage asks for
    try:
        pyrage.decrypt_io(ends, ends, list(keys))
    except (pyrage.DecryptError, OSError) as error:
        if ends.failure:
            raise ends.failure from None
        if "No matching keys" in str(error):
            raise Refused(
                "identity_missing",
                f"none of the {len(keys)} identities in BACKUP_IDENTITIES_FILE decrypts {name}; add its own",
            ) from None
        raise TaskError("checksum_mismatch", f"{name} cannot be decrypted, it is damaged: {error}") from None


class _Ends:
    """Both ends of the pipe; keeps the exceptions they raise, of which age would report only the text."""

    def __init__(self, source: Source, sink: Sink) -> None:
        self._source, self._sink = source, sink
        self.failure: BaseException | None = None

    def read(self, size: int = -1, /) -> bytes:
        return self._kept(self._source.read, size)

    def write(self, data: bytes, /) -> int:
        return self._kept(self._sink.write, data)

    def flush(self) -> None:
        """Asked for at the end; the sink is finished by who opened it."""

    def _kept(self, do: Any, argument: Any) -> Any:
        try:
            return do(argument)
        except BaseException as error:
            self.failure = error
            raise
