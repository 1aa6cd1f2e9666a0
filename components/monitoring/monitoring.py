"""Monitoring (HerbisVeritas "Monitoring & Alertes", Runbook de Production §6): exporters, rules, notification routes.

Nothing waits for it: a release, and above all a rollback, takes as long with it as without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_kubernetes.core.v1 import Secret, ServiceAccount
from pulumi_kubernetes.rbac.v1 import PolicyRuleArgsDict

from components.base.names import SERVICE, content_hash, labels, metadata, selector
from components.base.network_policies import peer
from components.base.rbac import grant_cluster_role
from components.monitoring.network_policies import PROMETHEUS, MonitoringPolicies
from components.monitoring.prometheus_operator import register_operator_objects
from components.monitoring.workloads import (
    MONITORING,
    ControllerAddress,
    Placement,
    Pod,
    register_account,
    register_exporter,
    register_files,
    register_headless_service,
    register_server,
)
from monitoring.alertmanager import Places, alertmanager
from monitoring.alerts.render import as_yaml, rule_files
from monitoring.alerts.stack import domains
from monitoring.dashboards.render import files as dashboards
from monitoring.dashboards.stack import boards
from monitoring.prometheus import (
    ALERTMANAGER,
    BLACKBOX,
    OPTIONS,
    PORTS,
    POSTGRES_EXPORTER,
    REDIS_EXPORTER,
    MonitoredStack,
    blackbox,
    prometheus,
    select_pods,
)
from settings import BundledPostgres, BundledRedis, External, ExternalPostgres, Network
from settings.connection_url import parse_postgres, parse_redis
from settings.monitoring import DEAD_MANS_SWITCH
from settings.rotation import DATABASE_URL, REDIS_URL
from settings.secret import Secret as SecretValue

_TOKEN = "/etc/controller"  # noqa: S105 (a folder)
_KNOWN = {"checkov.io/skip1": "CKV_K8S_38=Kubelets serve metrics only to authenticated clients"}
_GRAFANA = {"grafana_dashboard": "1"}
"""Label that Grafana's sidecar selects."""


@dataclass(frozen=True, kw_only=True)
class MonitoringArgs:
    """Inputs of the monitoring."""

    namespace: Input[str]
    """Its namespace."""
    image: str
    """Image of the monitoring servers and exporters; empty where only rules and routes are registered."""
    watched: MonitoredStack
    """The stack to monitor, and its settings."""
    network: Network
    """Egress to addresses outside the cluster."""
    postgres: BundledPostgres | External | None
    """The database, for its network policy; None where it is no server."""
    redis: BundledRedis | External | None
    """The cache, for its network policy; None where there is none."""
    dsns: Mapping[str, SecretValue]
    """`DATABASE_URL` and `REDIS_URL` of the servers that there are, as exporters have them."""
    secrets: Mapping[str, SecretValue]
    """The `secrets:*` of the stack, with the webhooks."""
    begins_after: Sequence[pulumi.Resource] = ()
    """Resources that must exist first: a stack's first release must not count as a failed health check."""
    controller: ControllerAddress | None = None
    """The rollback controller; without it, alerts only notify."""


