"""The go-live checklist (runbook-de-production §5): what `runbook go-live` tries, and by which names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from settings.base import EnvName, Finding, Settings
from settings.commands import Command
from settings.http_check import HttpCheck

CHECKLIST = "runbook:checklist"
TOOLBOX = "go-live"
"""The suspended CronJob from which `runbook go-live` makes its Jobs."""
CHECKS, COMMAND = "checks", "command"
"""Its containers: the checks in the project's own image, and a command in the release's."""
LINES = {
    "variables": "Variables",
    "api": "API",
    "frontend": "Frontend",
    "stripe": "Stripe",
    "smtp": "SMTP",
    "redis": "Redis",
    "clamav": "ClamAV",
    "migrations": "Migrations",
    "backup": "Backup",
    "payments": "Payments",
    "administrators": "Administrators",
    "online": "Front door",
    "smoke": "Online smoke tests",
}
"""The lines of the checklist, in order, and their titles."""
Line = Literal[
    "variables",
    "api",
    "frontend",
    "stripe",
    "smtp",
    "redis",
    "clamav",
    "migrations",
    "backup",
    "payments",
    "administrators",
    "online",
    "smoke",
]


class HttpLine(Settings):
    """Variables that have to be set, and a request that has to be answered."""

    given_in_part = True

    variables: tuple[EnvName, ...] = ()
    """Names of its variables."""
    check: Annotated[HttpCheck | None, Field(examples=[{"path": "/"}])] = None
    """The request. Default: the health check, or the page `/`."""


class Webhook(Settings):
    """An endpoint to which a payment provider posts signed events. Defaults: Stripe's form."""

    path: Annotated[str, Field(pattern=r"^/", examples=["/api/webhooks/stripe"])]
    """Path of the endpoint, in the main service."""
    secret: EnvName
    """Variable with the secret that signs."""
    header: Annotated[str, Field(min_length=1)] = "Stripe-Signature"
    """Header with the signature."""
    signed: str = "{time}.{body}"
    """What is signed by HMAC-SHA256: `{time}` in seconds and the `{body}`."""
    signature: str = "t={time},v1={signature}"
    """The header's value."""
    encoding: Literal["hex", "base64"] = "hex"
    """How the signature is written."""
    event: Annotated[dict[str, Any], Field(examples=[{"type": "ping"}])] = {}
    """Fields of the event beside or instead of a Stripe event of type `runbook.go_live`, which an application has no
    reason to act on; for one that refuses types that it does not know."""

    def _findings(self) -> list[Finding]:
        found: list[Finding] = []
        for key, known, write in (
            ("signed", {"time": 0, "body": ""}, "{time}.{body}"),
            ("signature", {"time": 0, "signature": ""}, "t={time},v1={signature}"),
        ):
            try:
                getattr(self, key).format(**known)
            except (KeyError, ValueError, IndexError, AttributeError):
                names = " and ".join(f"{{{name}}}" for name in known)
                found.append(Finding((key,), f"only {names} may be in braces", write))
        return found


class Stripe(Settings):
    """The payment provider: its key, and webhooks that the application verifies."""

    key: EnvName | None = "STRIPE_SECRET_KEY"
    """Variable with the key of its API; null where there is none."""
    live: bool | None = None
    """Whether a key of test mode (`sk_test_…`) fails the line. Default: in production."""
    webhooks: Annotated[tuple[Webhook, ...], Field(min_length=1)] = (
        Webhook(path="/api/webhooks/stripe", secret="STRIPE_WEBHOOK_SECRET"),  # noqa: S106 (a name)
        Webhook(path="/api/webhooks/stripe-identity", secret="STRIPE_IDENTITY_WEBHOOK_SECRET"),  # noqa: S106
    )
    """Each gets an event with a right signature, and one with a wrong signature that it has to refuse."""


class Smtp(Settings):
    """The mail server: one variable with a URL, or a variable for each part."""

    url: EnvName = "SMTP_URL"
    """Variable with `smtp://user:password@host:587`, or `smtps://…` for TLS from the start."""
    host: EnvName = "SMTP_HOST"
    """Without a URL: variable with the host."""
    port: EnvName = "SMTP_PORT"
    """Without a URL: variable with the port."""
    user: EnvName = "SMTP_USER"
    """Without a URL: variable with the user."""
    password: EnvName = "SMTP_PASSWORD"  # noqa: S105 (a name)
    """Without a URL: variable with the password."""
    tls: Literal["starttls", "implicit", "none"] | None = None
    """Default: `implicit` for smtps:// and port 465, else `starttls`. `none` is for a relay in the same network."""
    login: bool = True
    """Whether the server wants a login."""


class RedisLine(Settings):
    """Redis: login, a write, and no access for others."""

    url: EnvName = "REDIS_URL"
    """Variable with the URL."""
    key_prefix: str = "runbook:go-live:"
    """Beginning of the key that is written, read and deleted, for a user who may write only some keys."""
    password_required: bool = True
    """Fails when the server accepts clients without a password."""


