"""Interface of a server with roles (PostgreSQL) or users (Redis); both are called roles here."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True)
class Account:
    """A role and its password, as a URL gives them."""

    role: str
    password: str = field(repr=False)
    url: str = field(repr=False)
    variable: str
    """The URL's variable, which messages name instead of the URL."""


@dataclass(frozen=True)
class Use:
    """Sessions of one role, from one program and address."""

    role: str
    application: str
    address: str
    count: int
    oldest_at: datetime

    def __str__(self) -> str:
        program = self.application or "unnamed program"
        return f"{self.count} of {self.role} by {program} from {self.address or 'the server itself'}"


class Server(Protocol):
    """Everything but `accepts` and `prove` runs as the admin and is idempotent."""

    def accepts(self, account: Account) -> bool:
        """Whether the account can log in. Raises when the server gives no answer."""
        ...

    def prove(self, account: Account) -> None:
        """Do with the account what the application does, and leave nothing of it; an error if that is not possible."""
        ...

    def admit(self, account: Account) -> None:
        """Allow the role to log in, with this password alone and the rights of the application."""
        ...

    def admit_monitor(self, account: Account) -> None:
        """Allow the role to log in, with this password alone, and to read statistics."""
        ...

    def refuse_logins(self, role: str) -> None:
        """Refuse new logins of this role. Its sessions stay."""
        ...

    def set_admin_password(self, admin: Account) -> None: ...

    def uses(self, role: str | None = None) -> list[Use]:
        """Sessions of all roles, or of one, without this connection's own."""
        ...

    def end_sessions(self, role: str) -> int:
        """End all sessions of a role except this connection's own; return their number."""
        ...

    def close(self) -> None:
        """End the admin's own session, if there is one."""
        ...

    def sessions(self) -> list[dict[str, Any]]:
        """Sessions of all roles, as JSON."""
        ...
