"""The status page for customers (HerbisVeritas "Incident Response": `incident:status-page-update`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from settings.base import Finding, Settings
from settings.containers import resources
from settings.platform import Egress, Ingress, Network
from settings.problems import Problem

STATUS_PAGE = "runbook:statusPage"
NAME = "status-page"
"""Deployment, Service and Ingress of the page."""
PUBLISHED, PUBLISHED_KEY = "status-page-published", "status.json"
"""ConfigMap that `runbook` and the rollback controller write, and its key. No update of the stack changes it."""
RESOURCES = resources("10m", "48Mi", "8Mi", limits=("500m", "96Mi", "32Mi"))
"""Of each pod that serves the page."""
Text = Annotated[str, Field(min_length=1, max_length=500)]
TEMPLATES = {
    "investigating": "We are looking into it.",
    "identified": "We have found the cause and are working on a solution.",
    "monitoring": "It works again. We keep watching it.",
    "resolved": "This is resolved.",
    "reverted": "A change caused errors. We are taking it back.",
    "restricted": "Some functions are closed for a while, as a precaution.",
    "maintenance": "We are working on the shop. It is closed meanwhile.",
    "finished": "The maintenance is over.",
}
"""Texts by name. The last four are those of an automatic rollback, of a lockdown, and of maintenance mode."""


class StatusComponent(Settings):
    """One line of the page."""

    name: Annotated[str, Field(min_length=1, max_length=60, examples=["Checkout"])]
    """What customers call it."""
    depends_on: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...], Field(examples=[["backend", "postgres"]])
    ] = ()
    """What it needs, by names that `runbook incident start --affects` takes: a service, the database, a provider of
    payments. Customers are not shown them."""


class StatusBucket(Settings):
    """A bucket, served as static website somewhere else, with a copy of the page."""

    url: Annotated[str, Field(pattern=r"^s3://[^/?]+", examples=["s3://status.example.com?region=eu-west-3"])]
    """Its address, with the parameters of a state's backend. People who run `runbook` have keys that may write it."""
    egress: tuple[Egress, ...] = ()
    """Where it is, for the network policy of the rollback controller, which writes it with the state's keys."""


class StatusPage(Settings):
    """A page with the state of what customers use. Pods of its own serve it: the shop and its database may be down."""

    ingress: Ingress
    """Its own host, class and certificate."""
    title: Annotated[str, Field(min_length=1, max_length=80, examples=["Example Shop"])]
    """Name of the shop, as customers know it."""
    components: Annotated[tuple[StatusComponent, ...], Field(min_length=1, examples=[[{"name": "Shop"}]])]
    """What the page lists, in this order."""
    templates: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z][a-z-]*$")], Text],
        Field(examples=[{"identified": "The provider of payments has a fault."}]),
    ] = {}
    """Texts for `runbook incident status-page --template`, beside and in place of the built-in ones: `investigating`,
    `identified`, `monitoring`, `resolved`, `reverted` (automatic rollback), `restricted` (lockdown),
    `maintenance` and `finished` (maintenance mode)."""
    bucket: StatusBucket | None = None
    """A copy of the page outside the cluster. Without it, the page is served by the cluster only."""

    def _findings(self) -> list[Finding]:
        counts = Counter(one.name for one in self.components)
        return [
            Finding(("components", place, "name"), "two components have this name: rename one")
            for place, one in enumerate(self.components)
            if counts[one.name] > 1
        ]

    def text(self, template: str) -> str | None:
        """The text of a template; None where there is no such one."""
        return {**TEMPLATES, **self.templates}.get(template)

    @property
    def affectable(self) -> tuple[str, ...]:
        """What an incident can affect: components, and what they depend on."""
        names = [name for one in self.components for name in (one.name, *one.depends_on)]
        return tuple(dict.fromkeys(names))

    def affected(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Components that one of these affects; without any, all of them."""
        if not names:
            return tuple(one.name for one in self.components)
        return tuple(one.name for one in self.components if {one.name, *one.depends_on} & set(names))

    def to_task(self) -> dict[str, object]:
        """What the pods know of it."""
        return {
            "title": self.title,
            "url": self.ingress.url,
            "components": [one.name for one in self.components],
        }


def find_faults_of_status_page(
    status_page: StatusPage | None, ingress: Ingress | None, network: Network
) -> Iterator[Problem]:
    """It has a host of its own, and the ingress controller reaches it."""
    if status_page is None:
        return
    if network.ingress_controller is None:
        why = "is missing: without it, the network policies would close the status page to the ingress"
        write = {"namespace": "ingress-nginx", "podLabels": {"app.kubernetes.io/name": "ingress-nginx"}}
        yield Problem(("runbook:network", "ingressController"), why, None, write)
    host = status_page.ingress.host
    if ingress and ingress.host == host:
        why = "is the shop's host, which leads to the shop: give the page a host of its own"
        yield Problem((STATUS_PAGE, "ingress", "host"), why, host, f"status.{host}")
