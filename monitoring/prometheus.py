"""Scrape jobs: the configurations of Prometheus and of the blackbox exporter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from monitoring.alerts.gateway import KINDS
from monitoring.request_metrics import controller_relabelings, relabelings
from settings.application import Application, Service
from settings.backup import EXPORTER_PORT, Backup
from settings.lockdown import Lockdown
from settings.maintenance import Maintenance
from settings.maintenance_tasks import MaintenanceTasks
from settings.monitoring import Monitoring
from settings.performance import Performance
from settings.platform import Ingress
from settings.rotation import SecretRotation
from settings.servers import Gateway, Kubelet, Source

ALERTMANAGER, BLACKBOX, POSTGRES_EXPORTER, REDIS_EXPORTER, LOG_COUNTER = (
    "alertmanager",
    "blackbox",
    "postgres-exporter",
    "redis-exporter",
    "log-counter",
)
PORTS = {
    "prometheus": 9090,
    ALERTMANAGER: 9093,
    BLACKBOX: 9115,
    POSTGRES_EXPORTER: 9187,
    REDIS_EXPORTER: 9121,
    LOG_COUNTER: 9189,
}
HEALTH, FRONT_DOOR = "health", "front-door"
"""Jobs of the HTTP checks, and their modules in the blackbox exporter."""
RULES = "*.rules.yaml"
_BACKUPS, _BACKUP_SECONDS = f"backup-exporter:{EXPORTER_PORT}", 30
_KUBELET_SECONDS = 15
"""Rates of containers are over two minutes, and every node has many series."""
_FIND_SECONDS = 5
OPTIONS = (
    # After a restart, a pending alert keeps the time it has waited.
    "--rules.alert.for-grace-period=10s",
    # If Alertmanager was down, an alert is sent again this soon. Four times as long after the last time, Alertmanager
    # takes it as over: longer than a restart of Prometheus.
    "--rules.alert.resend-delay=30s",
    # `scrape_sample_limit`, for SamplesNearLimit.
    "--enable-feature=extra-scrape-metrics",
)
_IDENTITY = "/var/run/secrets/kubernetes.io/serviceaccount"


@dataclass(frozen=True, kw_only=True)
class MonitoredStack:
    """What Prometheus monitors of one stack."""

    namespace: str
    monitoring: Monitoring
    application: Application
    ingress: Ingress | None
    backup: Backup | None = None
    """Backups have an exporter of their own."""
    rotations: Mapping[str, SecretRotation]
    """Every secret that rotates."""
    maintenance: Maintenance | None = None
    """Explains why customers get no answer."""
    lockdown: Lockdown | None = None
    """Explains the same, during an attack."""
    maintenance_tasks: MaintenanceTasks | None = None
    """Metrics of its runs come from the exporter of backups."""
    performance: Performance | None = None
    """Metrics of its page checks come from there, too; None where none runs."""
    controller: str | None = None
    """Host and port of the rollback controller."""

    @property
    def services(self) -> tuple[Service, ...]:
        """Services with metrics; none where the ingress controller counts their requests."""
        if self.monitoring.requests.by_controller:
            return ()
        left_out = self.monitoring.unmeasured
        return tuple(one for one in self.application.services if one.port and one.name not in left_out)

    @property
    def exporters(self) -> tuple[str, ...]:
        """Exporters, except that of backups."""
        there = {
            BLACKBOX: self.http_checks,
            POSTGRES_EXPORTER: self.monitoring.postgres,
            REDIS_EXPORTER: self.monitoring.redis,
            LOG_COUNTER: self.monitoring.logs,
        }
        return tuple(name for name, wanted in there.items() if wanted)

    @property
    def health_url(self) -> str:
        main = self.application.main_service
        return f"http://{main.name}:{main.port}{self.monitoring.health_path}"

    @property
    def front_door_url(self) -> str:
        wanted, services = self.monitoring.front_door, self.application.services
        path = wanted.path or (services and self.application.main_service.probes.liveness.path) or "/"
        return f"{wanted.address or self.public_url}{path}"

    @property
    def public_url(self) -> str:
        """The URL customers use."""
        return self.ingress.url if self.ingress else self.monitoring.front_door.address or ""

    @property
    def http_checks(self) -> Mapping[str, str]:
        """URL by job. Without an application, only the public address of another one's is probed."""
        if self.application.services:
            return {HEALTH: self.health_url, FRONT_DOOR: self.front_door_url}
        return {FRONT_DOOR: self.front_door_url} if self.public_url else {}


