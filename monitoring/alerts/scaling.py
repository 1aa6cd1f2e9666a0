"""Autoscalers: they need metrics-server, which many clusters do not have, and nothing else says that it is missing."""

from __future__ import annotations

from monitoring.alerts.promtool_cases import Boundary, steady
from monitoring.alerts.rule import Alert, Domain
from settings.monitoring import Monitoring

_EVERY, _STEP = 30, 60


def autoscalers(monitoring: Monitoring) -> Domain:
    def condition(status: str) -> str:
        where = f'condition="ScalingActive",horizontalpodautoscaler="backend",status="{status}"'
        return f"kube_horizontalpodautoscaler_status_condition{{{where}}}"

    return Domain(
        name="autoscalers",
        title="Autoscalers",
        every=_EVERY,
        alerts=(
            Alert(
                name="AutoscalerBlind",
                measure="max by (horizontalpodautoscaler) "
                '(kube_horizontalpodautoscaler_status_condition{condition="ScalingActive",status="false"})',
                operator=">",
                limit=0,
                lasting=monitoring.infrastructure.lasting_seconds,
                severity="warning",
                summary="the autoscaler of {{ $labels.horizontalpodautoscaler }} cannot measure CPU: it adds no pods",
                about="autoscaling",
                channel="alerts",
                chapter="runbook-de-production §3.3: autoscaling on CPU",
                missing="without autoscalers it does not fire; without kube-state-metrics: `MetricsMissing`",
                advice="install metrics-server, or repair it: `kubectl top pods` fails as long as it does not answer",
                boundary=Boundary(
                    beyond={condition("false"): steady(1), condition("true"): steady(0)},
                    within={condition("false"): steady(0), condition("true"): steady(1)},
                    step=_STEP,
                    labels={"horizontalpodautoscaler": "backend"},
                ),
            ),
        ),
    )
