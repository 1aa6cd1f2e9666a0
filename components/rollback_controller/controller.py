"""The rollback controller (HerbisVeritas "Triggers Rollback Automatique"): one pod that runs `ops.controller`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_kubernetes.apps.v1 import Deployment
from pulumi_kubernetes.core.v1 import ProbeArgsDict, Secret, Service
from pulumi_kubernetes.meta.v1 import LabelSelectorArgsDict
from pulumi_kubernetes.networking.v1 import (
    NetworkPolicy,
    NetworkPolicyEgressRuleArgsDict,
    NetworkPolicyPeerArgsDict,
)
from pulumi_random import RandomPassword

from components.base.names import SKIP_AWAIT, content_hash, labels, metadata, selector
from components.base.network_policies import egress_rules, peer, register_service_policies
from components.base.pods import APPLICATION_UID, OLD_REVISIONS, container, register_service_account, template
from components.monitoring.network_policies import PROMETHEUS
from components.monitoring.workloads import MONITORING
from components.rollback_controller.rbac import grant_controller_rights
from monitoring.prometheus import ALERTMANAGER, PORTS
from settings import Egress
from settings import Monitoring as MonitoringSettings
from settings.monitoring import STATE_ACCESS_KEY, STATE_PASSPHRASE, STATE_SECRET_KEY, STATE_SECRETS
from settings.names import CONTROLLER
from settings.secret import Secret as SecretValue

PORT = 8080
_TOKEN, _KEYS, _WORK = "/etc/controller/token", "/etc/controller/keys", "/tmp/runbook"  # noqa: S108 (in the pod)
_CHANNEL = "critical"
_WAIVED = {
    "checkov.io/skip1": "CKV_K8S_38=It changes objects of its own namespace, and asks for them with this token",
    # A second replica would only wait for the lease: a restart is as quick.
    "kube-score/ignore": "deployment-replicas,deployment-strategy",
}


@dataclass(frozen=True, kw_only=True)
class RollbackControllerArgs:
    """The stack, and how the controller reaches it."""

    namespace: Input[str]
    """Where it runs: the stack's own."""
    stack: str
    """Name of the stack."""
    monitoring: MonitoringSettings
    """With `rollback.image` and `rollback.state`."""
    health_port: int | None
    """Port at which the application's main service answers the health check."""
    secrets: Mapping[str, SecretValue]
    """The `secrets:*` of the stack."""
    more_egress: Sequence[Egress] = ()
    """Where else it writes: the status page's bucket."""


