"""Lockdown (HerbisVeritas "Emergency Commands": `security:lockdown`, `security:unlock`): who may still come in."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints

from settings.base import Finding, Refused, Settings
from settings.containers import resources

LOCKDOWN = "runbook:lockdown"
LONGEST = timedelta(days=7)
GATE = "lockdown"
"""Name of the gate's Deployment."""
GATE_PORT = 8080
"""Port of the gate for the first service with a port; the next ones follow."""
GATE_RESOURCES = resources("20m", "32Mi", "8Mi", limits=("500m", "128Mi", "32Mi"))
"""Of each pod of the gate."""


def _network(value: str) -> str:
    try:
        return str(ip_network(value, strict=False))
    except ValueError:
        why = "is no address and no network"
        raise Refused([Finding((), why, "203.0.113.0/24")]) from None


Network = Annotated[str, AfterValidator(_network), Field(examples=["203.0.113.0/24"])]
"""Addresses of clients; one address is a network of one."""
Proxies = Annotated[int, Field(ge=0, le=5)]
# Nothing that means something to the gate's configuration, and nothing that has to be decoded to be compared.
ClosedPath = Annotated[
    str, StringConstraints(pattern=r"^/[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*$"), Field(examples=["/admin"])
]


class Precautions(Settings):
    """Defaults of a lockdown."""

    allow: tuple[Network, ...] = ()
    """Clients that a lockdown lets in (the office, the VPN), besides those passed to `runbook security lockdown`.
    With none, every client is refused."""
    closed_paths: tuple[ClosedPath, ...] = ("/admin",)
    """Path prefixes that a lockdown closes for all clients."""
    lockdown_seconds: Annotated[int, Field(ge=60, le=int(LONGEST.total_seconds()))] = 3600
    """Seconds until a lockdown ends automatically, unless the command says how long."""
    lockdown_cooldown_seconds: Annotated[int, Field(ge=60, le=int(LONGEST.total_seconds()))] = 86_400
    """Seconds after an automatic lockdown in which no other begins automatically: people are called instead. Otherwise
    ten requests an hour would close the shop for good."""
    trusted_proxies: Proxies = 0
    """How many proxies of yours (a CDN) forward clients to the ingress controller, each appending the address it saw to
    `X-Forwarded-For`. Nothing else may reach the ingress controller: it could forge any address."""

    def lockdown(
        self,
        reason: str,
        now: datetime,
        *,
        seconds: int | None = None,
        allow: Iterable[str] = (),
        automatic: bool = False,
    ) -> Lockdown:
        """A lockdown from now on."""
        since = now.replace(microsecond=0)
        return Lockdown(
            reason=reason,
            since=since,
            until=since + timedelta(seconds=seconds or self.lockdown_seconds),
            allow=tuple(dict.fromkeys([*self.allow, *allow])),
            closed_paths=self.closed_paths,
            trusted_proxies=self.trusted_proxies,
            automatic=automatic,
        )


class Lockdown(Settings):
    """Only known clients come in, they read and do not write, and some paths are closed. While one that an operator
    began lasts, no CronJob starts."""

    reason: Annotated[str, Field(min_length=1, examples=["SQL injection from many addresses"])]
    """Why. For the team: clients are not shown it."""
    since: AwareDatetime
    """When it began."""
    until: AwareDatetime
    """When it ends automatically."""
    allow: tuple[Network, ...] = ()
    """Clients that are let in. With none, every client is refused."""
    closed_paths: tuple[ClosedPath, ...] = ()
    """Closed for them, too."""
    trusted_proxies: Proxies = 0
    """Proxies between clients and the ingress controller."""
    automatic: bool = False
    """Whether the rollback controller began it. Backups and restore tests continue then: an attacker who provokes a
    lockdown must not be able to stop them."""
    incident: str | None = None
    """The record of it in the cluster (a ConfigMap)."""

    def _findings(self) -> list[Finding]:
        if not timedelta() < self.until - self.since <= LONGEST:
            why = f"has to be after `since`, by at most {LONGEST.days} days"
            return [Finding(("until",), why, (self.since + timedelta(hours=1)).isoformat())]
        return []

    def starting(self, now: datetime) -> Lockdown:
        """The same lockdown, just as long, from now on."""
        since = now.replace(microsecond=0)
        return self.model_copy(update={"since": since, "until": since + (self.until - self.since)})

    def over(self, now: datetime) -> bool:
        """Whether its time is up: the gate lets everything pass, and suspended CronJobs still wait for `unlock`."""
        return now >= self.until

    @property
    def suspends(self) -> bool:
        """Whether backups and restore tests wait for its end."""
        return not self.automatic
