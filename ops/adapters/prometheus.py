"""Queries of the stack's Prometheus, run in its pod: no network policy has to admit the operator's machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ops.adapters.cluster import Cluster
from ops.errors import NotMeasured, OpsError
from settings import Monitoring, StackSettings

_SECONDS = 15
_URL = "http://127.0.0.1:9090"
_OWN = {"app.kubernetes.io/name": "prometheus"}


@dataclass(frozen=True)
class Sample:
    """A series and its value now; NaN where there is nothing to divide by."""

    labels: Mapping[str, str]
    value: float


class Prometheus:
    """The Prometheus that monitors a stack, its own or the operator's."""

    def __init__(self, cluster: Cluster, monitoring: Monitoring) -> None:
        self._cluster = cluster
        operated = monitoring.operated
        self._namespace = operated.prometheus.namespace if operated else cluster.namespace
        self._labels = operated.prometheus.pod_labels if operated else _OWN

    def query(self, promql: str) -> list[Sample]:
        """The samples of a query, whose series with braces (`up{}`) are limited to the stack's namespace."""
        from monitoring.alerts.rule import scoped

        argv = ["promtool", "query", "instant", "--format=json", _URL, scoped(promql, self._cluster.namespace)]
        printed = self._cluster.run_in_labelled(
            self._labels, argv, _SECONDS, namespace=self._namespace, container="prometheus"
        )
        if printed is None:
            raise NotMeasured(f"no pod of Prometheus is ready in namespace {self._namespace}")
        return parse_samples(printed)

    def query_all(self, queries: Mapping[str, str]) -> dict[str, list[Sample] | str]:
        """Several at a time, by name; instead of samples, why there are none."""
        with ThreadPoolExecutor(max_workers=6) as pool:
            pending = {name: pool.submit(self.query, promql) for name, promql in queries.items()}
            found: dict[str, list[Sample] | str] = {}
            for name, each in pending.items():
                try:
                    found[name] = each.result()
                except OpsError as error:
                    found[name] = error.brief
            return found


def prometheus_of(settings: StackSettings, cluster: Cluster) -> Prometheus:
    """The stack's Prometheus; NotMeasured says what to write where there is none."""
    monitoring = settings.monitoring
    if monitoring is None or monitoring.image is None:
        raise NotMeasured("there is no monitoring: write runbook:monitoring (docs/monitoring.md), then deploy")
    return Prometheus(cluster, monitoring)


def parse_samples(printed: str) -> list[Sample]:
    """What promtool prints of an instant vector."""
    return [Sample(item["metric"], float(item["value"][1])) for item in json.loads(printed or "[]")]
