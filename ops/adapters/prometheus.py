"""Queries of the stack's Prometheus, run in its pod: no network policy has to admit the operator's machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from ops.adapters.cluster import Cluster
from ops.errors import NotMeasured, OpsError
from settings import Monitoring, StackSettings

_SECONDS = 15
_NAME = "runbook_query"
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
        """Several by name, as one query; instead of samples, why there are none.

        One command in the pod: the client of the API server runs no two at a time, and each takes a third of a second.
        """
        if not queries:
            return {}
        try:
            samples = self.query(join_queries(queries))
        except OpsError as error:
            return dict.fromkeys(queries, error.brief)
        found: dict[str, list[Sample] | str] = {name: [] for name in queries}
        for name in queries:
            found[name] = [
                Sample({key: value for key, value in one.labels.items() if key != _NAME}, one.value)
                for one in samples
                if one.labels.get(_NAME) == name
            ]
        return found


def prometheus_of(settings: StackSettings, cluster: Cluster) -> Prometheus:
    """The stack's Prometheus; NotMeasured says what to write where there is none."""
    monitoring = settings.monitoring
    if monitoring is None or monitoring.image is None:
        raise NotMeasured("there is no monitoring: write runbook:monitoring (docs/monitoring.md), then deploy")
    return Prometheus(cluster, monitoring)


def join_queries(queries: Mapping[str, str]) -> str:
    """One query with the samples of all, each labelled with the name of its own."""
    return " or ".join(f'label_replace({promql}, "{_NAME}", "{name}", "", "")' for name, promql in queries.items())


def parse_samples(printed: str) -> list[Sample]:
    """What promtool prints of an instant vector."""
    return [Sample(item["metric"], float(item["value"][1])) for item in json.loads(printed or "[]")]
