"""Environment variables, read with a type. Each module asks for its own, so that a task needs only what it uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tasks.connection_url import passwords
from tasks.errors import Refused

_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD", "EVIDENCE_KEY", "STORE_TOKEN")
_ROTATING = ("ADMIN_URL", "ADMIN_URL_PREVIOUS", "NEW_URL", "OLD_URL", "MONITOR_URL")
_URLS = (
    *("DATABASE_URL", "RESTORE_DATABASE_URL", "BACKUP_DATABASE_URL", "DATABASE_ADMIN_URL", "DIRECT_URL"),
    *(f"ROTATE_{kind}_{which}" for kind in ("DATABASE", "REDIS") for which in _ROTATING),
)


@dataclass(frozen=True)
class Environment:
    """An empty variable counts as one that is not set: that is what a manifest's `value: ""` means."""

    values: Mapping[str, str]

    def text(self, name: str) -> str | None:
        return self.values.get(name, "").strip() or None

    def required(self, name: str, example: str) -> str:
        value = self.text(name)
        if value is None:
            raise Refused("environment_invalid", f"{name} is not set; write for example {name}={example}")
        return value

    def integer(self, name: str, *, least: int, code: str = "environment_invalid") -> int | None:
        """A whole number that is `least` or more; None when it is not set."""
        value = self.text(name)
        if value is None:
            return None
        try:
            number = int(value)
        except ValueError:
            number = least - 1
        if number < least:
            self.refuse(name, f"a whole number from {least} on", code=code)
        return number

    def fraction(self, name: str) -> float | None:
        """A number between 0 and 1; None when it is not set."""
        value = self.text(name)
        if value is None:
            return None
        try:
            number = float(value)
        except ValueError:
            number = 0
        if not 0 < number < 1:
            self.refuse(name, "a number between 0 and 1")
        return number

    def flag(self, name: str, *, default: bool = False) -> bool:
        value = (self.text(name) or str(default)).lower()
        if value not in ("true", "false"):
            self.refuse(name, "true or false")
        return value == "true"

    def words(self, name: str) -> tuple[str, ...]:
        return tuple((self.text(name) or "").split())

    def one_of(self, name: str, choices: tuple[str, ...]) -> str:
        """One of `choices`; the first when it is not set."""
        value = self.text(name) or choices[0]
        if value not in choices:
            self.refuse(name, " or ".join(choices))
        return value

    def refuse(self, name: str, expected: str, *, code: str = "environment_invalid") -> NoReturn:
        raise Refused(code, f"{name} is {self.text(name)!r}; it has to be {expected}")

    @property
    def scratch(self) -> Path:
        return Path(self.text("SCRATCH") or "/tmp")  # noqa: S108 - a pod's own; elsewhere SCRATCH says better

    @property
    def secrets(self) -> frozenset[str]:
        """Values to remove from output: passwords of the URLs (escaped and unescaped), keys."""
        found = {self.values.get(name, "") for name in _SECRETS}
        for name in _URLS:
            found |= set(passwords(self.values.get(name, "")))
        return frozenset(found - {""})
