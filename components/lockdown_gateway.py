"""HAProxy's configuration of the lockdown gate.

The configuration compares the clock: after `until` every request passes, even if no command has ended the lockdown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC

from settings import Lockdown

PROBE_PORT = 9000
FINISHING = 5
"""Seconds in which a gate finishes open requests after SIGTERM."""
ANSWER_SECONDS = 60
"""Seconds that a gate waits for an answer of a service, unless the ingress waits longer."""
ANY_ADDRESS = "[ ! -e /proc/net/if_inet6 ] || export GATE_ADDRESS=::"
"""Shell command before the gate: where the kernel has IPv6, it listens on the addresses of both families."""
_PAGE = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width"><title>Closed for a while</title></head>'
    "<body><h1>Closed for a while</h1><p>The shop is open again at {until} UTC.</p></body></html>"
)
_JSON = '{{"status":"lockdown","refused":"%[var(txn.refused)]","from":"%[var(txn.from)]","until":"{until}Z"}}'
_LINE = (
    '{"time":"%[date,utime(%Y-%m-%dT%H:%M:%SZ)]","refused":"%[var(txn.refused)]",'
    '"from":"%[var(txn.from)]","method":"%HM","path":"%[var(txn.path),json(utf8s)]"}'
)
"""The path without its query, which may contain a token."""


@dataclass(frozen=True)
class Route:
    """From a port of the gate to a service."""

    port: int
    service: str
    target: int

    @property
    def address(self) -> str:
        return f"{self.service}:{self.target}"


def render_haproxy_config(lockdown: Lockdown, routes: Sequence[Route], answer_seconds: int = ANSWER_SECONDS) -> str:
    """The configuration file. The reason is not in it: clients are not shown it."""
    until = lockdown.until.astimezone(UTC)
    end = int(until.timestamp())
    # The last address is the client that the ingress controller saw; clients or proxies sent those before it.
    hop = -1 - lockdown.trusted_proxies
    known = f"var(txn.from) -m ip {' '.join(lockdown.allow)}" if lockdown.allow else "always_false"
    answers = [
        _answer("text/html; charset=utf-8", _PAGE.format(until=f"{until:%Y-%m-%d %H:%M}"), " html"),
        _answer("application/json", _JSON.format(until=f"{until:%Y-%m-%dT%H:%M:%S}"), ""),
    ]
    lines = [
        "global",
        "    log stdout format raw local0",
        "    maxconn 1000",
        "    nbthread 2",
        f"    hard-stop-after {FINISHING}s",
        "",
        "defaults",
        "    mode http",
        "    log global",
        "    option dontlognull",
        # A new connection for each request: during a rollout an idle one may lead to a pod that is gone.
        "    option http-server-close",
        "    option redispatch",
        "    retries 3",
        "    timeout connect 2s",
        f"    timeout client {answer_seconds}s",
        f"    timeout server {answer_seconds}s",
        "    timeout http-request 10s",
        "",
        "frontend gate",
        *(_bind(route.port) for route in routes),
        f"    log-format '{_LINE}'",
        f"    acl over date ge {end}",
        f"    acl known {known}",
        *(f"    acl closed {_AS_READ} -m beg -i {path}" for path in lockdown.closed_paths),
        # Regular clients send no `.` or `..` segments.
        f"    acl closed {_AS_READ} -m reg (^|/)[.][.]?(/|$)",
        "    acl reads method GET HEAD OPTIONS",
        "    acl leaves-http req.hdr(upgrade) -m found",
        "    acl html req.hdr(accept) -m sub text/html",
        "    acl refused var(txn.refused) -m found",
        f"    http-request set-var(txn.from) req.hdr_ip(x-forwarded-for,{hop})",
        "    http-request set-var(txn.path) path",
        "    http-request set-var(txn.refused) str(source) if !over !known",
        "    http-request set-var(txn.refused) str(path) if !over !refused closed",
        "    http-request set-var(txn.refused) str(method) if !over !refused !reads",
        "    http-request set-var(txn.refused) str(method) if !over !refused leaves-http",
        f"    http-request set-var(txn.left) date,neg,add({end}) if refused",
        "    http-request set-log-level silent unless refused",
        *(f"    {answer}" for answer in answers),
        "    use_backend %[dst_port]",
        "",
        *(
            line
            for route in routes
            for line in (f"backend {route.port}", f"    server {route.service} {route.address} init-addr libc", "")
        ),
        # For the kubelet's probes: they do not depend on the lockdown or the services.
        "frontend probe",
        _bind(PROBE_PORT),
        "    no log",
        "    http-request return status 200 content-type text/plain string alive",
        "",
    ]
    return "\n".join(lines)


def _bind(port: int) -> str:
    return f'    bind "${{GATE_ADDRESS}}:{port}" v4v6'


_AS_READ = 'path,url_dec,regsub("/+","/",g)'
"""The path as a lenient application reads it."""


def _answer(kind: str, body: str, condition: str) -> str:
    return (
        f"http-request return status 503 content-type \"{kind}\" lf-string '{body}' "
        f'hdr Retry-After "%[var(txn.left)]" hdr Cache-Control no-store if refused{condition}'
    )
