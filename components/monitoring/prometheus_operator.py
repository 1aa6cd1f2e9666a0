"""Monitoring on a cluster with the Prometheus Operator, which reads these objects and runs the servers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from pulumi import Output
from pulumi_kubernetes.apiextensions import CustomResource

from components.base.names import BACKUP_EXPORTER, SERVICE, labels, metadata, selector
from components.monitoring.workloads import MONITORING, ControllerAddress, Placement
from monitoring.alertmanager import Places, alertmanager
from monitoring.alerts.render import prometheus_rule
from monitoring.alerts.rule import Domain
from monitoring.prometheus import BLACKBOX, LOG_COUNTER, PORTS, MonitoredStack, scrape_limits
from monitoring.request_metrics import relabelings
from settings.names import CONTROLLER

_GROUP = "monitoring.coreos.com"
_MATCHER = re.compile(r'^(?P<name>\w+)(?P<kind>=~|!~|!=|=)"(?P<value>.*)"$')
_FOLDER = "webhooks"


def register_operator_objects(
    ground: Placement,
    watched: MonitoredStack,
    alerts: Sequence[Domain],
    webhooks: Output[str],
    controller: ControllerAddress | None,
) -> None:
    """`webhooks` is the Secret with a URL for each `secrets:*` key of monitoring."""
    chosen = _Chosen(ground, watched)
    rule = prometheus_rule(alerts, watched.namespace, {})
    chosen.make("PrometheusRule", "runbook", rule["spec"])
    every, requests = {"interval": f"{watched.monitoring.scrape_seconds}s"}, watched.monitoring.requests
    for service in watched.services:
        here = {"matchLabels": selector(service.name, SERVICE)}
        endpoint: dict[str, Any] = {"port": "http", "path": requests.names.path, **every}
        if renamed := relabelings(requests):
            endpoint["metricRelabelings"] = [{_camel(key): value for key, value in each.items()} for each in renamed]
        limits = {_camel(name): limit for name, limit in scrape_limits(watched.monitoring).items()}
        chosen.make("PodMonitor", service.name, {"selector": here, "podMetricsEndpoints": [endpoint], **limits})
    for name in watched.exporters:
        here = {"matchLabels": selector(name, MONITORING)}
        # Its label `pod` is the pod whose log it counts, not its own pod.
        own = {"honorLabels": True} if name == LOG_COUNTER else {}
        chosen.make("ServiceMonitor", name, {"selector": here, "endpoints": [{"port": "http", **every, **own}]})
    if watched.backup:
        here = {"matchLabels": selector(BACKUP_EXPORTER, BACKUP_EXPORTER)}
        endpoint = {"port": "metrics", "interval": "30s"}
        chosen.make("ServiceMonitor", BACKUP_EXPORTER, {"selector": here, "endpoints": [endpoint]})
    for job, url in watched.http_checks.items():
        chosen.make(
            "Probe",
            job,
            {
                "jobName": job,
                "module": job,
                "interval": f"{watched.monitoring.health_seconds}s",
                "prober": {"url": f"{BLACKBOX}.{watched.namespace}.svc:{PORTS[BLACKBOX]}", "path": "/probe"},
                "targets": {"staticConfig": {"static": [url], "labels": {"namespace": watched.namespace}}},
            },
        )
    called = None
    if controller:
        here = {"matchLabels": selector(CONTROLLER, CONTROLLER)}
        chosen.make("ServiceMonitor", CONTROLLER, {"selector": here, "endpoints": [{"port": "http", **every}]})
        # Alertmanager is in another namespace.
        called = f"http://{CONTROLLER}.{watched.namespace}.svc:{controller.port}{urlsplit(controller.url).path}"
    config = alertmanager(watched.monitoring, Places(secrets=_FOLDER, controller=called))
    token = controller.token_secret_name if controller else None
    chosen.make("AlertmanagerConfig", "runbook", alertmanager_config(config, webhooks, token), version="v1alpha1")


class _Chosen:
    """Objects with the labels that the operator's servers select."""

    def __init__(self, ground: Placement, watched: MonitoredStack) -> None:
        self._ground = ground
        operator = watched.monitoring.operator
        self._labels = operator.labels if operator else {}

    def make(self, kind: str, name: str, spec: Mapping[str, Any], *, version: str = "v1") -> None:
        CustomResource(
            f"{kind.lower()}-{name}",
            api_version=f"{_GROUP}/{version}",
            kind=kind,
            metadata=metadata(name, self._ground.namespace, {**labels(name, MONITORING), **self._labels}),
            spec=spec,
            opts=self._ground.opts,
        )


def alertmanager_config(config: Mapping[str, Any], webhooks: Any, token: Any = None) -> dict[str, Any]:
    """Alertmanager's own configuration in the operator's schema: secrets are references to a Secret.

    `webhooks` has the URLs, `token` what the rollback controller asks for.
    """
    return {
        "route": _route(config["route"]),
        "inhibitRules": [
            {
                "sourceMatch": _matchers(rule["source_matchers"]),
                "targetMatch": _matchers(rule["target_matchers"]),
                "equal": rule["equal"],
            }
            for rule in config["inhibit_rules"]
        ],
        "receivers": [_receiver(receiver, webhooks, token) for receiver in config["receivers"]],
    }


def _route(route: Mapping[str, Any]) -> dict[str, Any]:
    made = {_camel(key): value for key, value in route.items() if key not in ("matchers", "routes")}
    if "matchers" in route:
        made["matchers"] = _matchers(route["matchers"])
    if "routes" in route:
        made["routes"] = [_route(inner) for inner in route["routes"]]
    return made


def _matchers(texts: Sequence[str]) -> list[dict[str, str]]:
    return [
        {"name": found["name"], "matchType": found["kind"], "value": found["value"]}
        for text in texts
        if (found := _MATCHER.match(text))
    ]


def _receiver(receiver: Mapping[str, Any], webhooks: Any, token: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"name": receiver["name"]}
    for slack in receiver.get("slack_configs", ()):
        message = {_camel(key): value for key, value in slack.items() if key != "api_url_file"}
        made["slackConfigs"] = [{**message, "apiURL": _key(slack["api_url_file"], webhooks)}]
    for hook in receiver.get("webhook_configs", ()):
        where = {"urlSecret": _key(hook["url_file"], webhooks)} if "url_file" in hook else {"url": hook["url"]}
        known = {"httpConfig": {"authorization": _authorization(token)}} if "http_config" in hook else {}
        made["webhookConfigs"] = [{"sendResolved": hook["send_resolved"], **where, **known}]
    return made


def _authorization(token: Any) -> dict[str, Any]:
    return {"type": "Bearer", "credentials": {"name": token, "key": "token"}}


def _key(file: str, secret: Any) -> dict[str, Any]:
    return {"name": secret, "key": file.removeprefix(f"{_FOLDER}/")}


def _camel(words: str) -> str:
    first, *rest = words.split("_")
    return first + "".join(word.capitalize() for word in rest)
