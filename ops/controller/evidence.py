"""What the application says of itself: the health answer of each pod of its main service."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from ops.adapters.cluster import Cluster
from settings import StackSettings

_SECONDS = 5
"""A health answer waits for its own checks: often three seconds for each."""
_LONGEST = 1_000_000
"""Bytes of an answer."""
_MOST_PODS = 20


def read_health_answers(cluster: Cluster, settings: StackSettings) -> list[Any]:
    """The JSON of each pod that answers, of whatever status. Ready or not: the Service leads to ready pods only."""
    service = settings.application.main_service
    addresses = cluster.pod_addresses(service.name)[:_MOST_PODS]
    urls = [f"http://{address}:{service.port}{settings.health_path}" for address in addresses]
    if not urls:
        return []
    # As the ingress asks: some applications refuse other hosts, or plain HTTP.
    host = settings.application.host_header or (settings.ingress.host if settings.ingress else None)
    headers = {**({"Host": host} if host else {}), "X-Forwarded-Proto": "https"}
    with httpx.Client(timeout=_SECONDS, headers=headers) as client, ThreadPoolExecutor(len(urls)) as pool:
        answers = pool.map(lambda url: _read(client, url), urls)
        return [answer for answer in answers if answer is not None]


def _read(client: httpx.Client, url: str) -> Any:
    """None without a JSON answer in time and of usual size: a bad release must not keep the controller busy."""
    deadline, content = time.monotonic() + _SECONDS, b""
    try:
        with client.stream("GET", url) as answer:
            for part in answer.iter_bytes():
                content += part
                if len(content) > _LONGEST or time.monotonic() > deadline:
                    return None
        return json.loads(content)
    except (httpx.HTTPError, ValueError, RecursionError):
        return None
