"""Under which names an application, or the ingress controller in front of it, counts its requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from settings.base import Settings

REQUESTS = "http_request_duration_seconds"
"""The histogram that alerts and dashboards ask for, with the labels `route`, `status`, and `release` and `git` where
they are known; Prometheus renames other metrics to it when it scrapes them."""
Label = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$", examples=["status"])]
MetricName = Annotated[str, Field(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$", examples=["http_server_requests_seconds"])]


@dataclass(frozen=True)
class Names:
    """Metrics and labels of a library or an ingress controller."""

    count: str
    """Counter of all answers, by status."""
    bucket: str
    """Buckets of their durations, in seconds."""
    route: str | None = "route"
    status: str = "status"
    path: str = "/metrics"


def _histogram(name: str, **more: str | None) -> Names:
    return Names(f"{name}_count", f"{name}_bucket", **more)  # pyright: ignore[reportArgumentType]


PRESETS = {
    "prom-client": _histogram(REQUESTS),
    "promhttp": _histogram(REQUESTS, route="handler", status="code"),
    "micrometer": _histogram("http_server_requests_seconds", route="uri", path="/actuator/prometheus"),
    "django-prometheus": Names(
        "django_http_responses_total_by_status_view_method_total",
        "django_http_requests_latency_seconds_by_view_method_bucket",
        route="view",
    ),
    "traefik": _histogram("traefik_service_request_duration_seconds", route=None, status="code"),
    "ingress-nginx": _histogram("nginx_ingress_controller_request_duration_seconds", route="path"),
}
_CONTROLLERS = ("traefik", "ingress-nginx")


class Requests(Settings):
    """How requests are counted. Error rate, response time and their triggers need nothing else of an application."""

    preset: Literal["prom-client", "promhttp", "micrometer", "django-prometheus", "traefik", "ingress-nginx"] = (
        "prom-client"
    )
    """Names of the metrics. `prom-client` is a histogram `http_request_duration_seconds` with the labels `route` and
    `status`; `promhttp` the same with `handler` and `code`. `traefik` and `ingress-nginx`: the ingress controller
    counts (`prometheus.ingress`), for an application without metrics."""
    path: Annotated[str | None, Field(pattern=r"^/", examples=["/metrics"])] = None
    """Path of the services' metrics. Default: `/metrics`; `/actuator/prometheus` for `micrometer`."""
    histogram: MetricName | None = None
    """Name of the histogram, without `_bucket`, where it is not the preset's."""
    route: Label | None = None
    """Label with the route, where it is not the preset's."""
    status: Label | None = None
    """Label with the status, where it is not the preset's."""

    @property
    def by_controller(self) -> bool:
        """Whether the ingress controller counts the requests, and no service has metrics."""
        return self.preset in _CONTROLLERS

    @property
    def names(self) -> Names:
        """The names in force."""
        preset = PRESETS[self.preset]
        return Names(
            count=f"{self.histogram}_count" if self.histogram else preset.count,
            bucket=f"{self.histogram}_bucket" if self.histogram else preset.bucket,
            route=self.route or preset.route,
            status=self.status or preset.status,
            path=self.path or preset.path,
        )
