"""Secret rotation (HerbisVeritas "Rotation Clés Sécurité", Runbook de Production §4): policies, and the state of each.

Every secret has two slots. The value of period n stands in slot n mod 2, so that a rotation replaces the older one
and the newer stays valid until its overlap is over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from settings.application import Application
from settings.backup import S3_ACCESS_KEY, S3_SECRET_KEY, Backup, Cron, S3Destination, TimeZone
from settings.base import CommandLine, EnvName, Finding, Refused, Seconds, Settings
from settings.commands import Command
from settings.containers import resources
from settings.cron import longest_gap
from settings.platform import BundledPostgres, BundledRedis, Credentials, Data, ExternalPostgres, Generated, Rotate

DATABASE_URL, REDIS_URL, BACKUP_S3 = "DATABASE_URL", "REDIS_URL", "BACKUP_S3"
DATABASE_ADMIN_URL = "DATABASE_ADMIN_URL"

NAMES_IN_SECRETS = frozenset({"REDIS_USER", "ROTATE_DATABASE_OWNER", "SESSION_KEYS"})
"""Keys of Secrets whose values are no secrets: names and patterns, which are parts of ordinary words (`monitor`)."""

Kind = Literal["key", "database", "redis", "given", "s3"]
Phase = Literal["pending", "tested", "dual", "rolled-out", "verified", "retired", "failed"]

_MONTHLY, _QUARTERLY, _TWICE_A_MONTH = "0 0 1 * *", "0 0 1 */3 *", "0 0 1,15 * *"
_SCHEDULES = {
    "JWT_SECRET": _TWICE_A_MONTH,
    "SESSION_SECRET": _TWICE_A_MONTH,
    DATABASE_URL: _QUARTERLY,
    REDIS_URL: _QUARTERLY,
}
"""The runbook's crontab; all other secrets are API keys and rotate monthly."""
_DAY, _HOUR = 86_400, 3_600
_OVERLAPS = {"SESSION_SECRET": 13 * _DAY}
"""Carts live in a signed cookie: they stay readable for nearly as long as the schedule allows."""
_VERIFY = Command(run=("npm run ops:webhooks:verify --workspace backend",))
_VERIFIES = {"STRIPE_WEBHOOK_SECRET": _VERIFY, "STRIPE_IDENTITY_WEBHOOK_SECRET": _VERIFY}
TASK_RESOURCES = resources("50m", "64Mi", "32Mi", limits=("500m", "192Mi", "64Mi"))
"""Of each pod that rotates something."""
_DATA_KEY = re.compile(
    r"(^|_)(ENCRYPTION|ENCRYPT|ENCRYPTED|ENC|DECRYPTION|CIPHER|CRYPTO|CRYPT|PGCRYPTO|FERNET|AES|CLOAK|LOCKBOX|KEK|DEK"
    r"|KEYRING|PEPPER|SALT)(_|$)|(^|_)(DATA|FIELD|COLUMN|RECORD|STORAGE|FILE|DISK|MASTER|VAULT|PII|APP)_(SECRET_)?KEYS?(_|$)"
    r"|^SECRET_KEY_BASE$"
)
"""Names of keys that usually encrypt, or salt, what is stored: after a rotation the application could not read it."""
_GRACE = timedelta(days=1)
"""Beyond its schedule before a rotation is overdue."""