class Monitoring(pulumi.ComponentResource):
    """Exporters, and a Prometheus and an Alertmanager of the stack's own or objects for the cluster's operator."""

    def __init__(self, name: str, args: MonitoringArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:monitoring:Monitoring", name, None, opts)
        self._args = args
        self._settings = args.watched.monitoring
        inside = ResourceOptions(parent=self, depends_on=opts.depends_on if opts else None)
        self._ground = Placement(namespace=args.namespace, image=args.image, opts=inside)
        watched = args.watched
        self._ways = MonitoringPolicies(self, args.namespace, inside, watched)
        self._alerts = domains(
            watched.namespace,
            self._settings,
            [service.name for service in watched.application.services],
            watched.backup,
            watched.rotations,
            watched.maintenance,
            watched.lockdown,
            watched.maintenance_tasks,
            watched.performance,
        )
        self._exporters()
        for service in watched.services:
            register_headless_service(
                self._ground, select_pods(service.name), service.port or 0, selector(service.name, SERVICE)
            )
        shown = boards(watched.namespace, self._settings, watched.backup, self._alerts)
        register_files(self._ground, "dashboards", dashboards(shown, self._alerts, watched.namespace), _GRAFANA)
        if operator := self._settings.operated:
            self._ways.read_by([peer(operator.prometheus)])
            register_operator_objects(self._ground, watched, self._alerts, self._webhooks(), args.controller)
        else:
            self._prometheus()
            self._alertmanager()
        self.register_outputs({})

    def _exporters(self) -> None:
        """Of what the stack has."""
        args = self._args
        if args.watched.http_checks:
            self._http_checks()
        self._ways.data(args.postgres, args.redis)
        if args.postgres is not None:
            self._postgres_exporter(args.postgres)
        if args.redis is not None:
            self._redis_exporter()

    def _http_checks(self) -> None:
        args = self._args
        self._ways.http_checks(args.network.egress, args.network.ingress_controller)
        checks = register_files(self._ground, BLACKBOX, {"blackbox.yaml": as_yaml(blackbox(args.watched))})
        register_exporter(
            self._ground,
            Pod(
                name=BLACKBOX,
                port=PORTS[BLACKBOX],
                command=["prometheus-blackbox-exporter", "--config.file=/etc/blackbox/blackbox.yaml"],
                amounts=self._settings.exporter_resources,
                ready="/-/healthy",
                volumes={"/etc/blackbox": {"config_map": {"name": checks}}},
            ),
        )

    def _postgres_exporter(self, server: BundledPostgres | External) -> None:
        database, tls = self._args.dsns[DATABASE_URL], isinstance(server, External)
        ca = server.ca if isinstance(server, ExternalPostgres) else None
        source = {"DATA_SOURCE_NAME": database.value.apply(lambda dsn: for_lib_pq(dsn, tls=tls, ca=ca))}
        register_exporter(
            self._ground,
            Pod(
                name=POSTGRES_EXPORTER,
                port=PORTS[POSTGRES_EXPORTER],
                command=["prometheus-postgres-exporter"],
                amounts=self._settings.exporter_resources,
                ready="/",
                login=self._login(POSTGRES_EXPORTER, database, source),
            ),
        )

    def _redis_exporter(self) -> None:
        cache = self._args.dsns[REDIS_URL]
        register_exporter(
            self._ground,
            Pod(
                name=REDIS_EXPORTER,
                port=PORTS[REDIS_EXPORTER],
                # Neither its own login nor the services' may read the server's configuration.
                command=["prometheus-redis-exporter", "-config-command=-"],
                amounts=self._settings.exporter_resources,
                ready="/health",
                login=self._login(REDIS_EXPORTER, cache, _redis_login(cache.value)),
            ),
        )

    def _login(self, name: str, of: SecretValue, variables: Mapping[str, Output[str]]) -> Output[str]:
        """Named by the login's identity: an exporter reads it once, and is replaced when it changes."""
        return self._secret(name, content_hash(of.identity), variables)

    def _prometheus(self) -> None:
        args, wanted = self._args, self._settings.prometheus
        watched, controller = args.watched, args.controller
        self._ways.prometheus(controller.port if controller else None)
        targets = replace(watched, controller=controller.address if controller else None)
        rules = {name: as_yaml(rules) for name, rules in rule_files(self._alerts, watched.namespace).items()}
        config = register_files(self._ground, PROMETHEUS, {"prometheus.yaml": as_yaml(prometheus(targets)), **rules})
        identity = register_account(self._ground, PROMETHEUS)
        begins = ResourceOptions(depends_on=list(args.begins_after))
        kubelet = self._settings.infrastructure.kubelet and wanted.kubelet
        if kubelet:
            self._reads_nodes(identity)
        register_server(
            replace(self._ground, opts=ResourceOptions.merge(self._ground.opts, begins)),
            Pod(
                name=PROMETHEUS,
                port=PORTS[PROMETHEUS],
                command=[
                    "prometheus",
                    "--config.file=/etc/prometheus/prometheus.yaml",
                    "--storage.tsdb.path=/prometheus",
                    f"--storage.tsdb.retention.time={wanted.retention_days}d",
                    f"--storage.tsdb.retention.size={self._settings.retention_bytes}B",
                    *OPTIONS,
                ],
                amounts=wanted.resources,
                ready="/-/ready",
                alive="/-/healthy",
                volumes={"/etc/prometheus": {"config_map": {"name": config}}},
            ),
            kept_at="/prometheus",
            storage=wanted.storage,
            storage_class=wanted.storage_class,
            identity=identity,
            **({"annotations": _KNOWN, "automount_service_account_token": True} if kubelet else {}),
        )

    def _reads_nodes(self, identity: ServiceAccount) -> None:
        """Permission to read metrics of nodes, and nothing else of them or of their pods."""
        full_name = f"runbook-{self._args.watched.namespace}-{PROMETHEUS}"
        made = metadata(full_name, None, labels(PROMETHEUS, MONITORING))
        rules: list[PolicyRuleArgsDict] = [{"api_groups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]}]
        opts = self._ground.opts
        grant_cluster_role("prometheus-reads-nodes", made, identity, self._args.namespace, rules, opts)

    def _alertmanager(self) -> None:
        args, wanted = self._args, self._settings.alertmanager
        controller = args.controller
        self._ways.alertmanager(args.network.egress, controller.port if controller else None)
        given = {name: args.secrets[name] for name in self._settings.secret_names}
        places = Places(
            secrets="/etc/alertmanager",
            controller=controller.url if controller else None,
            token=f"{_TOKEN}/token",
        )
        identity = {name: value.identity for name, value in given.items()}
        named = content_hash(alertmanager(self._settings, places), identity)
        rendered: Output[str] = Output.from_input(as_yaml(alertmanager(self._settings, places)))
        if switch := given.pop(DEAD_MANS_SWITCH, None):
            rendered = switch.value.apply(
                lambda url: as_yaml(alertmanager(self._settings, replace(places, switch=url)))
            )
        config = self._secret(
            ALERTMANAGER,
            named,
            {"alertmanager.yaml": Output.secret(rendered), **{name: value.value for name, value in given.items()}},
        )
        register_server(
            self._ground,
            Pod(
                name=ALERTMANAGER,
                port=PORTS[ALERTMANAGER],
                command=[
                    "prometheus-alertmanager",
                    "--config.file=/etc/alertmanager/alertmanager.yaml",
                    "--storage.path=/alertmanager",
                    # Single replica: clustering off.
                    "--cluster.listen-address=",
                ],
                amounts=wanted.resources,
                ready="/-/ready",
                alive="/-/healthy",
                volumes={
                    "/etc/alertmanager": {"secret": {"secret_name": config, "default_mode": 0o440}},
                    **(
                        {_TOKEN: {"secret": {"secret_name": controller.token_secret_name, "default_mode": 0o440}}}
                        if controller
                        else {}
                    ),
                },
            ),
            kept_at="/alertmanager",
            storage=wanted.storage,
            storage_class=wanted.storage_class,
            identity=register_account(self._ground, ALERTMANAGER),
        )

    def _webhooks(self) -> Output[str]:
        given = {name: self._args.secrets[name] for name in self._settings.secret_names}
        identity = content_hash({name: value.identity for name, value in given.items()})
        return self._secret("webhooks", identity, {name: value.value for name, value in given.items()})

    def _secret(self, name: str, identity: str, content: Mapping[str, Output[str]]) -> Output[str]:
        full_name = f"{name}-{identity}"
        made = Secret(
            full_name,
            metadata=metadata(full_name, self._args.namespace, labels(name, MONITORING)),
            immutable=True,
            string_data=dict(content),
            opts=self._ground.opts,
        )
        return made.metadata.apply(lambda meta: meta.name or "")


def for_lib_pq(dsn: str, *, tls: bool, ca: str | None = None) -> str:
    """The DSN without parameters of the application's client, which the server would refuse."""
    parts = urlsplit(parse_postgres(dsn).url)
    mode = dict(parse_qsl(parts.query)).get("sslmode")
    how = ({"sslmode": mode} if mode else {}) if tls else {"sslmode": "disable"}
    if tls and mode and mode.startswith("verify") and ca:
        how |= {"sslinline": "true", "sslrootcert": ca}
    # So that a server that does not answer is reported as down, not its exporter.
    return parts._replace(query=urlencode({**how, "connect_timeout": "3"})).geturl()


def _redis_login(dsn: Output[str]) -> Mapping[str, Output[str]]:
    """Address, user and password as separate variables, so that no message about an address shows a password."""

    def address(text: str) -> str:
        parts = urlsplit(text)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()

    # As tasks read it: urlsplit refuses some characters of a password, and its error repeats it.
    read = dsn.apply(lambda text: parse_redis(text) if "://" in text else text)
    return {
        "REDIS_ADDR": read.apply(address),
        "REDIS_EXPORTER_SKIP_TLS_VERIFICATION": read.apply(lambda text: str("ssl_cert_reqs=none" in text).lower()),
        "REDIS_USER": read.apply(lambda text: unquote(urlsplit(text).username or "default")),
        "REDIS_PASSWORD": read.apply(lambda text: unquote(urlsplit(text).password or "")),
    }
