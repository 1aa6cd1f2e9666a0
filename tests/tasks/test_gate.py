"""What the gate of a lockdown decides, by a real HAProxy in front of a real server."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.lockdown_gateway import ANY_ADDRESS, PROBE_PORT, Route, render_haproxy_config
from ops.commands import lockdown as locking
from sandbox import packages
from settings import Lockdown, Precautions
from settings.lockdown import GATE_PORT
from tests.support import http_servers
from tests.support.servers import free_ports

KNOWN, STRANGER = "203.0.113.7", "198.51.100.9"
PRECAUTIONS = Precautions(allow=("203.0.113.0/24", "2001:db8::/64"), closed_paths=("/admin", "/api/admin"))


@dataclass
class Gate:
    """A running gate and its log."""

    ports: list[int]
    probe: int
    log: Path
    address: str = "127.0.0.1"

    def ask(
        self, path: str = "/shop", method: str = "GET", seen: str = KNOWN, port: int = 0, **headers: str
    ) -> tuple[int, dict[str, str], str]:
        """Status, headers and body of a request that the ingress controller passes on."""
        connection = http.client.HTTPConnection(self.address, port or self.ports[0], timeout=10)
        given = {"X-Forwarded-For": seen, **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request(method, path, headers=given)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body

    def refused(self, path: str = "/shop", method: str = "GET", seen: str = KNOWN, **headers: str) -> str | None:
        status, _, body = self.ask(path, method, seen, 0, **headers)
        assert status in (200, 503), body
        return json.loads(body)["refused"] if status == 503 else None

    def lines(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """Answers with what it was asked; its port."""

    class Echo(http_servers.Handler):
        def _answer(self) -> None:
            request = {"method": self.command, "path": self.path, "headers": list(self.headers.items())}
            self.answer(200, json.dumps(request))

        do_GET = do_HEAD = do_OPTIONS = do_POST = do_PUT = do_PATCH = do_DELETE = do_TRACE = do_PROPFIND = _answer

    with http_servers.serve(Echo) as port:
        yield port


class Gates:
    def __init__(self, folder: Path, target: int) -> None:
        self._folder, self._target = folder, target
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, lockdown: Lockdown, address: str = "127.0.0.1") -> Gate:
        *ports, probe = free_ports(3)
        number = len(self._running)
        file, log = self._folder / f"{number}.cfg", self._folder / f"{number}.log"
        text = render_haproxy_config(lockdown, [Route(port, "localhost", self._target) for port in ports])
        file.write_text(text.replace(f":{PROBE_PORT}", f":{probe}"))
        command = ["setpriv", "--pdeathsig=KILL", packages.require("haproxy"), "-db", "-f", str(file)]
        with log.open("wb") as sink:
            # A pod listens on all addresses; the test only on the loopback interface.
            environment = {**os.environ, "GATE_ADDRESS": address}
            self._running.append(subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, env=environment))
        gate = Gate(ports, probe, log)
        deadline = time.monotonic() + 10
        while True:
            try:
                assert gate.ask(port=probe)[0] == 200
                return gate
            except ConnectionRefusedError:
                assert self._running[-1].poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)

    def stop(self) -> None:
        for each in self._running:
            each.kill()
            each.wait()


@pytest.fixture(scope="module")
def gates(server: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gates]:
    made = Gates(tmp_path_factory.mktemp("gates"), server)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def gate(gates: Gates) -> Gate:
    return gates.start(PRECAUTIONS.lockdown("a 'canary' reason\n", datetime.now(UTC), seconds=600))


@pytest.fixture(scope="module")
def proxied(gates: Gates) -> Gate:
    behind = PRECAUTIONS.model_copy(update={"trusted_proxies": 1})
    return gates.start(behind.lockdown("x", datetime.now(UTC)))


@pytest.mark.parametrize(
    ("seen", "refused"),
    [
        (KNOWN, None),
        ("203.0.113.255", None),
        ("203.0.114.0", "source"),
        ("2001:db8::17", None),
        ("2001:db8:0:1::17", "source"),
        (STRANGER, "source"),
        # The ingress controller appends the last address; those before it are forged by the client.
        (f"{STRANGER}, {KNOWN}", None),
        (f"{KNOWN}, {STRANGER}", "source"),
        ("", "source"),
        ("unknown", "source"),
        (f"{KNOWN}, unknown", "source"),
    ],
)
def test_only_known_sources_come_in(gate: Gate, seen: str, refused: str | None) -> None:
    assert gate.refused(seen=seen) == refused


def test_a_second_header_counts_as_the_last(gate: Gate) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", gate.ports[0], timeout=10)
    connection.putrequest("GET", "/shop")
    connection.putheader("X-Forwarded-For", KNOWN)
    connection.putheader("X-Forwarded-For", STRANGER)
    connection.endheaders()
    assert connection.getresponse().status == 503
    connection.close()


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_reading_passes(gate: Gate, method: str) -> None:
    assert gate.ask(method=method)[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "get"])
def test_writing_does_not(gate: Gate, method: str) -> None:
    assert gate.refused(method=method) == "method"


def test_a_connection_that_becomes_another_protocol_does_not(gate: Gate) -> None:
    assert (
        gate.refused(Connection="Upgrade", Upgrade="websocket", Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==")
        == "method"
    )


@pytest.mark.parametrize(
    "path",
    [
        "/admin", "/admin/", "/admin?x=1", "/ADMIN", "/administration", "//admin", "/%61dmin", "/%2Fadmin", "/admin;x",
        "/api/admin/users", "/api//admin", "/shop/../admin", "/shop/%2e%2e/admin", "/./admin", "/shop/..",
        "http://shop.example.com/admin",
    ],
)  # fmt: skip
def test_closed_paths_are_closed_for_every_client(gate: Gate, path: str) -> None:
    assert gate.refused(path) == "path"


@pytest.mark.parametrize("path", ["/", "/shop", "/shop/admin", "/api/products?from=/admin", "/a..b", "/shop?x=../y"])
def test_other_paths_are_open(gate: Gate, path: str) -> None:
    assert gate.refused(path) is None


def test_what_passes_arrives_as_it_was_sent(gate: Gate, server: int) -> None:
    sent = {"Host": "shop.example.com", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "shop.example.com",
            "X-Real-Ip": KNOWN, "Cookie": "a=b", "Authorization": "Bearer x"}  # fmt: skip
    through = json.loads(gate.ask("/a%2Fb?c=d&c=e", "GET", KNOWN, 0, **sent)[2])
    straight = json.loads(gate.ask("/a%2Fb?c=d&c=e", "GET", KNOWN, server, **sent)[2])
    for each in (through, straight):
        headers = {name.lower(): value for name, value in each["headers"]}
        headers.pop("connection", None)  # of each connection by itself
        each["headers"] = headers
    assert through == straight


def test_every_port_has_the_same_rules(gate: Gate) -> None:
    for port in gate.ports:
        assert gate.ask(port=port)[0] == 200
        assert gate.ask(port=port, seen=STRANGER)[0] == 503


def test_refused_clients_learn_when_to_retry(gate: Gate) -> None:
    status, headers, body = gate.ask(seen=STRANGER)
    refusal = json.loads(body)
    assert status == 503
    assert headers["content-type"] == "application/json"
    assert headers["cache-control"] == "no-store"
    assert (refusal["status"], refusal["from"]) == ("lockdown", STRANGER)
    left = (datetime.fromisoformat(refusal["until"]) - datetime.now(UTC)).total_seconds()
    assert abs(int(headers["retry-after"]) - left) < 3
    _, headers, page = gate.ask(seen=STRANGER, Accept="text/html,*/*;q=0.8")
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert "Closed for a while" in page
    assert "canary" not in body + page, "the reason is not for clients"


def test_only_refusals_are_logged_and_no_query(gate: Gate) -> None:
    gate.ask("/passes")
    gate.ask('/refused"%0a\\?token=secret', seen=STRANGER)
    deadline = time.monotonic() + 10
    while not (found := [line for line in gate.lines() if line["path"].startswith("/refused")]):
        assert time.monotonic() < deadline, gate.log.read_text()
        time.sleep(0.02)
    assert {key: found[0][key] for key in ("refused", "from", "method", "path")} == {
        "refused": "source", "from": STRANGER, "method": "GET", "path": '/refused"%0a\\',
    }  # fmt: skip
    assert "secret" not in gate.log.read_text()
    assert "/passes" not in gate.log.read_text()


@pytest.mark.parametrize(
    ("seen", "refused"),
    [
        (f"{KNOWN}, {STRANGER}", None),
        (f"{STRANGER}, {KNOWN}", "source"),
        (f"{KNOWN}, {STRANGER}, {STRANGER}", "source"),
        (KNOWN, "source"),  # not through the proxy
    ],
)
def test_behind_a_proxy_the_hop_before_it_counts(proxied: Gate, seen: str, refused: str | None) -> None:
    assert proxied.refused(seen=seen) == refused


def test_without_known_addresses_every_client_is_refused(gates: Gates) -> None:
    gate = gates.start(Precautions().lockdown("x", datetime.now(UTC)))
    assert gate.refused() == "source"
    assert gate.refused(seen="127.0.0.1") == "source"


def test_it_ends_by_the_clock(gates: Gates) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    lockdown = Lockdown(reason="x", since=now, until=now + timedelta(seconds=3), closed_paths=("/admin",))
    gate = gates.start(lockdown)
    while datetime.now(UTC) < lockdown.until - timedelta(seconds=0.2):
        assert gate.refused() == "source"
        time.sleep(0.1)
    deadline = time.monotonic() + 3
    while gate.ask()[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert datetime.now(UTC) >= lockdown.until
    for method, path, seen in (("POST", "/shop", STRANGER), ("GET", "/admin", STRANGER), ("DELETE", "/admin/1", "")):
        assert gate.refused(path, method, seen) is None


def test_where_the_kernel_has_ipv6_clients_of_both_families_are_answered(gates: Gates) -> None:
    """In a cluster with IPv6 services have addresses of that family, alone or beside the other."""
    shown = subprocess.run(
        ["sh", "-c", f"{ANY_ADDRESS}; echo $GATE_ADDRESS"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == ("::" if Path("/proc/net/if_inet6").exists() else "")
    both = gates.start(PRECAUTIONS.lockdown("x", datetime.now(UTC)), shown.stdout.strip())
    assert both.refused() is None
    if shown.stdout.strip():
        sixth = replace(both, address="::1")
        assert sixth.refused() is None
        # As a controller that listens on both families writes an IPv4 client.
        assert sixth.refused(seen=f"::ffff:{KNOWN}") is None
        assert sixth.refused(seen=f"::ffff:{STRANGER}") == "source"


def test_it_waits_for_an_answer_as_long_as_the_ingress() -> None:
    lockdown = PRECAUTIONS.lockdown("x", datetime.now(UTC))
    assert "timeout server 60s" in render_haproxy_config(lockdown, [Route(8080, "backend", 3000)])
    assert "timeout server 180s" in render_haproxy_config(lockdown, [Route(8080, "backend", 3000)], 180)


@pytest.mark.parametrize(
    ("began", "allow", "refuses"),
    [
        (0, (), True),
        (0, ("0.0.0.0/0", "::/0", "127.0.0.1"), True),
        # What an operator's clock that is two hours slow wrote.
        (-7200, (), False),
    ],
)
def test_a_pod_of_the_gate_says_whether_it_refuses(
    began: int, allow: tuple[str, ...], refuses: bool, gates: Gates
) -> None:
    """The request that `runbook security lockdown` sends from within the pod."""
    wanted = Precautions(allow=allow).lockdown("x", datetime.now(UTC) + timedelta(seconds=began))
    gate = gates.start(wanted)
    script = locking._ASK.replace(f", {GATE_PORT},", f", {gate.ports[0]},")
    printed = subprocess.run(["python3", "-c", script], capture_output=True, text=True, check=True).stdout
    assert locking.refuses(printed, wanted) is refuses
    assert not locking.refuses(printed, wanted.starting(wanted.until)), "another lockdown's"