class Override(Settings):
    """Overrides for one secret; defaults follow from its kind."""

    schedule: Cron | None = None
    """When it is due (cron)."""
    overlap_seconds: Annotated[int | None, Field(ge=0, le=90 * _DAY, examples=[_DAY])] = None
    """Seconds the previous value stays valid beside the new one."""
    verify: Command | None = None
    """Must pass once the new value is in use, in the application's image with its variables; else the previous
    value comes back."""
    issue: CommandLine | None = None
    """Makes a new value where `pulumi up` runs, and prints it. Without it, `runbook rotate` asks for one."""
    revoke: CommandLine | None = None
    """Ends a value that `issue` made; it is in PULUMI_COMMAND_STDOUT."""
    issue_seconds: Seconds = 300
    """Seconds until `issue` or `revoke` is ended, with all that it started, and counts as failed."""
    rotate: Rotate | None = None
    """`never` for a key that encrypts data: no schedule, command or emergency replaces it."""
    token_seconds: Annotated[int | None, Field(ge=0, le=400 * _DAY, examples=[12 * _HOUR])] = None
    """Longest life of what is signed with it and held by customers (tokens, cookies). The overlap must be as long:
    afterwards what was signed with the previous value is refused."""
    verify_previous: Command | None = None
    """Must pass while two values are accepted: it runs in the application's image with its variables, but with the two
    values exchanged. What it signs with NAME, the services at TARGET_URL have to accept. Without a rollout first: an
    application that reads only NAME fails before a customer is logged out."""

    def _findings(self) -> list[Finding]:
        if self.issue and not self.revoke:
            return [Finding(("revoke",), "what is issued has to be revoked, or it is valid for ever", "./revoke.sh")]
        if self.revoke and not self.issue:
            return [Finding(("issue",), "revoke ends what issue made", "./issue.sh")]
        return []


class RotationSettings(Settings):
    """When secrets are rotated. The defaults are the runbooks' own."""

    time_zone: TimeZone = "Etc/UTC"
    """Time zone of the schedules."""
    secrets: dict[EnvName, Override] = {}
    """What is different, by secret: DATABASE_URL and REDIS_URL, BACKUP_S3, the names under credentials.generated and
    application.secrets."""
    session_keys: Annotated[tuple[str, ...], Field(min_length=1)] = ("session:*",)
    """Patterns of the sessions' keys in Redis: an emergency rotation deletes them, which logs all customers out."""


def _moment(value: str) -> str:
    try:
        aware = datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        aware = False
    if not aware:
        raise Refused([Finding((), "is not a moment with its time zone", "2026-11-22T10:00:00Z")])
    return value


Moment = Annotated[str, AfterValidator(_moment), Field(examples=["2026-11-22T10:00:00Z"])]


class RotationState(Settings):
    """State of the rotation of one secret. Written by `runbook rotate`; absent before the first one."""

    period: Annotated[int, Field(ge=0)] = 0
    """Number of the newest value; its parity is its slot."""
    previous: Annotated[int | None, Field(ge=0, examples=[0])] = None
    """Number of the value that it takes over from."""
    phase: Phase = "retired"
    """What has been done: pending → tested → dual → rolled-out → verified → retired, or failed."""
    started_at: Moment | None = None
    """When this rotation began, and its value came to be."""
    phase_at: Moment | None = None
    """When the phase was reached."""
    previous_at: Moment | None = None
    """When the previous value came to be, where that is known."""
    settled: Annotated[int | None, Field(ge=0, examples=[0])] = None
    """Number of the value that was last used alone, where it is not `previous`: an emergency within an overlap."""
    generation: Annotated[int, Field(ge=0)] = 0
    """Number of emergencies: a part of every key's id."""
    emergency: bool = False
    """The previous value may have leaked: it is refused once the new one is rolled out."""
    failure: Annotated[str | None, Field(min_length=1, examples=["verification failed"])] = None
    """Why the previous value came back."""
    unused: bool = False
    """The new value was not made, or failed its first test: it is not kept."""

    def _findings(self) -> list[Finding]:
        if self.previous is None:
            begun = self.period > 0 or self.phase != "retired"
            return [Finding(("previous",), "is missing: a rotation takes over from a value", 0)] if begun else []
        found: list[Finding] = []
        if self.previous >= self.period or (self.period - self.previous) % 2 == 0:
            why = f"{self.previous} and {self.period} would share a slot: one is even and comes first, the other is odd"
            found.append(Finding(("previous",), why, max(self.period - 1, 0)))
        for key, given in (("startedAt", self.started_at), ("phaseAt", self.phase_at)):
            if given is None:
                found.append(Finding((key,), "is missing", "2026-11-22T10:00:00Z"))
        if (self.phase == "failed") != (self.failure is not None):
            found.append(Finding(("failure",), "stands exactly where the phase is failed", "verification failed"))
        if self.unused and self.phase != "failed":
            found.append(Finding(("unused",), "stands only where the phase is failed", False))
        return found


