"""Monitoring (HerbisVeritas "Monitoring & Alertes", "Triggers Rollback Automatique"; Runbook de Production §6).

Every threshold is here once. Alert rules, their tests, routes, dashboards and docs/alerts.md are derived from it.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from settings.base import EXAMPLE_DIGEST, DnsLabel, EnvName, Finding, ImageRef, Refused, Seconds, Settings, quantity
from settings.containers import Resources, resources
from settings.logs import Logs
from settings.platform import Egress
from settings.request_metrics import Requests
from settings.servers import Alertmanager, FrontDoor, Gateway, Operator, Prometheus
from settings.thresholds import Infrastructure, Postgres, Redis, Security

Percent = Annotated[float, Field(gt=0, le=100, examples=[5])]
Route = Annotated[str, Field(pattern=r"^/[A-Za-z0-9._~:/@*-]*$", examples=["/api/live"])]
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
STATE_ACCESS_KEY, STATE_SECRET_KEY = "STATE_S3_ACCESS_KEY_ID", "STATE_S3_SECRET_ACCESS_KEY"
STATE_PASSPHRASE = "STATE_PASSPHRASE"  # noqa: S105 (a name)
STATE_SECRETS = (STATE_ACCESS_KEY, STATE_SECRET_KEY, STATE_PASSPHRASE)
SLACK_SECRET, DEAD_MANS_SWITCH = "SLACK_WEBHOOK_", "DEAD_MANS_SWITCH_URL"
HEALTH_PATH = "/api/health"


class Triggers(Settings):
    """Triggers of the automatic rollback (HerbisVeritas "Triggers Rollback Automatique")."""

    error_rate_percent: Percent = 5
    """Answers with status 5xx, in percent of all within the window (ERROR_RATE_CRITICAL.threshold)."""
    error_rate_seconds: Seconds = 120
    """The window, in seconds (ERROR_RATE_CRITICAL.duration)."""
    response_milliseconds: Annotated[int, Field(ge=1, le=600_000)] = 3000
    """Response time in milliseconds (RESPONSE_TIME_CRITICAL.threshold). The application's histogram needs a
    bucket with this upper bound: ResponseTimeUnmeasured fires without one."""
    response_seconds: Seconds = 300
    """The window, in seconds (RESPONSE_TIME_CRITICAL.duration)."""
    response_quantile: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Part of the answers within the window that must be faster. The runbook names none; an average would hide one slow
    page."""
    quiet_seconds: Annotated[int, Field(ge=1, le=_HOUR)] = 600
    """The window, in seconds, while the others have too few requests or failures to judge by, as at night."""
    least_requests: Annotated[int, Field(ge=1)] = 10
    """Least number of requests within the window: two errors of three requests at night are no broken release."""
    least_failures: Annotated[int, Field(ge=1)] = 8
    """Least number of errors, or of slow answers, within the window: a healthy release has one now and then. How many
    hours a release with 1 % errors serves until it is blamed by chance: docs/automatic-rollback.md."""
    health_failures: Annotated[int, Field(ge=1, le=100)] = 3
    """Failed health checks in a row (HEALTH_CHECK_FAILURE.consecutiveFailures)."""
    restarts: Annotated[int, Field(ge=2)] = 3
    """Restarts of the services' containers within the window, of pods with more than one. The runbook does not name
    them, but a process that dies of a request counts no error."""
    restart_seconds: Seconds = 300
    """The window, in seconds: long enough for the pauses of Kubernetes between the first restarts."""
    sql_injection_attempts: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Requests that try SQL injection, within the window (SECURITY_BREACH.sqlInjectionAttempts), from one source where
    the metric has the label `source`."""
    sql_injection_seconds: Seconds = 300
    """The window, in seconds. The runbook names none. Five minutes are long enough for a slow attack, and too
    short for the stray attempts of a day to add up."""
    rate_seconds: Seconds = 30
    """Seconds over which dashboards compute rates: a few scrapes, so that they follow quickly."""
    data_grace_seconds: Annotated[int, Field(ge=0, le=_HOUR)] = 15
    """Seconds after the database or Redis was away in which no failure is blamed on the release: its connections are
    opened again."""


class Critical(Settings):
    """The runbook's critical alerts (HerbisVeritas "Alertes Critiques"). Health uses the limit of its trigger."""

    error_rate_percent: Percent = 2
    """Answers with status 5xx, in percent of all (HIGH_ERROR_RATE.threshold)."""
    error_rate_seconds: Seconds = 120
    """The window, in seconds; the runbook names none: as long as the trigger's."""
    payment_failure_percent: Percent = 5
    """Payments that fail, in percent of all (PAYMENT_FAILURES.threshold)."""
    payment_seconds: Seconds = 900
    """Window in seconds: payments are few, so it is longer than for requests."""
    least_payments: Annotated[int, Field(ge=1)] = 5
    """Least number of payments within the window: one refused card of two is no spike."""
    least_failed_payments: Annotated[int, Field(ge=1)] = 3
    """Least number of failed payments within the window: nor is one of ten."""


