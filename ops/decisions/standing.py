"""What stands in a stack: the last update. A decision is valid as long as it stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ops.stack.history import Entry
from settings.lockdown import LOCKDOWN
from settings.maintenance import MAINTENANCE


@dataclass(frozen=True)
class Standing:
    """The last update with a release, as far as decisions depend on it; all None before the first."""

    revision: int | None
    action: str | None
    result: str | None
    began: datetime | None
    lockdown: Any
    maintenance: Any
    who: str = ""

    @classmethod
    def of(cls, newest: Entry | None) -> Standing:
        if newest is None:
            return cls(None, None, None, None, None, None)
        config = newest.config
        return cls(
            newest.revision, newest.action, newest.result, newest.started, config.get(LOCKDOWN),
            config.get(MAINTENANCE), newest.who,
        )  # fmt: skip


def describe_change(judged: Standing, now: Standing) -> str | None:
    """What was changed between the two, for a message; None when the same stands."""
    if now == judged:
        return None
    who = f" (by {now.who})" if now.who else ""
    if now.revision != judged.revision:
        return f"Revision {now.revision} was released{who}"
    if now.lockdown != judged.lockdown:
        return f"The lockdown was {'begun or changed' if now.lockdown else 'ended'}{who}"
    if now.maintenance != judged.maintenance:
        return f"Maintenance mode was turned {'on' if now.maintenance else 'off'}{who}"
    return f"Another update ran{who}: {now.action}, {now.result}"