def select_pods(service: str) -> str:
    """The headless Service whose DNS name has the address of every pod, ready or not."""
    return f"{service}-metrics"


def prometheus(watched: MonitoredStack) -> dict[str, Any]:
    """Prometheus' configuration file."""
    monitoring = watched.monitoring
    return {
        "global": {
            "scrape_interval": f"{monitoring.scrape_seconds}s",
            "scrape_timeout": f"{min(monitoring.scrape_seconds, 10)}s",
            "evaluation_interval": f"{monitoring.evaluation_seconds}s",
        },
        "rule_files": [RULES],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [_at(ALERTMANAGER)]}]}]},
        "scrape_configs": [
            # Every series gets the stack's namespace, unless it has one.
            {**job, "relabel_configs": [*job.get("relabel_configs", ()), _labelled("namespace", watched.namespace)]}
            for job in _jobs(watched)
        ],
    }


def blackbox(watched: MonitoredStack) -> dict[str, Any]:
    """Configuration of the HTTP checks."""
    asked = {"preferred_ip_protocol": "ip4", "follow_redirects": True}
    host = urlsplit(watched.public_url)
    by_name = {"headers": {"Host": host.netloc}} if watched.monitoring.front_door.address else {}
    known = watched.application.host_header
    inside = {"headers": {"Host": known}} if known else {}
    return {
        "modules": {
            HEALTH: {"prober": "http", "http": {**asked, **inside}},
            FRONT_DOOR: {
                "prober": "http",
                "http": {**asked, **by_name, "tls_config": {"server_name": host.hostname or ""}},
            },
        }
    }


def _jobs(watched: MonitoredStack) -> Iterator[dict[str, Any]]:
    monitoring = watched.monitoring
    renamed = relabelings(monitoring.requests)
    for service in watched.services:
        yield {
            "job_name": service.name,
            "metrics_path": monitoring.requests.names.path,
            **scrape_limits(monitoring),
            **_found(select_pods(service.name), service.port or 0),
            **({"metric_relabel_configs": renamed} if renamed else {}),
        }
    if monitoring.gateway and monitoring.requests.by_controller:
        # A label `namespace` of its own says where the ingress is.
        yield {
            "job_name": "requests",
            "honor_labels": True,
            **_found(monitoring.gateway.host, monitoring.gateway.port),
            "metric_relabel_configs": controller_relabelings(
                monitoring.requests, watched.namespace, (each.name for each in watched.application.services)
            ),
        }
    for job, url in watched.http_checks.items():
        yield {
            "job_name": job,
            "metrics_path": "/probe",
            "params": {"module": [job], "target": [url]},
            "scrape_interval": f"{monitoring.health_seconds}s",
            "scrape_timeout": f"{min(monitoring.health_seconds, 10)}s",
            **_fixed(_at(BLACKBOX)),
            "relabel_configs": [_labelled("instance", url)],
        }
    if monitoring.postgres:
        yield {"job_name": "postgres", **_fixed(_at(POSTGRES_EXPORTER))}
    if monitoring.redis:
        yield {"job_name": "redis", **_fixed(_at(REDIS_EXPORTER))}
    yield {"job_name": "prometheus", **_fixed(f"localhost:{PORTS['prometheus']}")}
    yield {"job_name": "alertmanager", **_fixed(_at(ALERTMANAGER))}
    if watched.backup:
        yield {"job_name": "backups", **_every(_BACKUP_SECONDS), **_fixed(_BACKUPS)}
    if monitoring.logs:
        yield {"job_name": "logs", **_fixed(_at(LOG_COUNTER))}
    if monitoring.gateway:
        yield {"job_name": "ingress", **_gateway(monitoring.gateway, watched)}
    if watched.controller:
        yield {"job_name": "rollback-controller", **_fixed(watched.controller)}
    infrastructure, by = monitoring.infrastructure, monitoring.prometheus
    if infrastructure.kubelet and by.kubelet:
        yield from _kubelet(by.kubelet, watched.namespace)
    if infrastructure.nodes and by.nodes:
        yield {"job_name": "nodes", **_source(by.nodes)}
    if infrastructure.kube_state and by.kube_state:
        mine = {"source_labels": ["namespace"], "regex": watched.namespace, "action": "keep"}
        yield {
            "job_name": "kube-state",
            "honor_labels": True,
            **_source(by.kube_state),
            "metric_relabel_configs": [mine],
        }


