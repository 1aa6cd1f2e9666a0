"""`python -m tasks pages …`: `measure` in the image with the browser, and `keep` after it in the project's own.

LIGHTHOUSE is what `python -m tasks lighthouse` takes, with `target` at each route and `allSeconds`. PAGES_FILE is the
file between the two. Only `keep` can write to the store: pages run their scripts beside `measure`.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tasks.environment import Environment
from tasks.errors import TaskError
from tasks.pages import results
from tasks.progress import say
from tasks.result import Result
from tasks.store import open_store

_FILE = "/box/pages.json"
_MOST_PRINTED = 4 * 2**20
"""Bytes: the node rotates the log of a container, usually at 10 MiB."""


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(metavar="verb", required=True)

    verb = verbs.add_parser("measure", help="measure every page once, and write PAGES_FILE")
    verb.set_defaults(run=_measure)

    verb = verbs.add_parser("keep", help="take PAGES_FILE into the store, and delete what is older than PAGES_DAYS")
    verb.set_defaults(run=_keep)

    verb = verbs.add_parser("history", help="the results that were kept, the oldest first")
    verb.add_argument("--seconds", type=int, required=True, metavar="N", help="of this time until now")
    verb.set_defaults(run=_history)


def _measure(_arguments: argparse.Namespace, environment: Environment) -> Result:
    from tasks.pages.measure import measure_pages

    file = Path(environment.required("PAGES_FILE", _FILE))
    asked = json.loads(environment.required("LIGHTHOUSE", '{"routes": [{"path": "/", "target": "http://…", …}], …}'))
    found = list(measure_pages(asked, environment))
    file.write_text(json.dumps(found))
    return Result(found, _summarize(found))


def _keep(_arguments: argparse.Namespace, environment: Environment) -> Result:
    file = Path(environment.required("PAGES_FILE", _FILE))
    days = environment.integer("PAGES_DAYS", least=1) or environment.refuse("PAGES_DAYS", "a number of days")
    try:
        pages = results.parse_pages(file.read_bytes())
    except OSError as error:
        raise TaskError("result_missing", f"{file} cannot be read: {error.strerror}") from None
    store, now = open_store(environment), datetime.now(UTC)
    release = {name: environment.text(f"RELEASE_{name.upper()}") or "" for name in ("revision", "git", "image")}
    key = results.keep(store, {"at": now.isoformat(), "release": release, "pages": pages})
    deleted = results.clean_up(store, now, days)
    return Result({"key": key, "deleted": deleted}, f"{_summarize(pages)}: {key}")


def _history(arguments: argparse.Namespace, environment: Environment) -> Result:
    since = datetime.now(UTC) - timedelta(seconds=arguments.seconds)
    found = results.read_since(open_store(environment), since)
    while len(json.dumps(found)) > _MOST_PRINTED:
        say(f"the oldest {len(found) // 4 + 1} checks are left out: ask for a shorter time")
        found = found[len(found) // 4 + 1 :]
    return Result(found, f"{len(found)} checks")


def _summarize(pages: list[dict[str, object]]) -> str:
    return ", ".join(f"{page['path']} {page['result']}" for page in pages)
