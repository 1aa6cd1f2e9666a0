"""One line of the checklist: steps in order, up to the first that fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg
from redis import RedisError

from tasks.connection_url import passwords
from tasks.environment import Environment
from tasks.errors import TaskError, without
from tasks.reach import NotThere, connect, reach

_LONGEST = 300
_FAULTS = (OSError, httpx.HTTPError, httpx.InvalidURL, psycopg.Error, RedisError, TaskError, ValueError)
"""What servers and networks do wrong; smtplib's and ssl's errors are OSErrors. Anything else is our own defect."""
_PLACEHOLDER = re.compile(
    r"change[-_ ]?me|replace[-_ ]?me|placeholder|to[-_ ]?do|tbd|x{3,}|your[-_ ].*|<.*>|\$\{.*\}|\.{3}"
    r"|none|null|undefined",
    re.IGNORECASE,
)
_LOOKS_SECRET = re.compile(r"SECRET|PASS(WORD|WD|$)|_PW$|TOKEN|KEY|DSN$|CREDENTIAL", re.IGNORECASE)


class Ended(Exception):
    """A step failed: those after it would only repeat that."""


@dataclass
class Line:
    """What was tried for one line, and what came back. No value of a secret variable is kept."""

    environment: Environment
    steps: list[dict[str, Any]] = field(default_factory=list)

    def step(self, name: str, work: Callable[[], str]) -> None:
        try:
            found, passed = work(), True
        except _FAULTS as error:
            found, passed = f"{error}" or type(error).__name__, False
        text = without(secret_values(self.environment), " ".join(found.split()))[:_LONGEST]
        self.steps.append({"step": name, "passed": passed, "found": text})
        if not passed:
            raise Ended

    def variables(self, names: Sequence[str]) -> None:
        """All of these are set, and none to what an example has in its place."""
        if names:
            self.step("variables", lambda: require_variables(self.environment, names))

    def connect(self, host: str, port: int) -> None:
        self.step("connect", lambda: connect(host, port))

    def request(self, name: str, url: str, work: Callable[[], str]) -> None:
        """A step that sends an HTTP request to this URL."""

        def when_reached() -> str:
            reach(url)
            return work()

        self.step(name, when_reached)


def require_variables(environment: Environment, names: Sequence[str]) -> str:
    unset = [name for name in names if environment.text(name) is None]
    fake = [name for name in names if (text := environment.text(name)) and _PLACEHOLDER.fullmatch(text)]
    if unset or fake:
        raise NotThere(
            "; ".join(
                f"{', '.join(some)} {why}" for some, why in ((unset, "not set"), (fake, "set to a placeholder")) if some
            )
        )
    return f"{', '.join(names)} set"


def secret_values(environment: Environment) -> set[str]:
    """Everything in the application's environment that no report may show."""
    return {value for value in _secrets(environment) if len(value) > 3}


def _secrets(environment: Environment) -> Iterator[str]:
    for name, value in environment.values.items():
        if "://" in value:
            yield from passwords(value)
        if _LOOKS_SECRET.search(name):
            yield from (value, value.strip())