@dataclass(frozen=True)
class Policy:
    """The effective rotation settings of one secret."""

    schedule: str
    overlap_seconds: int
    verify: Command | None
    issue: str | None
    revoke: str | None
    issue_seconds: int = 300
    never: bool = False
    """Nothing replaces it: it encrypts data."""
    guessed: bool = False
    """`never` follows from its name alone."""
    token_seconds: int | None = None
    verify_previous: Command | None = None


@dataclass(frozen=True)
class SecretRotation:
    """One secret that rotates: policy, state and periods, without values."""

    name: str
    kind: Kind
    policy: Policy
    zone: str
    state: RotationState

    # -- which values there are --------------------------------------------------------------------------

    @property
    def in_use(self) -> int:
        """The period whose value is used."""
        state = self.state
        if state.previous is None or state.phase in ("rolled-out", "verified", "retired"):
            return state.period
        return state.previous

    @property
    def other(self) -> int | None:
        """The period whose value lives beside it: not yet, or no longer, used."""
        state = self.state
        if state.previous is None or state.phase == "retired" or state.unused:
            return None
        return state.previous if self.in_use == state.period else state.period

    @property
    def accepted(self) -> int | None:
        """The period whose value is accepted beside the one that is used."""
        phase = self.state.phase
        if phase in ("dual", "failed") or (phase in ("rolled-out", "verified") and not self.state.emergency):
            return self.other
        return None

    @property
    def periods(self) -> tuple[int, ...]:
        """The periods whose values live."""
        return (self.in_use,) if self.other is None else (self.in_use, self.other)

    @property
    def known(self) -> tuple[int, ...]:
        """The periods whose values a server is asked about: of a value that was retired, whether it is refused."""
        state = self.state
        return (state.period,) if state.previous is None else (state.period, state.previous)

    @property
    def settled(self) -> int:
        """The period that was last used alone."""
        return self.administrators[0]

    @property
    def administrators(self) -> tuple[int, ...]:
        """Periods whose password the server's administrator may have; has to have, the first.

        It changes when a rotation ends, and stays changed where that end failed.
        """
        state = self.state
        if state.previous is None:
            return (state.period,)
        before = state.previous if state.settled is None else state.settled
        if state.phase == "retired":
            return (state.period, before)
        if state.phase not in ("rolled-out", "verified"):
            return (before,)
        return (before, state.period if before == state.previous else state.previous)

    @property
    def to_verify(self) -> Command | None:
        """What has to pass now."""
        return self.policy.verify if self.state.phase in ("rolled-out", "verified") else None

    @property
    def to_verify_previous(self) -> Command | None:
        """What has to pass while services accept the value that they do not use."""
        waits = self.state.phase in ("dual", "rolled-out", "verified")
        return self.policy.verify_previous if waits and self.accepted is not None and self.exposes_previous else None

    @property
    def exchanged_variables(self) -> Mapping[str, str]:
        """Variables of a check with the two values exchanged, and which of the services' it gets in each."""
        pairs = [(self.name, f"{self.name}_PREVIOUS")]
        if self.kind == "key":
            pairs.append((f"{self.name}_ID", f"{self.name}_PREVIOUS_ID"))
        return {mine: its for one, other in pairs for mine, its in ((one, other), (other, one))}

    @property
    def exposes_previous(self) -> bool:
        """Whether services also get the other value while it is accepted; a server checks logins itself."""
        return self.kind == "key" or (self.kind == "given" and self.name not in (DATABASE_URL, REDIS_URL))

    @property
    def variables(self) -> tuple[str, ...]:
        """Variables that services may get of it, beside the one of its own name."""
        if not self.exposes_previous:
            return ()
        ids = ("ID", "PREVIOUS_ID") if self.kind == "key" else ()
        return tuple(f"{self.name}_{word}" for word in ("PREVIOUS", *ids))

    def key_id(self, period: int) -> str:
        """Identifies a value without revealing it."""
        return f"{self.state.generation}.{period}"

    @property
    def secret_names(self) -> tuple[str, ...]:
        """The `secrets:*` keys of a value that comes from outside; `slot_key` adds the period's slot."""
        if self.kind == "s3":
            return (S3_ACCESS_KEY, S3_SECRET_KEY)
        return (self.name,) if self.kind == "given" else ()

    def given_by(self, period: int) -> tuple[str, ...]:
        """The `secrets:*` keys that hold a period's value; none where a command issues it.

        The first value is always given: the first that is issued takes over from it.
        """
        if self.policy.issue and period > 0:
            return ()
        return tuple(slot_key(name, period) for name in self.secret_names)

    # -- when --------------------------------------------------------------------------------------------

    @property
    def rotated_at(self) -> datetime | None:
        """When the value in use came to be; None for the first one."""
        state = self.state
        since = state.started_at if self.in_use == state.period else state.previous_at
        return datetime.fromisoformat(since) if since else None

    @property
    def overlap_until(self) -> datetime | None:
        """Until when the previous value is valid; None where no overlap runs."""
        if self.state.phase not in ("rolled-out", "verified") or self.state.phase_at is None:
            return None
        overlap = 0 if self.state.emergency else self.policy.overlap_seconds
        return datetime.fromisoformat(self.state.phase_at) + timedelta(seconds=overlap)

    @property
    def max_age(self) -> timedelta | None:
        """Older than this, the value is overdue; None where it is not rotated."""
        if self.policy.never:
            return None
        return longest_gap(self.policy.schedule) + _GRACE