class Clamav(Settings):
    """The virus scanner: clamd over TCP."""

    host: EnvName = "CLAMAV_HOST"
    """Variable with the host, `host:port` or `tcp://host:port`."""
    port: EnvName = "CLAMAV_PORT"
    """Variable with the port; 3310 where it is not set."""


class BackupLine(Settings):
    """The backup that a failed go-live would go back to."""

    proven: Literal["newest", "any"] = "newest"
    """Which backup a restore test must have passed: the newest, or any within backup.restoreTest.maxAgeHours."""


class Administrators(Settings):
    """How to learn that every administrator has a second factor: a query, or a command of the release."""

    query: Annotated[
        str | None,
        Field(
            min_length=1,
            examples=["SELECT id, totp_enabled, cardinality(recovery_codes) FROM users WHERE role = 'admin'"],
        ),
    ] = None
    """SQL, run read-only: one row for each administrator, the account (rather a number than an address: reports name
    those without a factor), then one column or more of which one has to be true, not 0, or not empty."""
    command: Command | None = None
    """Command of the release that fails if an administrator has no second factor."""
    least: Annotated[int, Field(ge=1)] = 1
    """The fewest administrators that the query has to find."""

    def _findings(self) -> list[Finding]:
        if self.query and self.command:
            return [Finding(("command",), "either a query or a command: remove one")]
        return []


class GoLive(Settings):
    """The checklist before customers come. A line that does not apply is left out in `without`, with the reason."""

    without: Annotated[
        dict[Line, Annotated[str, Field(min_length=1)]], Field(examples=[{"clamav": "customers upload nothing"}])
    ] = {}
    """Lines that are left out, and why; the report says so."""
    variables: tuple[EnvName, ...] = ()
    """Variables that have to be set, beside application.secrets and those of the lines below."""
    api: HttpLine = HttpLine(variables=("DATABASE_URL",))
    """The API answers."""
    frontend: HttpLine = HttpLine(variables=("PUBLIC_URL",))
    """The customers' pages are served."""
    stripe: Stripe = Stripe()
    """Payments by webhook."""
    smtp: Smtp = Smtp()
    """Mail."""
    redis: RedisLine = RedisLine()
    """Cache and sessions."""
    clamav: Clamav = Clamav()
    """Uploads are scanned."""
    backup: BackupLine = BackupLine()
    """The newest backup."""
    administrators: Administrators = Administrators()
    """Second factors of the administrators."""
    payments: Command = Command(run=("npm run online:payments --workspace backend",), timeout_seconds=120)
    """Test of payments (runbook-de-production §5.4), in the release's image; `TARGET_URL` is `target`."""
    smoke: Command = Command(run=("npm run online:all:staging --workspace backend",), timeout_seconds=300)
    """Online smoke tests (runbook-de-production §5.6), in the release's image."""
    target: Annotated[str | None, Field(pattern=r"^https?://[^/]+$", examples=["https://shop.example.com"])] = None
    """URL that these commands call. Default: the main service inside the namespace; network.egress has to allow any
    other."""

    def to_task(
        self, health_path: str, secrets: Sequence[str], *, production: bool, url_of: Callable[[str], str]
    ) -> dict[str, Any]:
        """What the task in the application's network tries, as JSON; `secrets` are those of the application, and
        `url_of` says where a path is served."""
        parts: dict[str, Any] = {
            "api": _http(self.api, HttpCheck(path=health_path), url_of),
            "frontend": _http(self.frontend, HttpCheck(path="/"), url_of),
            "stripe": {
                **self.stripe.to_config(),
                "live": production if self.stripe.live is None else self.stripe.live,
                "webhooks": [{**hook.to_config(), "target": url_of(hook.path)} for hook in self.stripe.webhooks],
            },
            "smtp": self.smtp.to_config(),
            "redis": self.redis.to_config(),
            "clamav": self.clamav.to_config(),
        }
        if self.administrators.query:
            parts["administrators"] = self.administrators.to_config()
        wanted = {name: part for name, part in parts.items() if name not in self.without}
        if "variables" not in self.without:
            # A secret that a line below needs is missed there, and in no second line.
            elsewhere = {name for part in wanted.values() for name in _names(part)}
            wanted["variables"] = sorted({*self.variables, *secrets} - elsewhere)
        return wanted


def _http(line: HttpLine, default: HttpCheck, url_of: Callable[[str], str]) -> dict[str, Any]:
    check = line.check or default
    return {"variables": list(line.variables), "check": {**check.to_config(), "target": url_of(check.path)}}


def _names(part: Any) -> Iterator[str]:
    """Every text of a line's settings, the names of its variables among them."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, Mapping):
        for value in part.values():
            yield from _names(value)
    elif isinstance(part, Sequence):
        for value in part:
            yield from _names(value)
