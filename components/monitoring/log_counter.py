"""Security events in the application's logs (Runbook de Production §6): one pod that reads them and counts.

Its ServiceAccount may list the namespace's pods and read their logs, nothing else. It stores nothing of what it reads.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.apps.v1 import Deployment
from pulumi_kubernetes.core.v1 import ProbeArgsDict
from pulumi_kubernetes.rbac.v1 import PolicyRuleArgsDict

from components.base.names import SERVICE, labels, metadata, selector
from components.base.network_policies import register_egress_policy
from components.base.pods import APPLICATION_UID, OLD_REVISIONS, container, template
from components.base.rbac import grant_role
from components.monitoring.workloads import MONITORING, WAIT, Placement, register_account, register_service
from monitoring.prometheus import LOG_COUNTER, PORTS
from settings.logs import Logs

_PORT = PORTS[LOG_COUNTER]
_WAIVED = {
    "checkov.io/skip1": "CKV_K8S_38=It asks the API server for logs, and is known by this token",
    # Two would count every line twice. An alert fires while it is down; a new pod counts from its start.
    "kube-score/ignore": "deployment-replicas,deployment-strategy",
}
_READS_LOGS: Sequence[PolicyRuleArgsDict] = (
    {"api_groups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
    {"api_groups": [""], "resources": ["pods/log"], "verbs": ["get"]},
)


@dataclass(frozen=True, kw_only=True)
class LogCounterArgs:
    """Inputs of the log counter."""

    namespace: Input[str]
    """Its namespace, and that of the pods whose logs it reads."""
    image: Input[str]
    """The project's own image."""
    logs: Logs
    """Events, and addresses of the API server."""


class LogCounter(pulumi.ComponentResource):
    """Prometheus scrapes it like an exporter; `components.monitoring.network_policies` admits it."""

    def __init__(self, name: str, args: LogCounterArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:monitoring:LogCounter", name, None, opts)
        inside = ResourceOptions(parent=self, depends_on=opts.depends_on if opts else None)
        ground = Placement(namespace=args.namespace, image=args.image, opts=inside)
        identity = register_account(ground, LOG_COUNTER)
        here = selector(LOG_COUNTER, MONITORING)
        rights = grant_role(LOG_COUNTER, MONITORING, identity, args.namespace, _READS_LOGS, inside)
        egress = register_egress_policy(
            self, f"allow-{LOG_COUNTER}", args.namespace, args.logs.api_server, {"match_labels": here}
        )
        looked_for = {
            name: {
                "field": event.field,
                "pattern": event.pattern,
                **({"source": event.source} if event.source else {}),
            }
            for name, event in sorted(args.logs.events.items())
        }
        variables: Sequence[tuple[str, Input[str]]] = (
            ("LOGS_NAMESPACE", args.namespace),
            ("LOGS_SELECTOR", f"app.kubernetes.io/component={SERVICE}"),
            ("LOGS_EVENTS", json.dumps(looked_for)),
            ("LOGS_PORT", str(_PORT)),
        )
        server = container(
            LOG_COUNTER,
            image=args.image,
            amounts=args.logs.resources,
            command=["python3", "-m", "tasks", "logs"],
            env=[{"name": variable, "value": value} for variable, value in variables],
            ports=[{"name": "http", "container_port": _PORT, "protocol": "TCP"}],
            startup_probe={**_asked("/healthz"), "period_seconds": 1, "failure_threshold": 60},
            readiness_probe={**_asked("/readyz"), "period_seconds": 5},
            liveness_probe={**_asked("/healthz"), "period_seconds": 20},
        )
        deployment = Deployment(
            LOG_COUNTER,
            metadata=metadata(LOG_COUNTER, args.namespace, labels(LOG_COUNTER, MONITORING), _WAIVED),
            spec={
                "replicas": 1,
                "revision_history_limit": OLD_REVISIONS,
                # Scraped in turn, an old and a new pod would look like a counter that resets repeatedly.
                "strategy": {"type": "Recreate"},
                "selector": {"match_labels": here},
                "template": template(
                    LOG_COUNTER,
                    MONITORING,
                    service_account=identity.metadata.apply(lambda meta: meta.name or ""),
                    uid=APPLICATION_UID,
                    containers=[server],
                    automount_service_account_token=True,
                ),
            },
            opts=ResourceOptions.merge(
                inside, ResourceOptions(depends_on=[rights, *filter(None, [egress])], custom_timeouts=WAIT)
            ),
        )
        register_service(ground, LOG_COUNTER, _PORT, here, after=deployment)
        self.register_outputs({})


def _asked(path: str) -> ProbeArgsDict:
    return {"http_get": {"path": path, "port": _PORT}, "timeout_seconds": 5}
