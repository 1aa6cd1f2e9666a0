"""The rollback trigger on the ingress controller's own errors: 502, 503 and 504, which no application counts.

A process that ends on a request, or answers too late, has no metric of it. The controller answers the customer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from monitoring.alerts.promtool_cases import Boundary, Case, rising, steady
from monitoring.alerts.requests import Step, first_step, plain_share, share
from monitoring.alerts.rule import PERCENT, Alert, Recording
from monitoring.alerts.trigger import CHAPTER, CONTROLLER, UP, blameless
from settings.monitoring import Monitoring
from settings.servers import Gateway


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The metrics of an ingress controller."""

    requests: str
    """Counter of requests to services."""
    status: str
    """Its label with the status."""
    of: Mapping[str, str]
    """Regular expressions of labels that only one namespace's services have; `{namespace}` and `{services}` are filled
    in."""


KINDS: Mapping[str, Kind] = {
    "traefik": Kind(
        requests="traefik_service_requests_total",
        status="code",
        of={"service": "{namespace}-({services})-.+@kubernetes.*"},
    ),
    "ingress-nginx": Kind(
        requests="nginx_ingress_controller_requests",
        status="status",
        # The pod's own labels have the plain names.
        of={"exported_namespace": "{namespace}", "exported_service": "{services}"},
    ),
}
_ERRORS, _REQUESTS = "gateway_errors", "gateway_requests"


def gateway_requests(gateway: Gateway) -> str:
    return f"{KINDS[gateway.controller].requests}{{}}"


def gateway_records(gateway: Gateway, step: Step) -> tuple[Recording, Recording]:
    kind = KINDS[gateway.controller]
    failed = f'{kind.requests}{{{kind.status}=~"50[234]"}}'
    return step.record(_ERRORS, failed), step.record(_REQUESTS, gateway_requests(gateway))


def gateway_errors(monitoring: Monitoring, gateway: Gateway, step: Step) -> Alert:
    limit, window = monitoring.triggers.error_rate_percent, monitoring.triggers.error_rate_seconds
    kind, first = KINDS[gateway.controller], first_step(step)

    def answers(**values: str) -> dict[str, str]:
        return {f'{kind.requests}{{{kind.status}="{status[1:]}"}}': each for status, each in values.items()}

    above, at = 10 * limit + 1, 10 * limit
    return Alert(
        name="RollbackGateway",
        measure=share(monitoring, step, _ERRORS, _REQUESTS, window),
        operator=">",
        limit=limit,
        shown=plain_share(step, _ERRORS, _REQUESTS, window),
        severity="critical",
        summary=f"the ingress controller answered more than {limit:g} % of the requests within {window} s with 502, "
        "503 or 504",
        about="gateway",
        channel="critical",
        chapter=f"{CHAPTER}: ERROR_RATE_CRITICAL, of answers that the application did not give",
        missing="without requests it does not fire; without metrics: `MetricsMissing`",
        advice=CONTROLLER,
        value=PERCENT,
        action="rollback",
        quiet=True,
        boundary=Boundary(
            beyond=UP | answers(_200=rising(1000 - above), _502=rising(above)),
            within=UP | answers(_200=rising(1000 - at), _504=rising(at)),
            step=step.every,
            since=first,
            value=f"{above / 10:.1f} %",
        ),
        more=(
            Case(
                title="errors of the application, which it counts itself",
                series=UP | answers(_200=steady(0), _500=rising(1000)),
                checks=((first, False), (first + 10 * step.every, False)),
                step=step.every,
            ),
            *blameless(monitoring, step, lambda values: answers(_200=values, _503=values), "50.0 %", {}),
        ),
    )
