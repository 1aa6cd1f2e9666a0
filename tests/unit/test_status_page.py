"""The status page: what it computes, what it shows, what it keeps to itself, and its objects."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest

from tasks.status_page.__main__ import StatusPage, make_server
from tasks.status_page.content import DAYS, Content, Site, read_content
from tasks.status_page.files import render_files
from tasks.status_page.page import STYLE
from tests.support import http_servers
from tests.support.program import RELEASE, run_program, stack_config
from tests.unit.test_settings import refusal

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
SITE = {"title": "Éclat & Co", "url": "https://status.example.com", "components": ["Shop", "Checkout"]}
PAGE = {
    "ingress": {"host": "status.example.com", "className": "traefik"},
    "title": "Example Shop",
    "components": [
        {"name": "Shop", "dependsOn": ["backend", "postgres"]},
        {"name": "Checkout", "dependsOn": ["payments"]},
    ],
}


def ago(**back: float) -> str:
    return (NOW - timedelta(**back)).isoformat()


def incident(identity: str, *periods: tuple[str, str | None, str], components: tuple[str, ...] = ("Shop",)) -> Any:
    return {
        "id": identity,
        "title": "Major outage",
        "startedAt": periods[0][0],
        "endedAt": periods[-1][1],
        "periods": [
            {"from": begin, "until": end, "impact": impact, "components": list(components)}
            for begin, end, impact in periods
        ],
        "updates": [{"at": periods[0][0], "text": "We are <looking> into it."}],
    }


def published(*incidents: Any, since: str | None = None, planned: tuple[Any, ...] = ()) -> dict[str, Any]:
    return {
        "since": since or ago(days=200),
        "publishedAt": ago(minutes=1),
        "incidents": list(incidents),
        "planned": list(planned),
    }


def content(*incidents: Any, **more: Any) -> Content:
    return read_content(Site.from_task(SITE), published(*incidents, **more), NOW)


# -- uptime and states ---------------------------------------------------------------------------------


def test_uptime_is_the_share_of_90_days_without_an_outage_of_that_part() -> None:
    found = content(incident("a", (ago(days=10), ago(days=10, hours=-9), "outage")))
    shop, checkout = found.parts
    assert shop.uptime == pytest.approx(1 - 9 / (DAYS * 24))
    assert checkout.uptime == 1
    assert found.state == shop.state == "operational"
    assert [one.identity for one in found.past] == ["a"]


def test_outages_at_the_same_time_count_once_and_slow_pages_do_not_count() -> None:
    found = content(
        incident("a", (ago(hours=10), ago(hours=6), "partial")),
        incident("b", (ago(hours=8), ago(hours=5), "outage")),
        incident("c", (ago(hours=4), ago(hours=1), "degraded")),
    )
    assert found.parts[0].uptime == pytest.approx(1 - 5 / (DAYS * 24))


def test_only_the_time_within_the_window_counts() -> None:
    found = content(incident("a", (ago(days=91), ago(days=89), "outage")))
    assert found.parts[0].uptime == pytest.approx(1 - 1 / DAYS)
    over = content(incident("b", (ago(days=95), ago(days=91), "outage")))
    assert (over.parts[0].uptime, over.past) == (1, [])


def test_days_before_the_records_begin_are_unknown_and_do_not_count_as_up() -> None:
    found = content(incident("a", (ago(days=1), ago(days=0.5), "outage")), since=ago(days=2))
    assert found.parts[0].uptime == pytest.approx(0.75)
    states = [state for _, state in found.parts[0].days]
    assert states == [*["unknown"] * 87, "operational", "outage", "operational"]


def test_the_most_severe_open_incident_decides() -> None:
    found = content(
        incident("a", (ago(hours=3), ago(hours=2), "outage"), (ago(hours=2), None, "degraded")),
        incident("b", (ago(hours=1), None, "partial")),
    )
    assert (found.parts[0].state, found.parts[1].state, found.state) == ("partial", "operational", "partial")
    assert [one.identity for one in found.open] == ["b", "a"]


def test_planned_maintenance_is_shown_until_it_is_over() -> None:
    def fix(begin: float, end: float) -> Any:
        return {"id": "p", "from": ago(hours=-begin), "until": ago(hours=-end), "text": "Disk", "components": ["Shop"]}

    assert content(planned=(fix(1, 2),)).parts[0].state == "operational"
    assert len(content(planned=(fix(1, 2),)).planned) == 1
    assert content(planned=(fix(-1, 1),)).parts[0].state == "maintenance"
    assert content(planned=(fix(-2, 0),)).planned == []


def test_without_a_publication_nothing_is_said_to_work() -> None:
    found = read_content(Site.from_task(SITE), None, NOW)
    assert {part.state for part in found.parts} == {found.state} == {"unknown"}
    page = render_files(SITE, None, NOW)["index.html"][1].decode()
    assert "Nothing has been reported yet" in page
    assert "uptime," not in page


# -- formats -------------------------------------------------------------------------------------------


class _Outline(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def files(now: datetime = NOW) -> dict[str, str]:
    made = published(
        incident("a", (ago(days=10), ago(days=10, hours=-9), "outage")),
        incident("b", (ago(hours=1), None, "partial"), components=("Shop", "Checkout")),
        planned=(
            {"id": "p", "from": ago(days=-2), "until": ago(days=-2.1), "text": "Disk & fan", "components": ["Shop"]},
        ),
    )
    return {name: text.decode() for name, (_, text) in render_files(SITE, made, now).items()}


def test_the_page_loads_nothing_runs_nothing_and_escapes_what_people_wrote() -> None:
    page = files()["index.html"]
    outline = _Outline()
    outline.feed(page)
    tags = [tag for tag, _ in outline.tags]
    assert not {"script", "img", "iframe", "form", "object"} & set(tags)
    assert not [key for _, given in outline.tags for key in given if key.startswith("on")]
    links = {given[key] for _, given in outline.tags for key in ("src", "href") if given.get(key)}
    assert links == {"feed.atom", "status.json", "data:,"}, "only its own files, relative to the page"
    assert "&lt;looking&gt;" in page
    assert "Éclat &amp; Co" in page
    assert tags.count("h1") == 1
    assert ("html", {"lang": "en"}) in outline.tags
    labels = [given["aria-label"] for tag, given in outline.tags if tag == "svg"]
    assert labels[0] == "The last 90 days. 19 November: major outage; 29 November: partial outage."
    assert "prefers-color-scheme:dark" in STYLE


def test_an_uptime_is_cut_off_and_says_what_it_is() -> None:
    second = published(incident("a", (ago(seconds=2), ago(seconds=1), "outage")))
    page = render_files(SITE, second, NOW)["index.html"][1].decode()
    assert "99.99 % uptime, 90 days" in page
    assert "not measured" in page


def test_the_feed_is_atom_and_an_entry_keeps_its_name() -> None:
    atom = "{http://www.w3.org/2005/Atom}"
    feed, later = (ElementTree.fromstring(files(now)["feed.atom"]) for now in (NOW, NOW + timedelta(hours=1)))  # noqa: S314
    ids = [entry.findtext(f"{atom}id") for entry in feed.iter(f"{atom}entry")]
    assert ids == [f"https://status.example.com/#{name}" for name in ("b", "a", "p")]
    assert ids == [entry.findtext(f"{atom}id") for entry in later.iter(f"{atom}entry")]
    assert feed.findtext(f"{atom}updated") == ago(hours=1).replace("+00:00", "Z")
    for part in (f"{atom}title", f"{atom}author/{atom}name", f"{atom}link"):
        assert feed.find(part) is not None


def test_the_json_has_the_same() -> None:
    said = json.loads(files()["status.json"])
    assert said["state"] == "partial"
    assert [part["state"] for part in said["components"]] == ["partial", "partial"]
    assert [one["id"] for one in said["incidents"]] == ["b", "a"]
    assert said["plannedMaintenance"][0]["text"] == "Disk & fan"


def test_the_server_shows_what_is_published_while_it_runs(tmp_path: Path) -> None:
    file = tmp_path / "status.json"
    with http_servers.closing_server(make_server(0, StatusPage(json.dumps(SITE), file))) as port:
        url = f"http://127.0.0.1:{port}"
        first = httpx.get(url)
        assert (first.status_code, "Nothing has been reported yet" in first.text) == (200, True)
        file.write_text(json.dumps(published(since=datetime.now(UTC).isoformat())))
        assert "All parts work" in httpx.get(f"{url}/").text
        head = httpx.head(f"{url}/index.html")
        assert (head.status_code, head.text, head.headers["Cache-Control"]) == (200, "", "public, max-age=30")
        assert "default-src 'none'" in head.headers["Content-Security-Policy"]
        assert httpx.get(f"{url}/feed.atom?x=1").headers["Content-Type"].startswith("application/atom+xml")
        for path in ("/../etc/passwd", "/metrics", "/status.json/"):
            assert httpx.get(f"{url}{path}").status_code == 404


# -- settings and objects ------------------------------------------------------------------------------


def test_its_pods_depend_on_nothing_of_the_shop() -> None:
    config = stack_config("Pulumi.sandbox.yaml", release=RELEASE, statusPage=PAGE)
    program = run_program(config)
    pods = program.one("Deployment", "status-page")
    for other in ("Deployment", "StatefulSet", "Secret"):
        for one in program.all(other):
            assert one is pods or not program.waits_for(pods, one), f"it waits for {one.urn}"
            assert one is pods or not program.waits_for(one, pods), f"{one.urn} waits for it"
    (only,) = pods.containers
    assert only["image"] == config["runbook:image"]
    assert "envFrom" not in only
    assert not any("valueFrom" in each for each in only["env"])
    assert {"name": "published", "configMap": {"name": "status-page-published", "optional": True}} in (pods.pod or {})[
        "volumes"
    ]
    assert "postgres" not in json.dumps(only["env"]), "customers do not read what a part depends on"
    assert pods.inputs["spec"]["replicas"] == 2
    assert program.one("PodDisruptionBudget", "status-page").inputs["spec"]["maxUnavailable"] == 1
    policy = program.one("NetworkPolicy", "allow-into-status-page").inputs["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    assert policy["ingress"][0]["ports"] == [{"port": 8080, "protocol": "TCP"}]
    ingress = program.one("Ingress", "status-page").inputs["spec"]
    assert [rule["host"] for rule in ingress["rules"]] == ["status.example.com"]
    assert ingress["tls"] == [{"hosts": ["status.example.com"]}]


def test_it_stays_under_maintenance_and_a_lockdown() -> None:
    lockdown = {"reason": "an attack", "since": "2026-11-29T10:00:00Z", "until": "2026-11-29T11:00:00Z"}
    given = stack_config("Pulumi.sandbox.yaml", release=RELEASE, statusPage=PAGE)
    before = run_program(given).one("Ingress", "status-page").inputs
    under = run_program({**given, "runbook:maintenance": {"reason": "a disk"}, "runbook:lockdown": lockdown})
    assert under.one("Ingress", "status-page").inputs == before


def test_without_the_section_there_is_none() -> None:
    program = run_program(stack_config("Pulumi.sandbox.yaml", release=RELEASE))
    assert not [one for one in program.objects if re.search("status-page", one.object_name)]


def test_certificates_that_cert_manager_issues_can_be_proven() -> None:
    issuer = {"cert-manager.io/cluster-issuer": "letsencrypt"}
    page = {**PAGE, "ingress": {**PAGE["ingress"], "annotations": issuer}}  # type: ignore[dict-item]
    program = run_program(stack_config("Pulumi.sandbox.yaml", release=RELEASE, statusPage=page))
    policy = program.one("NetworkPolicy", "allow-into-acme-solver-of-status-page").inputs["spec"]
    assert policy["ingress"][0]["ports"] == [{"port": 8089, "protocol": "TCP"}]


def test_a_host_of_the_shop_is_refused() -> None:
    config = stack_config("Pulumi.sandbox.yaml")
    host = config["runbook:ingress"]["host"]
    page = {**PAGE, "ingress": {"host": host, "className": "traefik"}}
    said = str(refusal({**config, "runbook:statusPage": page}))
    assert "give the page a host of its own" in said
    assert f"host: status.{host}" in said


def test_two_components_of_one_name_are_refused() -> None:
    page = {**PAGE, "components": [{"name": "Shop"}, {"name": "Shop"}]}
    assert "two components have this name" in str(refusal(stack_config("Pulumi.sandbox.yaml", statusPage=page)))