class Burn(Settings):
    """A burn rate: part of the error budget used within the long window, and the same rate within the short one."""

    budget_percent: Percent
    """Part of the whole window's error budget, in percent."""
    long_seconds: Annotated[int, Field(ge=300, le=7 * _DAY, examples=[_HOUR])]
    """Long window, in seconds."""
    short_seconds: Annotated[int, Field(ge=60, le=_DAY, examples=[300])]
    """Short window, in seconds, so that the alert ends soon after the errors."""
    page: bool
    """Whether the alert is critical; otherwise it can wait for the morning."""

    def _findings(self) -> list[Finding]:
        if self.short_seconds >= self.long_seconds:
            why = f"the short window is not shorter than the long one ({self.long_seconds} s)"
            return [Finding(("shortSeconds",), why, self.long_seconds // 12)]
        return []


def _burn(budget: float, long: int, short: int, *, page: bool) -> Burn:
    return Burn(budget_percent=budget, long_seconds=long, short_seconds=short, page=page)


class Slo(Settings):
    """Service level objective, and burn rates of its error budget (windows of the SRE workbook)."""

    objective_percent: Annotated[float, Field(gt=50, lt=100)] = 99.9
    """Requests that must not fail, in percent."""
    window_days: Annotated[int, Field(ge=7, le=90)] = 30
    """Days over which that is counted."""
    least_errors: Annotated[int, Field(ge=1)] = 5
    """Least number of errors within a long window: of 30 requests in an hour, one error is not an incident."""
    burns: Annotated[tuple[Burn, ...], Field(min_length=1)] = (
        _burn(2, _HOUR, 5 * _MINUTE, page=True),
        _burn(5, 6 * _HOUR, 30 * _MINUTE, page=True),
        _burn(10, _DAY, 2 * _HOUR, page=False),
        _burn(10, 3 * _DAY, 6 * _HOUR, page=False),
    )
    """Pairs of windows, the fastest first."""

    @property
    def budget(self) -> float:
        """Part of the requests that may fail."""
        return round(1 - self.objective_percent / 100, 9)

    def factor(self, burn: Burn) -> float:
        """How many times faster than allowed the budget burns at the limit."""
        return round(burn.budget_percent / 100 * self.window_days * _DAY / burn.long_seconds, 6)

    def _findings(self) -> list[Finding]:
        for place, burn in enumerate(self.burns):
            if self.factor(burn) * self.budget >= 1:
                why = "could not fire if every request failed: the objective is too low for so short a window"
                return [Finding(("burns", place, "budgetPercent"), why)]
            if burn.long_seconds in (before.long_seconds for before in self.burns[:place]):
                return [Finding(("burns", place, "longSeconds"), "another pair has the same window: remove one")]
        return []


class State(Settings):
    """The bucket with the stack's state, for the controller in the cluster. The keys
    of it are `secrets:STATE_S3_ACCESS_KEY_ID` and `secrets:STATE_S3_SECRET_ACCESS_KEY`, the passphrase of the stack's
    secrets is `secrets:STATE_PASSPHRASE`."""

    url: Annotated[str, Field(pattern=r"^s3://[^\s@]+$", examples=["s3://state?region=eu-west-3"])]
    """As in PULUMI_BACKEND_URL, with the server's address as pods reach it."""
    egress: Annotated[tuple[Egress, ...], Field(min_length=1)]
    """Addresses of the server, for the network policies."""


class Rollback(Settings):
    """Automatic rollback, and its time limit."""

    enabled: bool = True
    """Roll a release back when a trigger fires. Without it, triggers only notify."""
    release_window_seconds: Annotated[int, Field(ge=60, le=7 * _DAY)] = _HOUR
    """Seconds after a release in which failures are blamed on it; later, operators decide."""
    cooldown_seconds: Annotated[int, Field(ge=60, le=_DAY)] = 900
    """Seconds after a rollback in which no other begins."""
    dependencies: tuple[Annotated[str, Field(min_length=1, max_length=60, examples=["payments"])], ...] = (
        "payments",
        "external",
    )
    """Checks of the health answer (`monitoring.healthPath`) that fail when a service of others fails. While only these
    fail, no release is rolled back: the release before would miss the service as well. Every other check counts. A
    failure of the database or Redis is recognised by their exporters."""
    limit_seconds: Annotated[int, Field(ge=1, le=3600)] = 90
    """Longest time from trigger to healthy (HerbisVeritas "Rollback Automatique (90 secondes)"), without the rule's own
    window. A stack whose worst case exceeds it is refused."""
    startup_seconds: Annotated[float, Field(gt=0, le=600)] = 5
    """Seconds until a pod's startup probe passes, while no release has been measured."""
    engine_seconds: Annotated[float, Field(gt=0, le=600)] = 12
    """Seconds from a call of the controller until the new pods are in the cluster: reading state and history, the
    gates, the update up to the services."""
    unfinished: Literal["report", "rollback"] = "report"
    """What the controller does about a `pulumi up` that failed and was not followed up: say the exact command, or
    restore the release before it. (`runbook deploy` restores it by itself.)"""
    unfinished_seconds: Annotated[int, Field(ge=60, le=_DAY)] = 900
    """Seconds after an update that failed in which people follow it up."""
    image: Annotated[ImageRef | None, Field(examples=[f"registry.example.com/controller@{EXAMPLE_DIGEST}"])] = None
    """Image of the rollback controller (images/controller), by digest. Without it, triggers only notify."""
    state: State | None = None
    """The stack's state, which the controller reads and writes like the command `runbook`."""
    api_server: tuple[Egress, ...] = ()
    """Addresses of the cluster's API server, for the network policies: its own, not the Service's."""
    dry_run: bool = False
    """Dry run: the controller decides and reports, but does not roll back."""
    resources: Resources = resources("50m", "384Mi", "64Mi", limits=("2", "1Gi", "512Mi"))
    """CPU, memory and scratch disk of the controller, which runs the engine."""

    def _findings(self) -> list[Finding]:
        here = {"image": self.image, "state": self.state, "apiServer": self.api_server}
        if not any(here.values()) or all(here.values()):
            return []
        why = "is missing: the controller needs its image, the stack's state and the API server's addresses"
        write = {
            "image": f"registry.example.com/controller@{EXAMPLE_DIGEST}",
            "state": {"url": "s3://state?region=eu-west-3", "egress": [{"cidr": "10.0.2.0/28", "ports": [443]}]},
            "apiServer": [{"cidr": "10.0.0.1/32", "ports": [6443]}],
        }
        return [Finding((name,), why, write[name]) for name, value in here.items() if not value]

    @property
    def controlled(self) -> bool:
        """Whether the controller runs."""
        return self.enabled and self.image is not None


_MEMBER, _GROUP = r"[UW][A-Z0-9]{6,}", r"S[A-Z0-9]{6,}"
_MENTION = re.compile(rf"<@{_MEMBER}>|<!subteam\^{_GROUP}(\|@?[\w.-]+)?>|<!(channel|here|everyone)>")


def _mention(value: str) -> str:
    written = value.strip()
    if re.fullmatch(_MEMBER, written):
        return f"<@{written}>"
    if re.fullmatch(_GROUP, written):
        return f"<!subteam^{written}>"
    if _MENTION.fullmatch(written):
        return written
    why = (
        "is plain text to Slack, which notifies no one of it. Write a user group as <!subteam^ID> (in Slack: "
        "Directories > User groups > the group > ... > Copy group ID), a member as <@ID> (profile > ... > Copy member "
        "ID), or <!channel>"
    )
    raise Refused([Finding((), why, "<!subteam^S0123ABCDEF>")])


Mention = Annotated[str, AfterValidator(_mention), Field(examples=["<!subteam^S0123ABCDEF>"])]
"""A user group or a member, by id, or all members of the channel."""

CHANNELS = ("critical", "alerts", "security", "business", "performance")


class Slack(Settings):
    """The five channels (HerbisVeritas "Alertes Critiques (Slack)", "Continuous Performance Monitoring"). Each one's
    webhook is the secret `secrets:SLACK_WEBHOOK_<CHANNEL>`."""

    escalation_critical: tuple[Mention, ...] = ("<!channel>",)
    """Mentions in critical alerts of the channels critical and alerts (HEALTH_CHECK_FAILURE.escalation: tech-lead,
    devops). Slack notifies by ids, which only its workspace knows; until they are set, all members of the channel."""
    escalation_security: tuple[Mention, ...] = ("<!channel>",)
    """Mentions in critical alerts of the channel security (SECURITY_INCIDENT.escalation: security-team, tech-lead)."""
    group_wait_seconds: Annotated[int, Field(ge=0, le=600)] = 10
    """Seconds in which alerts of one subject are gathered into one message."""
    group_interval_seconds: Annotated[int, Field(ge=5, le=_HOUR)] = 60
    """Seconds until a message about further alerts of the same subject."""
    repeat_seconds: Annotated[int, Field(ge=300, le=7 * _DAY)] = 4 * _HOUR
    """Seconds until an alert that still fires is sent again."""
    egress: tuple[Egress, ...] = ()
    """Addresses of the webhooks and the dead man's switch, if not among `runbook:network.egress`. Required with a
    rollback controller, which reaches none of the latter."""

    def escalation(self, channel: str) -> tuple[str, ...]:
        """Mentions in critical alerts of this channel."""
        if channel == "security":
            return self.escalation_security
        return self.escalation_critical if channel in ("critical", "alerts") else ()

    @property
    def secret_names(self) -> dict[str, str]:
        """The `secrets:*` key of each channel."""
        return {channel: f"{SLACK_SECRET}{channel.upper()}" for channel in CHANNELS}


class Monitoring(Settings):
    """Monitoring: thresholds, notification, and automatic rollback."""

    mode: Literal["plain", "operator"] = "plain"
    """`plain`: a Prometheus and an Alertmanager of this stack's own. `operator`: objects for the cluster's Prometheus
    Operator, which runs both. The exporters belong to the stack in either mode."""
    image: Annotated[ImageRef | None, Field(examples=[f"registry.example.com/monitoring@{EXAMPLE_DIGEST}"])] = None
    """Image of servers and exporters (images/monitoring), by digest; required."""
    prometheus: Prometheus = Prometheus()
    """Prometheus (mode `plain`)."""
    alertmanager: Alertmanager = Alertmanager()
    """Alertmanager (mode `plain`)."""
    operator: Operator | None = None
    """The cluster's operator (mode `operator`)."""
    exporter_resources: Resources = resources("10m", "32Mi", "16Mi", limits=("250m", "128Mi", "64Mi"))
    """CPU, memory and scratch disk of each exporter: HTTP checks, PostgreSQL, Redis."""
    front_door: FrontDoor = FrontDoor()
    """Probe of the public address, from within the cluster."""
    scrape_seconds: Annotated[int, Field(ge=1, le=60)] = 5
    """Seconds from one scrape to the next."""
    evaluation_seconds: Annotated[int, Field(ge=1, le=60)] = 5
    """Seconds from one evaluation of the rules to the next."""
    health_seconds: Annotated[int, Field(ge=1, le=60)] = 5
    """Seconds from one health check to the next."""
    health_path: Route = HEALTH_PATH
    """Path of the health check (HerbisVeritas "Health Checks Automatiques")."""
    requests: Requests = Requests()
    """Under which names requests are counted, and whether the ingress controller counts them."""
    unmeasured: tuple[DnsLabel, ...] = ()
    """Services that have a port and no `/metrics`."""
    uncounted_routes: tuple[Route, ...] = ("/metrics", "/api/live", "/api/ready", HEALTH_PATH)
    """Routes that only machines request, named as in the application's histogram: they must neither hide customers'
    errors among many good answers nor count as errors. Include the path of every probe."""
    triggers: Triggers = Triggers()
    """Triggers of the automatic rollback."""
    critical: Critical = Critical()
    """The runbook's critical alerts."""
    slo: Slo = Slo()
    """Service level objective."""
    security: Security = Security()
    """Signs of an attack other than SQL injection."""
    logs: Logs | None = None
    """Which log lines of the application are security events. Without it, only the application's metrics count."""
    infrastructure: Infrastructure = Infrastructure()
    """Containers, volumes, nodes and CronJobs."""
    postgres: Postgres | None = Postgres()
    """The database. Without a PostgreSQL (`runbook:data.postgres`), nothing of it is watched."""
    redis: Redis | None = Redis()
    """Cache and sessions. Without a Redis (`runbook:data.redis`), nothing of it is watched."""
    rollback: Rollback = Rollback()
    """Automatic rollback."""
    documents_url: Annotated[
        str | None,
        Field(pattern=r"^https?://\S+[^\s/]$", examples=["https://git.example.com/ops/runbook/blob/main/docs"]),
    ] = None
    """Where people read this project's folder `docs/`: each alert's `runbook_url` leads to its section there.
    Without it, messages name the file."""
    slack: Slack = Slack()
    """Slack channels and mentions."""
    dead_mans_switch: bool = True
    """An alert that always fires goes to the URL in `secrets:DEAD_MANS_SWITCH_URL`, which reports when it stops."""

    def _findings(self) -> list[Finding]:
        found: list[Finding] = []
        triggers = self.triggers
        if triggers.rate_seconds < 4 * self.scrape_seconds:
            why = f"a rate needs a window of at least four scrapes of {self.scrape_seconds} s"
            found.append(Finding(("triggers", "rateSeconds"), why, 4 * self.scrape_seconds))
        if self.critical.error_rate_percent >= triggers.error_rate_percent:
            limit = f"{triggers.error_rate_percent:g} %"
            why = f"must be below the rollback's threshold ({limit}), or the alert fires only with the rollback"
            found.append(Finding(("critical", "errorRatePercent"), why, triggers.error_rate_percent / 2))
        if triggers.sql_injection_seconds < 4 * self.scrape_seconds:
            why = f"must be at least four scrapes of {self.scrape_seconds} s"
            found.append(Finding(("triggers", "sqlInjectionSeconds"), why, 60 * self.scrape_seconds))
        if self.mode == "operator" and self.operator is None:
            why = "is missing: mode operator needs the pods of Prometheus and the labels by which it selects objects"
            pods = {"namespace": "monitoring", "podLabels": {"app.kubernetes.io/name": "prometheus"}}
            found.append(Finding(("operator",), why, {"prometheus": pods, "labels": {"release": "prometheus"}}))
        if self.mode == "operator" and self.requests.by_controller:
            why = "the cluster's Prometheus scrapes the ingress controller by itself, under names of its own"
            found.append(Finding(("requests", "preset"), f"{why}: only mode plain renames them", "prom-client"))
        elif self.requests.by_controller:
            found += self._ingress_findings()
        if self.rollback.cooldown_seconds < self.rollback.limit_seconds:
            why = f"a second rollback could begin before the first is done ({self.rollback.limit_seconds} s)"
            found.append(Finding(("rollback", "cooldownSeconds"), why, 10 * self.rollback.limit_seconds))
        return found

    def _ingress_findings(self) -> list[Finding]:
        """What is wrong with the ingress controller whose metrics count the requests."""
        preset, ingress = self.requests.preset, self.prometheus.ingress
        here = ("prometheus", "ingress")
        if ingress is None:
            pods = {"namespace": preset, "podLabels": {"app.kubernetes.io/name": preset}}
            port = {"traefik": 9100}.get(preset, 10254)
            write = {"host": f"{preset}-metrics.{preset}.svc", "port": port, "controller": preset, "pods": pods}
            return [Finding(here, f"is missing: requests.preset {preset} reads its metrics", write)]
        if ingress.controller != preset:
            return [Finding((*here, "controller"), f"requests.preset is {preset}: both name one server", preset)]
        return []

    @property
    def retention_bytes(self) -> int:
        """Size of the metrics above which Prometheus deletes the oldest ones: below the limit of VolumeFull, with room
        for a compaction and for what the file system reserves."""
        percent = min(self.prometheus.retention_percent, max(self.infrastructure.disk_percent - 15, 5))
        return int(int(quantity(self.prometheus.storage)) * percent / 100)

    @property
    def notice_seconds(self) -> int:
        """After which it is known that a data service was away: its exporter was asked, and asked again if it waited
        for a server that does not answer. The triggers count requests this much later."""
        if not (self.postgres or self.redis):
            return 0
        return 2 * self.scrape_seconds + self.evaluation_seconds

    @property
    def operated(self) -> Operator | None:
        """The cluster's operator, if it runs Prometheus and Alertmanager."""
        return self.operator if self.mode == "operator" else None

    @property
    def gateway(self) -> Gateway | None:
        """The ingress controller's metrics, where this stack's own Prometheus scrapes them."""
        return self.prometheus.ingress if self.mode == "plain" else None

    @property
    def machine_routes(self) -> tuple[str, ...]:
        """Routes that do not count, the health check's own among them."""
        return tuple(dict.fromkeys((*self.uncounted_routes, self.health_path)))

    @property
    def secret_names(self) -> tuple[EnvName, ...]:
        """The `secrets:*` keys that notifications and the controller need."""
        switch = (DEAD_MANS_SWITCH,) if self.dead_mans_switch else ()
        return (*self.slack.secret_names.values(), *switch, *(STATE_SECRETS if self.rollback.controlled else ()))