class RollbackController(pulumi.ComponentResource):
    """Receives alerts from Alertmanager and rolls the release back as `runbook rollback` does."""

    url: str
    """Its webhook, from within the namespace."""
    token_secret_name: Output[str]
    """Secret with the token that Alertmanager sends, under `token`."""

    def __init__(self, name: str, args: RollbackControllerArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:rollback:RollbackController", name, None, opts)
        rollback = args.monitoring.rollback
        if rollback.image is None or rollback.state is None:
            raise ValueError("monitoring.rollback has an image and a state, or there is no controller")
        inside = ResourceOptions(parent=self, depends_on=opts.depends_on if opts else None)
        here: LabelSelectorArgsDict = {"match_labels": selector(CONTROLLER, CONTROLLER)}
        kind = labels(CONTROLLER, CONTROLLER)
        token = RandomPassword("rollback-controller-token", length=48, special=False, opts=ResourceOptions(parent=self))
        shown = Secret(
            "rollback-controller-token",
            metadata=metadata("rollback-controller-token", args.namespace, kind),
            type="Opaque",
            string_data={"token": token.result},
            opts=inside,
        )
        keys = self._keys(args, inside)
        account = register_service_account(CONTROLLER, CONTROLLER, args.namespace, inside)
        bound = grant_controller_rights(
            CONTROLLER, account, args.namespace, inside, operated=args.monitoring.operated is not None
        )
        self._network(args, here, inside)
        slack = args.monitoring.slack.secret_names[_CHANNEL]
        environment = {
            "RUNBOOK_STACK": args.stack,
            "RUNBOOK_USER": CONTROLLER,
            "PULUMI_BACKEND_URL": rollback.state.url,
            "PULUMI_CONFIG_PASSPHRASE_FILE": f"{_KEYS}/{STATE_PASSPHRASE}",
            "AWS_SHARED_CREDENTIALS_FILE": f"{_KEYS}/aws",
            "CONTROLLER_ALERTMANAGER_URL": _monitoring_servers(args.monitoring).url,
            "CONTROLLER_TOKEN_FILE": f"{_TOKEN}/token",
            "CONTROLLER_SLACK_FILE": f"{_KEYS}/{slack}",
            "CONTROLLER_WORK": _WORK,
            "CONTROLLER_PORT": str(PORT),
        }
        server = container(
            "controller",
            image=rollback.image,
            amounts=rollback.resources,
            command=["python3", "-m", "ops.controller"],
            env=[
                {"name": "CONTROLLER_NAMESPACE", "value": args.namespace},
                *({"name": variable, "value": value} for variable, value in environment.items()),
            ],
            ports=[{"name": "http", "container_port": PORT, "protocol": "TCP"}],
            mounts=[
                {"name": "token", "mount_path": _TOKEN, "read_only": True},
                {"name": "keys", "mount_path": _KEYS, "read_only": True},
            ],
            startup_probe={**_http_probe("/readyz"), "period_seconds": 1, "failure_threshold": 120},
            readiness_probe={**_http_probe("/readyz"), "period_seconds": 5},
            liveness_probe={**_http_probe("/healthz"), "period_seconds": 10, "failure_threshold": 3},
        )
        deployment = Deployment(
            CONTROLLER,
            metadata=metadata(CONTROLLER, args.namespace, kind, _WAIVED),
            spec={
                "replicas": 1,
                "revision_history_limit": OLD_REVISIONS,
                # The new pod cannot begin before the old one releases the lease.
                "strategy": {"type": "Recreate"},
                "selector": here,
                "template": template(
                    CONTROLLER,
                    CONTROLLER,
                    service_account=account.metadata.apply(lambda meta: meta.name or ""),
                    uid=APPLICATION_UID,
                    containers=[server],
                    volumes=[
                        {
                            "name": "token",
                            "secret": {"secret_name": shown.metadata.apply(lambda meta: meta.name or "")},
                        },
                        {"name": "keys", "secret": {"secret_name": keys}},
                    ],
                    automount_service_account_token=True,
                    termination_grace_period_seconds=60,
                ),
            },
            opts=ResourceOptions.merge(inside, ResourceOptions(depends_on=[bound])),
        )
        Service(
            f"{CONTROLLER}-service",
            metadata=metadata(CONTROLLER, args.namespace, kind, SKIP_AWAIT),
            spec={
                "type": "ClusterIP",
                "selector": selector(CONTROLLER, CONTROLLER),
                "ports": [{"name": "http", "port": PORT, "target_port": "http", "protocol": "TCP"}],
            },
            opts=ResourceOptions.merge(inside, ResourceOptions(depends_on=[deployment])),
        )
        self.url = f"http://{CONTROLLER}:{PORT}/alerts"
        self.token_secret_name = shown.metadata.apply(lambda meta: meta.name or "")
        self.register_outputs({})

    def _keys(self, args: RollbackControllerArgs, opts: ResourceOptions) -> Output[str]:
        """Secret for the controller only: the state's keys and passphrase, and Slack's address."""
        slack = args.monitoring.slack.secret_names[_CHANNEL]
        used = [args.secrets[name] for name in (*STATE_SECRETS, slack)]
        access, secret = args.secrets[STATE_ACCESS_KEY].value, args.secrets[STATE_SECRET_KEY].value
        name = f"rollback-controller-keys-{content_hash([one.identity for one in used])}"
        made = Secret(
            name,
            metadata=metadata(name, args.namespace, labels(CONTROLLER, CONTROLLER)),
            type="Opaque",
            immutable=True,
            string_data={
                "aws": Output.concat(
                    "[default]\naws_access_key_id = ", access, "\naws_secret_access_key = ", secret, "\n"
                ),
                STATE_PASSPHRASE: args.secrets[STATE_PASSPHRASE].value,
                slack: args.secrets[slack].value,
            },
            opts=opts,
        )
        return made.metadata.apply(lambda meta: meta.name or "")

    def _network(self, args: RollbackControllerArgs, here: LabelSelectorArgsDict, opts: ResourceOptions) -> None:
        rollback, slack = args.monitoring.rollback, args.monitoring.slack
        state = rollback.state.egress if rollback.state else ()
        outside = egress_rules([*rollback.api_server, *state, *slack.egress, *args.more_egress])
        servers = _monitoring_servers(args.monitoring)
        alertmanager: NetworkPolicyEgressRuleArgsDict = {
            "to": [servers.alertmanager],
            "ports": [{"port": servers.port, "protocol": "TCP"}],
        }
        name = "allow-rollback-controller"
        NetworkPolicy(
            name,
            metadata=metadata(name, args.namespace, labels(CONTROLLER, CONTROLLER)),
            spec={
                "pod_selector": here,
                "policy_types": ["Ingress", "Egress"],
                "ingress": [
                    {
                        "from_": [servers.alertmanager, servers.prometheus],
                        "ports": [{"port": PORT, "protocol": "TCP"}],
                    }
                ],
                "egress": [alertmanager, *outside],
            },
            opts=opts,
        )
        # It asks the main service for its health.
        register_service_policies(CONTROLLER, here, [args.health_port], args.namespace, opts, of=CONTROLLER)


@dataclass(frozen=True)
class _MonitoringServers:
    """The servers that call the controller, and the Alertmanager that confirms alerts."""

    url: str
    port: int
    alertmanager: NetworkPolicyPeerArgsDict
    prometheus: NetworkPolicyPeerArgsDict


def _monitoring_servers(monitoring: MonitoringSettings) -> _MonitoringServers:
    """This stack's own, or those of the Prometheus Operator."""
    operator = monitoring.operated
    if operator and operator.alertmanager:
        theirs = operator.alertmanager
        return _MonitoringServers(theirs.url, theirs.port, peer(theirs.pods), peer(operator.prometheus))
    port = PORTS[ALERTMANAGER]
    return _MonitoringServers(f"http://{ALERTMANAGER}:{port}", port, _peer_of(ALERTMANAGER), _peer_of(PROMETHEUS))


def _peer_of(name: str) -> NetworkPolicyPeerArgsDict:
    return {"pod_selector": {"match_labels": selector(name, MONITORING)}}


def _http_probe(path: str) -> ProbeArgsDict:
    return {"http_get": {"path": path, "port": PORT}, "timeout_seconds": 3}
