"""The go-live checklist against a real Redis, PostgreSQL, mail server with STARTTLS and clamd: green, and red line by
line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from settings.go_live import GoLive
from tasks.go_live import clamav
from tests.support import go_live_world as world
from tests.support.rotation_world import Cache
from tests.support.servers import Postgres
from tests.support.task_processes import Outcome, task

EICAR = "".join(clamav._PIECES).encode()
WEBHOOKS = {"/api/webhooks/stripe": "whsec_payments1", "/api/webhooks/stripe-identity": "whsec_identity1"}
SECRETS = ("STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "STRIPE_IDENTITY_WEBHOOK_SECRET", "SMTP_URL", "SENTRY_DSN")
ADMINISTRATORS = {"query": "SELECT id, totp, recovery_codes FROM administrators"}
LINES = {"variables", "api", "frontend", "stripe", "smtp", "redis", "clamav", "administrators"}


@dataclass
class World:
    """Everything in order."""

    environment: dict[str, str]
    shop: world.Shop
    url: str
    settings: dict[str, Any] = field(default_factory=dict)
    production: bool = True

    def run(self) -> Outcome:
        settings = GoLive.model_validate({"administrators": ADMINISTRATORS, **self.settings})
        given = json.dumps(
            settings.to_task("/api/health", SECRETS, production=self.production, url_of=lambda _: self.url)
        )
        outcome = task({**self.environment, "GO_LIVE": given}, "go-live", "check")
        assert outcome.exit_code == 0, outcome
        return outcome

    def failed(self) -> dict[str, dict[str, Any]]:
        """The step at which each line failed."""
        lines = self.run().result["lines"]
        return {name: steps[-1] for name, steps in lines.items() if not steps[-1]["passed"]}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.issue_certificate(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def mail(certificate: Path) -> Iterator[int]:
    with world.mail_server(certificate) as port:
        yield port


@pytest.fixture(scope="module")
def scanner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with world.clamd(tmp_path_factory.mktemp("clamd"), EICAR) as port:
        yield port


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cache]:
    cache = Cache(tmp_path_factory.mktemp("redis"))
    with cache.serving():
        yield cache


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[str]:
    with postgres.database() as name:
        postgres.execute(
            "CREATE TABLE administrators (id int, totp bool, recovery_codes text[]);"
            "INSERT INTO administrators VALUES (1, true, NULL), (2, false, '{a,b}')",
            name,
        )
        yield name


@pytest.fixture
def shop() -> Iterator[tuple[world.Shop, str]]:
    shop = world.Shop(dict(WEBHOOKS))
    with shop.serving() as url:
        yield shop, url


@pytest.fixture
def ready(
    shop: tuple[world.Shop, str],
    mail: int,
    scanner: int,
    certificate: Path,
    cache: Cache,
    postgres: Postgres,
    database: str,
) -> World:
    served, url = shop
    return World(
        {
            "SENTRY_DSN": "https://key@sentry.example.com/1",
            "PUBLIC_URL": "https://shop.example.com",
            "DATABASE_URL": postgres.url(database),
            "REDIS_URL": cache.url("default", cache.admin_password),
            "SMTP_URL": f"smtp://shop:{quote(world.PASSWORD, safe='')}@127.0.0.1:{mail}",
            "CLAMAV_HOST": "127.0.0.1",
            "CLAMAV_PORT": str(scanner),
            "STRIPE_SECRET_KEY": "sk_live_abcdefgh",
            "STRIPE_WEBHOOK_SECRET": WEBHOOKS["/api/webhooks/stripe"],
            "STRIPE_IDENTITY_WEBHOOK_SECRET": WEBHOOKS["/api/webhooks/stripe-identity"],
            "SSL_CERT_FILE": str(certificate),
        },
        served,
        url,
    )


def test_everything_in_order_passes_with_evidence_of_each_step(ready: World) -> None:
    lines = ready.run().result["lines"]
    assert set(lines) == LINES
    assert all(step["passed"] for steps in lines.values() for step in steps), lines
    found = {name: {step["step"]: step["found"] for step in steps} for name, steps in lines.items()}
    assert found["smtp"]["STARTTLS"].startswith("TLSv1")
    assert found["smtp"]["AUTH"].startswith("235")
    assert found["clamav"]["EICAR"].endswith("FOUND")
    assert "Authentication required" in found["redis"]["refuses others"]
    assert found["stripe"]["wrong signature to /api/webhooks/stripe"] == "refused (400)"
    assert found["administrators"]["second factor"] == "2 accounts, each with a second factor"


def test_what_is_left_out_is_not_tried(ready: World) -> None:
    ready.environment["CLAMAV_HOST"] = "nowhere.invalid"
    ready.settings = {"without": {"clamav": "customers upload nothing"}}
    assert set(ready.run().result["lines"]) == LINES - {"clamav"}


def test_the_report_has_no_secret(ready: World) -> None:
    ready.environment["REDIS_URL"] = ready.environment["REDIS_URL"].replace("@", "x@")
    ready.environment["SMTP_URL"] = ready.environment["SMTP_URL"].replace("shop:", "shop:wrong-")
    text = json.dumps(ready.run().result)
    for name in ("STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET"):
        assert ready.environment[name] not in text
    assert "secret-7" not in text
    assert "wrong-" not in text


Change = Callable[[World], object]


def set_to(**values: str) -> Change:
    return lambda world: world.environment.update(values)


def unset(name: str) -> Change:
    return lambda world: world.environment.pop(name)


def settings(**values: Any) -> Change:
    return lambda world: world.settings.update(values)


def broken(path: str) -> Change:
    return lambda world: world.shop.broken.add(path)


RED: list[tuple[str, Change, str, str]] = [
    ("variables", unset("SENTRY_DSN"), "variables", "SENTRY_DSN not set"),
    ("variables", set_to(SENTRY_DSN="<your DSN>"), "variables", "SENTRY_DSN set to a placeholder"),
    ("variables", settings(variables=["ANALYTICS_ID"]), "variables", "ANALYTICS_ID not set"),
    ("api", broken("/api/health"), "GET /api/health", "500 in"),
    (
        "api",
        settings(api={"check": {"path": "/api/health", "fields": {"status": "ok"}}}),
        "GET /api/health",
        'status "healthy", not "ok"',
    ),
    (
        "api",
        settings(api={"check": {"path": "/api/health", "fields": {"checks.0.status": "ok"}}}),
        "GET /api/health",
        "without the field checks.0.status",
    ),
    ("frontend", settings(frontend={"check": {"path": "/", "contains": "Basket"}}), "GET /", "without 'Basket'"),
    ("frontend", settings(frontend={"check": {"path": "/nowhere"}}), "GET /nowhere", "404 in"),
    (
        "frontend",
        settings(frontend={"check": {"path": "/", "headers": {"Authorization": "Bearer ${TOKEN}"}}}),
        "GET /",
        "TOKEN",
    ),
    ("stripe", unset("STRIPE_WEBHOOK_SECRET"), "variables", "STRIPE_WEBHOOK_SECRET not set"),
    ("stripe", set_to(STRIPE_SECRET_KEY="sk_test_abcdefgh"), "key", "test mode"),
    ("stripe", set_to(STRIPE_WEBHOOK_SECRET="whsec_of_another"), "signed event to /api/webhooks/stripe", "400"),
    ("stripe", broken("/api/webhooks/stripe-identity"), "signed event to /api/webhooks/stripe-identity", "500"),
    (
        "stripe",
        lambda world: setattr(world.shop, "trusting", True),
        "wrong signature to /api/webhooks/stripe",
        "did not sign is not refused",
    ),
    ("smtp", unset("SMTP_URL"), "variables", "SMTP_URL not set"),
    ("smtp", set_to(SMTP_URL="mail.example.com"), "address", "no SMTP URL"),
    ("smtp", set_to(SMTP_URL="smtp://shop:x@nowhere.invalid:587"), "connect", "cannot be reached"),
    ("smtp", lambda world: world.environment.pop("SSL_CERT_FILE"), "STARTTLS", "CERTIFICATE_VERIFY_FAILED"),
    ("redis", unset("REDIS_URL"), "variables", "REDIS_URL not set"),
    ("redis", set_to(REDIS_URL="redis://nowhere.invalid:6379/0"), "connect", "cannot be reached"),
    ("clamav", unset("CLAMAV_HOST"), "variables", "CLAMAV_HOST not set"),
    ("clamav", set_to(CLAMAV_HOST="nowhere.invalid"), "connect", "cannot be reached"),
    (
        "administrators",
        settings(administrators={"query": "SELECT id, totp FROM administrators"}),
        "second factor",
        "1 of 2 have no second factor: 2",
    ),
    (
        "administrators",
        settings(administrators={**ADMINISTRATORS, "least": 3}),
        "second factor",
        "finds 2 accounts, and at least 3",
    ),
    (
        "administrators",
        settings(administrators={"query": "SELECT id FROM administrators"}),
        "second factor",
        "has one column",
    ),
    (
        "administrators",
        settings(administrators={"query": "DELETE FROM administrators RETURNING id, true"}),
        "second factor",
        "read-only",
    ),
    (
        "administrators",
        settings(administrators={"query": "SELECT id, totp FROM nowhere"}),
        "second factor",
        "does not exist",
    ),
]


@pytest.mark.parametrize(("line", "change", "step", "words"), RED, ids=[f"{it[0]}-{it[3][:24]}" for it in RED])
def test_red_in_one_line_and_no_other(ready: World, line: str, change: Change, step: str, words: str) -> None:
    change(ready)
    failed = ready.failed()
    assert set(failed) == {line}
    assert failed[line]["step"] == step
    assert words in failed[line]["found"]


def test_a_mail_password_that_is_refused(ready: World) -> None:
    ready.environment["SMTP_URL"] = ready.environment["SMTP_URL"].replace("shop:", "shop:wrong-")
    failed = ready.failed()
    assert set(failed) == {"smtp"}
    assert failed["smtp"]["step"] == "AUTH"
    assert "login refused: 535" in failed["smtp"]["found"]


def test_a_mail_server_without_starttls(ready: World) -> None:
    with world.mail_server(None) as port:
        ready.environment["SMTP_URL"] = f"smtp://shop:x@127.0.0.1:{port}"
        assert "does not offer STARTTLS" in ready.failed()["smtp"]["found"]


def test_a_mail_server_by_variables_and_with_tls_from_the_start(ready: World, certificate: Path) -> None:
    with world.mail_server(certificate, implicit=True) as port:
        del ready.environment["SMTP_URL"]
        names = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(port), "SMTP_USER": "shop", "SMTP_PASS": world.PASSWORD}
        ready.environment |= names
        ready.settings = {"smtp": {"password": "SMTP_PASS", "tls": "implicit"}}
        assert ready.failed() == {}


def test_a_redis_password_that_is_refused_and_a_user_that_may_not_write(ready: World, cache: Cache) -> None:
    cache.admin("ACL", "SETUSER", "reader", "on", ">reader-pw", "~*", "+@read", "+@connection")
    ready.environment["REDIS_URL"] = cache.url("reader", "reader-pw")
    failed = ready.failed()
    assert set(failed) == {"redis"}
    assert failed["redis"]["step"] == "write"
    ready.environment["REDIS_URL"] = cache.url("reader", "another")
    assert ready.failed()["redis"]["step"] == "AUTH"


def test_a_redis_user_with_keys_of_its_own(ready: World, cache: Cache) -> None:
    cache.admin("ACL", "SETUSER", "shop", "on", ">shop-pw", "~shop:*", "+@all")
    ready.environment["REDIS_URL"] = cache.url("shop", "shop-pw")
    assert set(ready.failed()) == {"redis"}
    ready.settings = {"redis": {"keyPrefix": "shop:go-live:"}}
    assert ready.failed() == {}


def test_a_redis_that_accepts_everybody(ready: World, cache: Cache) -> None:
    cache.admin("ACL", "SETUSER", "default", "nopass")
    try:
        failed = ready.failed()["redis"]
        assert failed["step"] == "refuses others"
        assert failed["found"] == "the server accepts clients without a password"
        ready.settings = {"redis": {"passwordRequired": False}}
        assert ready.failed() == {}
    finally:
        cache.admin("ACL", "SETUSER", "default", "resetpass", f">{cache.admin_password}")


def test_a_scanner_that_finds_nothing(ready: World, tmp_path: Path) -> None:
    with world.clamd(tmp_path, b"another file") as port:
        ready.environment |= {"CLAMAV_HOST": f"tcp://127.0.0.1:{port}", "CLAMAV_PORT": ""}
        failed = ready.failed()["clamav"]
    assert failed["step"] == "EICAR"
    assert "stream: OK" in failed["found"]


def test_a_scanner_that_finds_a_virus_in_everything(ready: World, tmp_path: Path) -> None:
    with world.clamd(tmp_path, clamav._CLEAN) as port:
        ready.environment["CLAMAV_PORT"] = str(port)
        assert ready.failed()["clamav"]["step"] == "clean file"


def test_what_listens_and_is_no_scanner(ready: World, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clamav, "SECONDS", 1)
    ready.environment["CLAMAV_PORT"] = str(cache.port)
    assert ready.failed()["clamav"]["step"] == "PING"


def test_the_host_header_of_the_settings_is_sent(ready: World) -> None:
    ready.environment["HOST_HEADER"] = "shop.example.com"
    assert ready.failed() == {}
    assert set(ready.shop.hosts) == {"shop.example.com"}


def test_a_test_key_is_right_outside_production(ready: World) -> None:
    ready.environment["STRIPE_SECRET_KEY"] = "sk_test_abcdefgh"
    ready.production = False
    assert ready.failed() == {}


def test_the_repository_does_not_have_the_test_virus_in_one_piece() -> None:
    import tasks

    for file in Path(tasks.__path__[0]).rglob("*"):
        assert file.is_dir() or EICAR not in file.read_bytes(), file


def test_a_network_that_refuses_at_first_is_waited_for(ready: World) -> None:
    """As that of a new pod does, until its policies are in place."""
    with ready.shop.serving(after=3) as url:
        ready.url = url
        assert ready.failed() == {}