def _gateway(gateway: Gateway, watched: MonitoredStack) -> dict[str, Any]:
    """Of the ingress controller's metrics, only requests to this stack's services are kept."""
    kind = KINDS[gateway.controller]
    names = "|".join(service.name for service in watched.application.services)
    ours = {label: text.format(namespace=watched.namespace, services=names) for label, text in kind.of.items()}
    # A job of its own metrics alone: births of series need to know when the process began.
    keep = f"{kind.requests};{';'.join(f'({text})' for text in ours.values())}|process_start_time_seconds;.*"
    return {
        **_found(gateway.host, gateway.port),
        "metric_relabel_configs": [{"source_labels": ["__name__", *ours], "regex": keep, "action": "keep"}],
    }


def scrape_limits(monitoring: Monitoring) -> dict[str, int]:
    """What one pod of the application may export: its labels may come from what customers send."""
    by = monitoring.prometheus
    return {
        "sample_limit": by.sample_limit,
        "label_limit": by.label_limit,
        "label_value_length_limit": by.label_value_length,
    }


def _kubelet(kubelet: Kubelet, namespace: str) -> Iterator[dict[str, Any]]:
    """Of a node's metrics, only those of this namespace are kept."""
    at = [f"{address}:{kubelet.port}" for address in kubelet.addresses]
    nodes = _found(kubelet.host, kubelet.port) if kubelet.host else _fixed(*at)
    for job, path, label in (
        ("kubelet", "/metrics", "persistentvolumeclaim"),
        ("containers", "/metrics/cadvisor", "pod"),
    ):
        yield {
            "job_name": job,
            "scheme": "https",
            "metrics_path": path,
            **_every(_KUBELET_SECONDS),
            "honor_labels": True,
            "authorization": {"credentials_file": f"{_IDENTITY}/token"},
            "tls_config": {"ca_file": f"{_IDENTITY}/ca.crt", "insecure_skip_verify": kubelet.insecure},
            **nodes,
            "metric_relabel_configs": [
                {"source_labels": ["namespace", label], "regex": f"{namespace};.+", "action": "keep"}
            ],
        }


def _source(source: Source) -> dict[str, Any]:
    return {**_every(_KUBELET_SECONDS), **_found(source.host, source.port)}


def _every(seconds: int) -> dict[str, Any]:
    return {"scrape_interval": f"{seconds}s", "scrape_timeout": "10s"}


def _found(name: str, port: int) -> dict[str, Any]:
    """Every address that DNS has for this name: this needs no access to the API server."""
    asked = {"names": [name], "type": "A", "port": port, "refresh_interval": f"{_FIND_SECONDS}s"}
    return {"dns_sd_configs": [asked]}


def _fixed(*addresses: str) -> dict[str, Any]:
    return {"static_configs": [{"targets": [*addresses]}]}


def _labelled(label: str, value: str) -> dict[str, Any]:
    return {"target_label": label, "replacement": value}


def _at(server: str) -> str:
    return f"{server}:{PORTS[server]}"
