"""Results below `pages/` in the store of backups, an object for each check.

{"at": "2026-11-30T02:50:41+00:00", "release": {"revision": "7", "git": "3c3b39f…", "image": "…@sha256:…"},
 "pages": [{"path": "/shop", "result": "over budget", "values": {"score": 61, "lcp": 4100, …}, "limits": {…},
            "over": ["score", "lcp"], "worst": "Largest Contentful Paint; most to gain: …", "benchmark": 1460},
           {"path": "/", "result": "not measured", "why": "…"}]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from math import isfinite
from typing import Any

from tasks.errors import TaskError
from tasks.progress import say
from tasks.store import Missing, Store

FOLDER = "pages/"
KEPT, OVER_BUDGET, BUSY, NOT_MEASURED = RESULTS = ("kept", "over budget", "busy", "not measured")
"""Of a page. `busy`: it missed a limit, on a machine that was too busy for this to be believed."""
DECIDED = (KEPT, OVER_BUDGET)
"""Results that say something of the page."""
_METRICS = ("score", "lcp", "tbt", "cls", "bundleKb")
_READERS = 8
_MOST_BYTES = 1 << 20
_MOST_TEXT = 300
Check = dict[str, Any]


_INVALID = (ValueError, TypeError, KeyError, AttributeError)


def parse_pages(data: bytes) -> list[dict[str, Any]]:
    """What the container with the browser wrote. It ran the pages' scripts, so nothing of it is trusted: only known
    fields of the right type are taken."""
    try:
        if len(data) > _MOST_BYTES:
            raise ValueError(f"more than {_MOST_BYTES} bytes")
        return _parse_all(json.loads(data))
    except _INVALID as error:
        raise TaskError("result_invalid", f"the measuring container wrote no results: {error!r}"[:_MOST_TEXT]) from None


def _parse_all(pages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return list({page["path"]: page for page in map(_parse_page, pages)}.values())


def _parse_page(page: Mapping[str, Any]) -> dict[str, Any]:
    path, result = str(page["path"])[:_MOST_TEXT], page["result"]
    if result not in RESULTS:
        raise ValueError(f"{result!r} is no result")
    if result == NOT_MEASURED:
        return {"path": path, "result": result, "why": str(page["why"])[:_MOST_TEXT]}
    limits = {name: _parse_number(page["limits"][name]) for name in _METRICS if name in page["limits"]}
    return {
        "path": path,
        "result": result,
        "values": {name: _parse_number(page["values"][name]) for name in _METRICS},
        "limits": limits,
        "over": [name for name in limits if name in page["over"]],
        "worst": str(page["worst"])[:_MOST_TEXT],
        "benchmark": _parse_number(page["benchmark"]),
    }


def _parse_number(value: Any) -> float:
    number = float(value)
    if not isfinite(number):
        raise ValueError(f"{number} is no measure")
    return number


def keep(store: Store, check: Check) -> str:
    """Write it; its key."""
    key = f"{FOLDER}{name_check(datetime.fromisoformat(check['at']))}.json"
    store.put(key, json.dumps(check).encode(), new=True, keep=False)
    return key


def name_check(at: datetime) -> str:
    """Names sort as their times do."""
    return f"{at:%Y%m%dT%H%M%S}.{at.microsecond // 1000:03}Z"


def clean_up(store: Store, now: datetime, days: int) -> int:
    """Delete what is older; how many checks that were."""
    oldest = name_check(now - timedelta(days=days))
    old = [key for key in list_keys(store) if key.removeprefix(FOLDER) < oldest]
    store.delete(old)
    return len(old)


def list_keys(store: Store) -> list[str]:
    """Of all checks, the newest first."""
    return sorted((entry.key for entry in store.entries(FOLDER)), reverse=True)


def read(store: Store, key: str) -> Check | None:
    """None for what is no result, or was deleted since it was listed."""
    try:
        found = json.loads(store.get(key))
        at, release = datetime.fromisoformat(found["at"]), found["release"]
        return {
            "at": at.isoformat(),
            "release": {name: str(release[name]) for name in ("revision", "git", "image")},
            "pages": _parse_all(found["pages"]),
        }
    except Missing:
        return None
    except _INVALID:
        say(f"warning: {store.url}/{key} is no result of a page check")
        return None


def read_since(store: Store, since: datetime) -> Sequence[Check]:
    """The oldest first."""
    first = name_check(since)
    keys = [key for key in reversed(list_keys(store)) if key.removeprefix(FOLDER) >= first]
    with ThreadPoolExecutor(_READERS) as pool:
        return [check for check in pool.map(lambda key: read(store, key), keys) if check]
