"""Rule files of Prometheus, test files of promtool, and the object of the Prometheus Operator."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

import yaml

from monitoring.alerts.promtool_cases import Case
from monitoring.alerts.rule import Alert, Domain

_LABEL = re.compile(r"\{\{ \$labels\.(\w+) \}\}")


def as_yaml(content: Mapping[str, Any]) -> str:
    """A file for Prometheus and Alertmanager, whose YAML parser rejects JSON escapes of 🚨."""
    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=10_000)


def rule_group(domain: Domain, namespace: str) -> dict[str, Any]:
    """The domain as a group of rules; every alert carries the stack's namespace."""
    rules: list[dict[str, Any]] = [
        {"record": one.record, "expr": one.expr, "labels": {"namespace": namespace}} for one in domain.recordings
    ]
    for alert in domain.alerts:
        rule = alert.to_prometheus()
        rule["labels"] |= {"namespace": namespace}
        rules.append(rule)
    return {"name": domain.name, "interval": f"{domain.every}s", "rules": rules}


def rule_files(domains: Iterable[Domain], namespace: str) -> dict[str, dict[str, Any]]:
    """Rule files by their names, as Prometheus reads them."""
    return {f"{domain.name}.rules.yaml": {"groups": [rule_group(domain, namespace)]} for domain in domains}


def promtool_files(domains: Iterable[Domain], namespace: str) -> dict[str, dict[str, Any]]:
    """Files for `promtool test rules`, next to the rule files. One for each step: promtool evaluates all tests of
    a file at the same interval."""
    found: dict[str, dict[str, Any]] = {}
    for domain in domains:
        cases = sorted(((case.step, alert, case) for alert in domain.alerts for case in alert.cases), key=_step)
        for step, some in groupby(cases, key=_step):
            found[f"{domain.name}-{step}s.test.yaml"] = {
                "rule_files": [f"{domain.name}.rules.yaml"],
                "evaluation_interval": f"{step}s",
                "tests": [_test(alert, case, namespace) for _, alert, case in some],
            }
    return found


def _step(entry: tuple[int, Alert, Case]) -> int:
    return entry[0]


def _test(alert: Alert, case: Case, namespace: str) -> dict[str, Any]:
    return {
        "name": f"{alert.name}: {case.title}",
        "interval": f"{case.step}s",
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "alert_rule_test": [
            {
                "eval_time": f"{at}s",
                "alertname": alert.name,
                "exp_alerts": [_expected(alert, case, namespace)] if firing else [],
            }
            for at, firing in case.checks
        ],
    }


def _expected(alert: Alert, case: Case, namespace: str) -> dict[str, Any]:
    rule = alert.to_prometheus()
    annotations = {key: _filled(text, case.labels) for key, text in rule["annotations"].items()}
    if alert.value:
        annotations["value"] = case.value
    labels = {**case.labels, **rule["labels"], "namespace": namespace}
    return {"exp_labels": labels, "exp_annotations": annotations}


def _filled(template: str, labels: Mapping[str, str]) -> str:
    return _LABEL.sub(lambda found: labels.get(found[1], ""), template)


def prometheus_rule(domains: Iterable[Domain], namespace: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """The same rules for a cluster with the Prometheus Operator, which selects them by these labels."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "runbook", "namespace": namespace, "labels": dict(labels)},
        "spec": {"groups": [rule_group(domain, namespace) for domain in domains]},
    }
