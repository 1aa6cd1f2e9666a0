"""A real Prometheus with a configuration of the tests."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from monitoring.prometheus import OPTIONS
from sandbox import packages
from tests.support.servers import free_ports, running


@contextmanager
def serve_prometheus(folder: Path, config: Mapping[str, Any]) -> Iterator[str]:
    """With the program's options, until the block ends; its URL. Its data is in `folder`, as are files of rules."""
    (port,) = free_ports(1)
    (folder / "prometheus.yaml").write_text(json.dumps(config))
    command = [
        packages.require("prometheus"),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        *OPTIONS,
    ]
    with running(command, "Server is ready"):
        yield f"http://127.0.0.1:{port}"


def query(url: str, expr: str) -> list[dict[str, Any]]:
    """The series of the answer, each with `metric` and `value`."""
    answer = httpx.get(f"{url}/api/v1/query", params={"query": expr}).raise_for_status()
    return answer.json()["data"]["result"]


def query_number(url: str, expr: str) -> float | None:
    """The value of the first series; None without one."""
    found = query(url, expr)
    return float(found[0]["value"][1]) if found else None


def await_answer(ask: Callable[[str], Any], expr: str, wanted: Any, seconds: float = 30) -> None:
    """On a busy machine a scrape is missed, and the series have no value for a moment."""
    deadline = time.monotonic() + seconds
    while (found := ask(expr)) != wanted:
        assert time.monotonic() < deadline, f"{expr} is {found}, not {wanted}"
        time.sleep(0.05)