def slot(period: int) -> str:
    """The slot of a period's value."""
    return "b" if period % 2 else "a"


def slot_key(name: str, period: int) -> str:
    """The `secrets:*` key of a period's value."""
    return name if slot(period) == "a" else f"{name}_B"


def find_rotations(
    application: Application,
    data: Data,
    credentials: Credentials,
    backup: Backup | None,
    rotation: RotationSettings,
    rotated: Mapping[str, RotationState],
) -> Mapping[str, SecretRotation]:
    """Every secret that rotates, by name."""
    return {
        name: SecretRotation(
            name,
            kind,
            _policy(name, kind, rotation.secrets.get(name, Override()), credentials.generated.get(name)),
            rotation.time_zone,
            rotated.get(name, RotationState()),
        )
        for name, kind in _kinds(application, data, credentials, backup)
    }


def _kinds(
    application: Application, data: Data, credentials: Credentials, backup: Backup | None
) -> Iterator[tuple[str, Kind]]:
    for name in sorted(credentials.generated):
        yield name, "key"
    own = isinstance(data.postgres, BundledPostgres)
    by_admin = isinstance(data.postgres, ExternalPostgres) and data.postgres.admin
    if data.postgres is not None:
        yield DATABASE_URL, "database" if own or by_admin else "given"
    if data.redis is not None:
        yield REDIS_URL, "redis" if isinstance(data.redis, BundledRedis) else "given"
    for name in application.secrets:
        yield name, "given"
    if backup and isinstance(backup.destination, S3Destination) and backup.destination.credentials == "secret":
        yield BACKUP_S3, "s3"


def _policy(name: str, kind: Kind, override: Override, generated: Generated | None) -> Policy:
    written = override.rotate or (generated.rotate if generated else None) or (override.schedule and "by-schedule")
    guessed = written is None and kind in ("key", "given") and _DATA_KEY.search(name) is not None
    overlap = _OVERLAPS.get(name, _HOUR if kind in ("database", "redis") else _DAY)
    return Policy(
        schedule=override.schedule or _SCHEDULES.get(name, _MONTHLY),
        overlap_seconds=overlap if override.overlap_seconds is None else override.overlap_seconds,
        # `verify: null` in the file disables the default.
        verify=override.verify if "verify" in override.model_fields_set else _VERIFIES.get(name),
        issue=override.issue,
        revoke=override.revoke,
        issue_seconds=override.issue_seconds,
        never=guessed or written == "never",
        guessed=guessed,
        token_seconds=override.token_seconds,
        verify_previous=override.verify_previous,
    )
