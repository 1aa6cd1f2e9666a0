"""The status page for customers (HerbisVeritas "Incident Response"): two pods that call nothing, and an ingress of
their own host."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.apps.v1 import Deployment
from pulumi_kubernetes.core.v1 import Service
from pulumi_kubernetes.meta.v1 import LabelSelectorArgsDict
from pulumi_kubernetes.networking.v1 import IngressRuleArgsDict, NetworkPolicy

from components.base.names import SERVICE_PORT, SKIP_AWAIT, labels, metadata, selector
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
from components.ingress import allow_solver, register_ingress
from settings import NetworkPeer
from settings.status_page import NAME, PUBLISHED, PUBLISHED_KEY, RESOURCES
from settings.status_page import StatusPage as StatusPageSettings

_PORT = 8080
_FOLDER = "/etc/status-page"


@dataclass(frozen=True, kw_only=True)
class StatusPageArgs:
    """The page's text, and the ingress controller that requests it."""

    namespace: Input[str]
    """Where the page is served."""
    image: Input[str]
    """The project's own image."""
    page: StatusPageSettings
    """Host, title and components."""
    ingress_controller: NetworkPeer
    """The only client of the page."""


class StatusPage(pulumi.ComponentResource):
    """The page renders what `runbook incident` and the rollback controller published, without an update of the stack.

    Its pods have no egress, no secret and no token: neither the shop nor its database can take them down.
    """

    def __init__(self, name: str, args: StatusPageArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:status:StatusPage", name, None, opts)
        inside = ResourceOptions(parent=self, depends_on=opts.depends_on if opts else None)
        kind = labels(NAME, NAME)
        here: LabelSelectorArgsDict = {"match_labels": selector(NAME, NAME)}
        account = register_service_account(NAME, NAME, args.namespace, inside)
        NetworkPolicy(
            "allow-into-status-page",
            metadata=metadata("allow-into-status-page", args.namespace, kind),
            spec={
                "pod_selector": here,
                "policy_types": ["Ingress"],
                "ingress": [{"from_": peers(args.ingress_controller), "ports": [{"port": _PORT, "protocol": "TCP"}]}],
            },
            opts=inside,
        )
        allow_solver(
            "allow-into-acme-solver-of-status-page",
            args.namespace,
            args.page.ingress,
            args.ingress_controller,
            inside,
        )
        page = container(
            NAME,
            image=args.image,
            amounts=RESOURCES,
            command=["python3", "-m", "tasks.status_page"],
            env=[
                {"name": "STATUS_PAGE", "value": json.dumps(args.page.to_task(), ensure_ascii=False, sort_keys=True)},
                {"name": "PUBLISHED", "value": f"{_FOLDER}/{PUBLISHED_KEY}"},
                {"name": "PORT", "value": str(_PORT)},
            ],
            mounts=[{"name": "published", "mount_path": _FOLDER, "read_only": True}],
            ports=[{"name": "http", "container_port": _PORT, "protocol": "TCP"}],
            readiness_probe={"http_get": {"path": "/", "port": _PORT}, "period_seconds": 5},
            liveness_probe={"http_get": {"path": "/", "port": _PORT}, "timeout_seconds": 5, "failure_threshold": 6},
        )
        deployment = Deployment(
            NAME,
            metadata=metadata(NAME, args.namespace, kind),
            spec={
                "replicas": 2,
                "revision_history_limit": OLD_REVISIONS,
                "strategy": {"type": "RollingUpdate", "rolling_update": {"max_surge": 1, "max_unavailable": 0}},
                "selector": here,
                "template": template(
                    NAME,
                    NAME,
                    service_account=account.metadata.apply(lambda meta: meta.name or ""),
                    uid=APPLICATION_UID,
                    containers=[page],
                    # Written by commands, and not there before the first publication.
                    volumes=[{"name": "published", "config_map": {"name": PUBLISHED, "optional": True}}],
                    **spread(here),
                ),
            },
            opts=inside,
        )
        register_budget("status-page-budget", metadata(NAME, args.namespace, kind), here, inside)
        after = ResourceOptions.merge(inside, ResourceOptions(depends_on=[deployment]))
        Service(
            "status-page-service",
            metadata=metadata(NAME, args.namespace, kind, SKIP_AWAIT),
            spec={
                "type": "ClusterIP",
                "selector": selector(NAME, NAME),
                "ports": [{"name": SERVICE_PORT, "port": 80, "target_port": "http", "protocol": "TCP"}],
            },
            opts=inside,
        )
        rule: IngressRuleArgsDict = {
            "host": args.page.ingress.host,
            "http": {
                "paths": [
                    {
                        "path": "/",
                        "path_type": "Prefix",
                        "backend": {"service": {"name": NAME, "port": {"name": SERVICE_PORT}}},
                    }
                ]
            },
        }
        register_ingress(NAME, args.namespace, kind, args.page.ingress, rule, after)
        self.register_outputs({})
