"""The list of image digests that a deploy refuses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ops.errors import Refused
from ops.stack.history import QUARANTINE
from settings import Quarantined


def find_quarantined(digest: str, quarantine: Iterable[Quarantined]) -> Quarantined | None:
    return next((item for item in quarantine if item.digest == digest), None)


def with_quarantined(quarantine: Sequence[Quarantined], item: Quarantined) -> tuple[Quarantined, ...]:
    """The list with this digest on it once, the latest reason last."""
    return (*(other for other in quarantine if other.digest != item.digest), item)


def without_quarantined(quarantine: Sequence[Quarantined], digest: str) -> tuple[Quarantined, ...]:
    """The list without the one digest that starts with these characters."""
    wanted = digest if digest.startswith("sha256:") else f"sha256:{digest}"
    found = [item for item in quarantine if item.digest.startswith(wanted)]
    if len(found) != 1:
        listed = "\n".join(f"  {item.digest}  {item.reason}" for item in quarantine) or "  (none)"
        what = "no quarantined digest starts" if not found else "more than one quarantined digest starts"
        raise Refused(f"{what} with {digest}. Quarantined are:\n{listed}")
    return tuple(item for item in quarantine if item is not found[0])


def quarantine_change(quarantine: Sequence[Quarantined]) -> dict[str, Any]:
    return {QUARANTINE: [item.to_config() for item in quarantine] or None}
