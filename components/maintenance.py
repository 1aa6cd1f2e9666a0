"""Maintenance mode (HerbisVeritas "Emergency Commands"): a page with status 503 in the services' place."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.apps.v1 import Deployment
from pulumi_kubernetes.core.v1 import Service
from pulumi_kubernetes.meta.v1 import LabelSelectorArgsDict
from pulumi_kubernetes.networking.v1 import NetworkPolicy

from components.base.names import SKIP_AWAIT, labels, metadata, selector
from components.base.network_policies import peers
from components.base.pods import (
    APPLICATION_UID,
    OLD_REVISIONS,
    container,
    register_budget,
    register_service_account,
    spread,
    template,
)
from settings import Maintenance as MaintenanceSettings
from settings import NetworkPeer
from settings.maintenance import PAGE_RESOURCES

NAME = "maintenance"
_PORT, _PROBE_PORT = 8080, 8081


@dataclass(frozen=True, kw_only=True)
class MaintenanceArgs:
    """The maintenance page's text, and the ingress controller that requests it."""

    namespace: Input[str]
    """Where the page is served."""
    image: Input[str]
    """The project's own image."""
    maintenance: MaintenanceSettings
    """How long clients should wait (`Retry-After`)."""
    ingress_controller: NetworkPeer
    """The only client of the page."""


class Maintenance(pulumi.ComponentResource):
    """The page, to which the ingress can route. The services' pods do not change."""

    service_name: pulumi.Output[str]
    """Service of the page; it has pods that answer."""

    def __init__(self, name: str, args: MaintenanceArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:maintenance:Maintenance", name, None, opts)
        inside = ResourceOptions(parent=self, depends_on=opts.depends_on if opts else None)
        named = metadata(NAME, args.namespace, labels(NAME, NAME))
        here: LabelSelectorArgsDict = {"match_labels": selector(NAME, NAME)}
        account = register_service_account(NAME, NAME, args.namespace, inside)
        page = container(
            NAME,
            image=args.image,
            amounts=PAGE_RESOURCES,
            command=["python3", "-m", "tasks.maintenance"],
            env=[
                {"name": "PORT", "value": str(_PORT)},
                {"name": "PROBE_PORT", "value": str(_PROBE_PORT)},
                {"name": "RETRY_AFTER_SECONDS", "value": str(args.maintenance.retry_after_seconds)},
            ],
            ports=[{"name": "http", "container_port": _PORT, "protocol": "TCP"}],
            readiness_probe={"http_get": {"path": "/ready", "port": _PROBE_PORT}, "period_seconds": 2},
            liveness_probe={"http_get": {"path": "/live", "port": _PROBE_PORT}, "failure_threshold": 6},
        )
        NetworkPolicy(
            "allow-into-maintenance",
            metadata=metadata("allow-into-maintenance", args.namespace, labels(NAME, NAME)),
            spec={
                "pod_selector": here,
                "policy_types": ["Ingress"],
                "ingress": [{"from_": peers(args.ingress_controller), "ports": [{"port": _PORT, "protocol": "TCP"}]}],
            },
            opts=inside,
        )
        deployment = Deployment(
            NAME,
            metadata=named,
            spec={
                "replicas": 2,
                "revision_history_limit": OLD_REVISIONS,
                "selector": here,
                "template": template(
                    NAME,
                    NAME,
                    service_account=account.metadata.apply(lambda meta: meta.name or ""),
                    uid=APPLICATION_UID,
                    containers=[page],
                    **spread(here),
                ),
            },
            opts=inside,
        )
        register_budget("maintenance-budget", named, here, inside)
        service = Service(
            "maintenance-service",
            metadata=metadata(NAME, args.namespace, labels(NAME, NAME), SKIP_AWAIT),
            spec={
                "type": "ClusterIP",
                "selector": selector(NAME, NAME),
                "ports": [{"name": "http", "port": 80, "target_port": "http", "protocol": "TCP"}],
            },
            opts=inside,
        )
        # The ingress depends on this output: the pods are ready by then, and the Service has their addresses.
        self.service_name = deployment.id.apply(lambda _: service.metadata.apply(lambda meta: meta.name or ""))
        self.register_outputs({})
