"""Measures what a release needs: nodes, quotas and claims of the cluster, its clock, DNS and the certificate."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from ops.adapters.cluster import Cluster
from ops.adapters.host_names import find_address
from ops.adapters.server_clock import ServerClock
from ops.errors import NotMeasured, Refused

NODES = "/api/v1/nodes"
_SECONDS = 5
_PAGE = 500


def read_objects(cluster: Cluster, path: str, **query: str) -> list[dict[str, Any]]:
    """Every object of an API path, page by page."""
    found: list[dict[str, Any]] = []
    more = ""
    with cluster.http() as http:
        while True:
            answer = http.get(path, params={**query, "limit": str(_PAGE), **({"continue": more} if more else {})})
            if answer.status_code in (401, 403):
                raise NotMeasured(f"this identity may not list {path.rsplit('/', 1)[-1]}")
            if answer.is_error:
                raise NotMeasured(f"the API server answered {answer.status_code} for {path}", fails=True)
            page = answer.json()
            found += page["items"]
            if not (more := page.get("metadata", {}).get("continue") or ""):
                return found


def read_clock(cluster: Cluster) -> float:
    """Seconds that this machine's clock is ahead of the API server's."""
    try:
        with cluster.http() as http:
            clock = ServerClock.ask(http)
    except Refused:
        raise NotMeasured("the API server's answers have no date") from None
    return (datetime.now(UTC) - clock.now()).total_seconds()


def resolve_host(url: str) -> list[str]:
    """Addresses of the URL's host."""
    host = urlsplit(url).hostname or ""
    try:
        found = socket.getaddrinfo(find_address(host), None, proto=socket.IPPROTO_TCP)
        return sorted({str(item[4][0]) for item in found})
    except OSError as error:
        raise NotMeasured(f"{host} has no address: {error}", fails=True) from None


def read_certificate_end(url: str, context: ssl.SSLContext) -> datetime:
    """When the certificate at the URL ends; it has to be valid now, for this host, by an authority that is trusted."""
    parts = urlsplit(url)
    if parts.scheme != "https":
        raise NotMeasured(f"{url} has no TLS")
    host, port = parts.hostname or "", parts.port or 443
    try:
        with (
            socket.create_connection((find_address(host), port), timeout=_SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=host) as secure,
        ):
            found = secure.getpeercert() or {}
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", "") or error.reason or str(error)
        raise NotMeasured(f"{host}:{port}: {why}", fails=True) from None
    except OSError as error:
        raise NotMeasured(f"no answer at {host}:{port} from this machine: {error}") from None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(found["notAfter"])), UTC)
