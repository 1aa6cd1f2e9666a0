"""What rotation asks of a server that has roles (PostgreSQL) or users (Redis); both are called roles here."""

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
    """Where the URL is from: what messages name instead of it."""


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
    """Everything but `accepts` and `prove` is done as the admin, and is right to do again."""

    def accepts(self, account: Account) -> bool:
        """Whether it lets the account in. An error when it does not say."""
        ...

    def prove(self, account: Account) -> None:
        """Do with the account what the application does, and leave nothing of it; an error if that is not possible."""
        ...

    def admit(self, account: Account) -> None:
        """Allow the role to log in, with this password alone and the rights of the application."""
        ...

    def refuse_logins(self, role: str) -> None:
        """Refuse new logins of this role. Its sessions stay."""
        ...

    def set_admin_password(self, admin: Account) -> None: ...

    def uses(self, role: str | None = None) -> list[Use]:
        """Everybody's sessions, or one role's, without the one that asks."""
        ...

    def end_sessions(self, role: str) -> int:
        """End all sessions of a role but the one that asks; how many there were."""
        ...

    def close(self) -> None:
        """End the admin's own session, if there is one."""
        ...

    def sessions(self) -> list[dict[str, Any]]:
        """Everybody's sessions, as JSON has them."""
        ...
