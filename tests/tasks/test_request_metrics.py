"""Each preset, scraped by a real Prometheus: what applications and ingress controllers export is counted under the
names that alerts ask for, and what is not this stack's is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.prometheus import MonitoredStack, prometheus
from settings import Monitoring, SettingsError, StackFile, parse
from settings.request_metrics import PRESETS
from tests.support import http_servers
from tests.support.program import RELEASE, committed, secrets_for
from tests.support.prometheus import await_answer, query, serve_prometheus

EXPORTED = {
    "prom-client": """
http_request_duration_seconds_count{route="/shop",status="200",release="1"} 90
http_request_duration_seconds_count{route="/shop",status="500",release="1"} 10
http_request_duration_seconds_bucket{route="/shop",status="200",le="0.5"} 80
""",
    "promhttp": """
http_request_duration_seconds_count{handler="/shop",code="200",method="get"} 90
http_request_duration_seconds_count{handler="/shop",code="500",method="get"} 10
http_request_duration_seconds_bucket{handler="/shop",code="200",le="0.5"} 80
""",
    "micrometer": """
http_server_requests_seconds_count{uri="/shop",status="200",method="GET",outcome="SUCCESS"} 90
http_server_requests_seconds_count{uri="/shop",status="500",method="GET",outcome="SERVER_ERROR"} 10
http_server_requests_seconds_bucket{uri="/shop",status="200",le="0.5"} 80
""",
    "django-prometheus": """
django_http_responses_total_by_status_view_method_total{view="/shop",status="200",method="GET"} 90
django_http_responses_total_by_status_view_method_total{view="/shop",status="500",method="GET"} 10
django_http_requests_latency_seconds_by_view_method_count{view="/shop",method="GET"} 100
django_http_requests_latency_seconds_by_view_method_bucket{view="/shop",method="GET",le="0.5"} 80
""",
    "traefik": """
traefik_service_request_duration_seconds_count{code="200",method="GET",service="shop-backend-http@kubernetes"} 90
traefik_service_request_duration_seconds_count{code="500",method="GET",service="shop-backend-http@kubernetes"} 10
traefik_service_request_duration_seconds_bucket{code="200",service="shop-backend-http@kubernetes",le="0.5"} 80
traefik_service_request_duration_seconds_count{code="500",method="GET",service="shop-lockdown-8001@kubernetes"} 1000
traefik_service_request_duration_seconds_count{code="500",method="GET",service="other-backend-http@kubernetes"} 1000
""",
    "ingress-nginx": """
nginx_ingress_controller_request_duration_seconds_count{namespace="shop",service="backend",path="/shop",status="200"} 90
nginx_ingress_controller_request_duration_seconds_count{namespace="shop",service="backend",path="/shop",status="500"} 10
nginx_ingress_controller_request_duration_seconds_bucket{namespace="shop",service="backend",status="200",le="0.5"} 80
nginx_ingress_controller_request_duration_seconds_count{namespace="other",service="backend",path="/",status="500"} 1000
nginx_ingress_controller_request_duration_seconds_count{namespace="shop",service="lockdown",path="/",status="500"} 1000
""",
}
PODS = {"namespace": "traefik", "podLabels": {"app.kubernetes.io/name": "traefik"}}


_SAME: dict[str, Any] = {"host": "metrics.traefik.svc", "port": 9100, "pods": PODS}


def settings(preset: str, ingress: dict[str, Any] | None = None, **more: Any) -> Any:
    config = committed("Pulumi.sandbox.yaml", release=RELEASE)
    monitoring = config["runbook:monitoring"]
    prometheus = {**monitoring["prometheus"], "ingress": ingress}
    config["runbook:monitoring"] = {**monitoring, "prometheus": prometheus, "requests": {"preset": preset, **more}}
    return parse(StackFile("Pulumi.test.yaml", config, frozenset(f"secrets:{one}" for one in secrets_for(config))))


def source(preset: str) -> dict[str, Any] | None:
    return {**_SAME, "controller": preset} if _by_controller(preset) else None


def _by_controller(preset: str) -> bool:
    return preset in ("traefik", "ingress-nginx")


@pytest.mark.parametrize("preset", PRESETS)
def test_requests_are_counted_under_one_name(preset: str, tmp_path: Path) -> None:
    asked: set[str] = set()

    class Exporter(http_servers.Handler):
        def do_GET(self) -> None:
            asked.add(self.path)
            self.answer_metrics(f"{EXPORTED[preset].strip()}\nprocess_start_time_seconds 1700000000\n")

    made = settings(preset, source(preset))
    config = prometheus(
        MonitoredStack(
            namespace="shop",
            monitoring=made.monitoring,
            application=made.application,
            ingress=made.ingress,
            rotations=made.rotations(),
        )
    )
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert ("backend" in jobs) == (not _by_controller(preset))
    job = jobs["requests" if _by_controller(preset) else "backend"]
    del job["dns_sd_configs"]
    job |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
    counted = 'sum by (status) (http_request_duration_seconds_count{namespace="shop",route!~"/api/live"})'
    with http_servers.serve(Exporter) as port:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
        with serve_prometheus(tmp_path, {"scrape_configs": [job]}) as url:

            def ask(expr: str) -> dict[str, float]:
                return {one["metric"].get("status", ""): float(one["value"][1]) for one in query(url, expr)}

            await_answer(ask, counted, {"200": 90, "500": 10})
            await_answer(ask, 'sum(http_request_duration_seconds_bucket{le="0.5"})', {"": 80})
            await_answer(ask, "count(process_start_time_seconds)", {"": 1})
            if preset != "traefik":
                await_answer(ask, 'sum(http_request_duration_seconds_count{route="/shop"})', {"": 100})
    assert asked == {made.monitoring.requests.names.path}


def test_an_ingress_controllers_preset_reads_the_ingress_controllers_metrics() -> None:
    with pytest.raises(SettingsError) as refused:
        settings("traefik")
    assert "requests.preset traefik reads its metrics" in str(refused.value)
    assert to_write(refused.value)["prometheus"]["ingress"]["controller"] == "traefik"
    with pytest.raises(SettingsError, match=r"requests\.preset is traefik: both name one server"):
        settings("traefik", source("ingress-nginx"))


def test_the_former_key_of_the_ingress_controllers_metrics_is_answered_with_the_one_to_write() -> None:
    with pytest.raises(SettingsError) as refused:
        settings("ingress-nginx", controller=_SAME)
    assert "1. runbook:monitoring.requests.controller\n" in str(refused.value)
    assert "this key is now runbook:monitoring.prometheus.ingress: move it there" in str(refused.value)
    written = to_write(refused.value)["prometheus"]["ingress"]
    assert settings("ingress-nginx", written).monitoring.gateway.controller == "ingress-nginx"
    with pytest.raises(SettingsError, match="which is set: remove it here"):
        settings("ingress-nginx", written, controller=_SAME)


def to_write(refused: SettingsError) -> dict[str, Any]:
    """Of one problem: the section as it should be written."""
    _, _, text = str(refused).partition("  write:\n")
    return yaml.safe_load(text)["runbook:monitoring"]


def test_single_names_of_a_preset_are_replaced() -> None:
    own = Monitoring.model_validate({"requests": {"histogram": "http_seconds", "route": "endpoint"}}).requests.names
    assert (own.count, own.bucket, own.route, own.status) == (
        "http_seconds_count", "http_seconds_bucket", "endpoint", "status",
    )  # fmt: skip
