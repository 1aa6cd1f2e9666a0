"""Backups (runbook-de-production §2): schedule, destination, retention, restore tests."""

from __future__ import annotations

import zoneinfo
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from settings.base import Bytes, DnsLabel, EnvName, Finding, ImageRef, Refused, Seconds, Settings, VariableName
from settings.containers import EnvValue, Resources, resources
from settings.cron import longest_gap, longest_gap_in
from settings.platform import BundledPostgres, BundledRedis, Data, Egress
from settings.pods import ObjectName

EXPORTER_PORT = 9187
"""The port of the backup exporter's metrics."""
STORE_PORT = 9188
"""The port by which restore tests read the store."""
S3_ACCESS_KEY = "BACKUP_S3_ACCESS_KEY_ID"
S3_SECRET_KEY = "BACKUP_S3_SECRET_ACCESS_KEY"  # noqa: S105 (a name)
IDENTITIES = "BACKUP_IDENTITIES"
BACKUP_DATABASE_URL = "BACKUP_DATABASE_URL"
SECRET_NAMES = frozenset({S3_ACCESS_KEY, S3_SECRET_KEY, IDENTITIES, BACKUP_DATABASE_URL})


def _cron(value: str) -> str:
    try:
        longest_gap(value)
    except ValueError as error:
        raise Refused([Finding((), f"not a cron schedule: {error}", "0 2 * * *")]) from None
    return value


def _zone(value: str) -> str:
    known = zoneinfo.available_timezones()
    # Without a time zone database on this machine, only the cluster can check it.
    if known and value not in known:
        raise Refused([Finding((), "no such time zone", "Europe/Paris")])
    return value


Cron = Annotated[str, AfterValidator(_cron), Field(examples=["0 2 * * *"])]
TimeZone = Annotated[str, AfterValidator(_zone), Field(examples=["Europe/Paris"])]
Recipient = Annotated[
    str,
    StringConstraints(pattern=r"^age1[02-9ac-hj-np-z]{58}$"),
    Field(examples=["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]),
]
BackupId = Annotated[
    str,
    StringConstraints(pattern=r"^\d{8}T\d{6}Z-(scheduled|manual|pre-release|safety)-[0-9a-f]{4}$"),
    Field(examples=["20260816T020000Z-pre-release-4f1a"]),
]


class S3Destination(Settings):
    """A bucket of any S3."""

    mode: Literal["s3"]
    """`s3`: a bucket."""
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", examples=["shop-backups"])]
    """Its name."""
    prefix: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$", examples=["shop"])] = None
    """Folder in it, each stack's own; without it, the namespace's name."""
    endpoint: Annotated[str | None, Field(pattern=r"^https?://[^/\s]+$", examples=["https://s3.example.com"])] = None
    """Server; without it, Amazon's of the region."""
    region: Annotated[str | None, Field(min_length=1, examples=["eu-west-3"])] = None
    """Region the bucket is in."""
    path_style: bool = False
    """The bucket is in the URL's path instead of its host name: most servers except Amazon's need that."""
    create_bucket: bool = False
    """Create a missing bucket: private, versioned, encrypted. If false, a missing bucket is an error."""
    object_lock_days: Annotated[int | None, Field(ge=1, le=3650)] = None
    """Object Lock: no credentials can delete a backup for so many days."""
    egress: Annotated[tuple[Egress, ...], Field(min_length=1)]
    """Where the server is, for the network policies."""
    credentials: Literal["secret", "podIdentity"] = "secret"
    """`secret`: `secrets:BACKUP_S3_ACCESS_KEY_ID` and `secrets:BACKUP_S3_SECRET_ACCESS_KEY`. `podIdentity`: the
    cloud knows the pods by their service accounts."""
    service_account_annotations: dict[str, str] = {}
    """`podIdentity` only: annotations that bind the account to a cloud role (`eks.amazonaws.com/role-arn: …`)."""

    def _findings(self) -> list[Finding]:
        if self.service_account_annotations and self.credentials != "podIdentity":
            why = "serviceAccountAnnotations require podIdentity"
            return [Finding(("credentials",), why, "podIdentity")]
        return []


class VolumeDestination(Settings):
    """A volume of the cluster, which is lost with the cluster. Only where there is no S3."""

    mode: Literal["volume"]
    """`volume`: a persistent volume claim."""
    size: Bytes
    """Its size."""
    storage_class: DnsLabel | None = None
    """Storage class; without it, the cluster's default."""
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] = "ReadWriteOnce"
    """`ReadWriteMany` where the pods that use it may run on several nodes at once."""


class Retention(Settings):
    """Which backups are kept; one that no rule keeps is deleted. The newest proven one is never deleted."""

    days: Annotated[int, Field(ge=1, le=3650)] = 30
    """Everything younger is kept (the runbook's BACKUP_RETENTION_DAYS)."""
    daily: Annotated[int, Field(ge=0)] = 0
    """The newest backup of so many days."""
    weekly: Annotated[int, Field(ge=0)] = 8
    """The newest backup of so many weeks."""
    monthly: Annotated[int, Field(ge=0)] = 12
    """The newest backup of so many months."""
    yearly: Annotated[int, Field(ge=0)] = 0
    """The newest backup of so many years."""
    least: Annotated[int, Field(ge=1)] = 7
    """At least this many are kept, regardless of age."""


class Encryption(Settings):
    """Encryption before anything leaves the pod, with age."""

    recipients: Annotated[tuple[Recipient, ...], Field(min_length=1)]
    """Public keys; each can open every backup made with it here. `secrets:BACKUP_IDENTITIES` holds the secret
    keys, old ones too: a new key here needs no old backup to be written anew."""


class RestoreTest(Settings):
    """The restore test: a backup is restored into a temporary server, migrated and checked like a release."""

    schedule: Cron = "0 4 * * *"
    """When (cron)."""
    max_age_hours: Annotated[int, Field(ge=1, le=8760)] = 48
    """No migration runs unless a test passed within so many hours; older is an alert."""
    timeout_seconds: Seconds = 3600
    """Seconds until a test is ended and counts as failed."""
    postgres_image: ImageRef | None = None
    """Server to restore into, of the live one's major version. Without it, the bundled server's image."""
    redis_image: ImageRef | None = None
    """Cache for the release in the test. Without it, the bundled one's image."""
    env: dict[VariableName, EnvValue] = {}
    """Variables the release gets in the test instead of its own: it reaches nothing there, so that an empty
    SMTP_URL may be what it needs."""
    secrets: tuple[EnvName, ...] = ()
    """Secrets the release gets in the test as they are, because it cannot read the data without them (a key that
    encrypts columns). Each other one is replaced by a harmless value of the same shape."""


class Alerts(Settings):
    """Limits of the backup alerts."""

    missed_intervals: Annotated[float, Field(ge=1)] = 2
    """No backup of the schedule within so many intervals of it."""
    size_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """A backup of the schedule smaller than this part of the last proven one that had not shrunk itself."""
    accepted_backup: BackupId | None = None
    """A backup whose smaller size is right, because rows were deleted on purpose: only this one and later ones are
    compared."""


_DEFAULT_LEVEL = "SELECT count(*) FROM _prisma_migrations WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL"


class Backup(Settings):
    """Scheduled backups, retention and restore tests."""

    schedule: Cron = "0 2 * * *"
    """When (cron)."""
    time_zone: TimeZone = "Etc/UTC"
    """Time zone of the schedules."""
    suspend: bool = False
    """Start nothing by schedule."""
    timeout_seconds: Seconds = 3600
    """Seconds until a backup is ended and counts as failed."""
    wait_seconds: Annotated[int, Field(ge=0, le=86400)] = 600
    """Seconds that a scheduled backup, a release that has to migrate, or a restore waits for another backup (or for a
    migration) to end. After it a release is refused, before anything was changed."""
    destination: Annotated[S3Destination | VolumeDestination, Field(discriminator="mode")]
    """Where backups go."""
    retention: Retention = Retention()
    """How long they are kept."""
    keep: tuple[BackupId, ...] = ()
    """Backups that are never deleted, because a rollback may need them."""
    format: Literal["custom", "directory"] = "custom"
    """`custom`: one stream. `directory`: one file for each table, dumped in parallel, for large databases."""
    jobs: Annotated[int, Field(ge=1, le=64)] = 2
    """Tables dumped (`directory`) and restored at a time."""
    own_login: bool = False
    """`secrets:BACKUP_DATABASE_URL` is a DSN of a role that reads everything (`BYPASSRLS`, `pg_read_all_data`), where
    the application's role may not: row-level security that is forced, schemas of others."""
    encryption: Encryption | None = None
    """Encryption by the client; without it the store's own."""
    schema_level_query: Annotated[str, Field(min_length=1)] = _DEFAULT_LEVEL
    """SQL for the database's schema level, as one integer; a missing table counts as 0. The default is Prisma's
    number of finished migrations."""
    scratch: Bytes = "10Gi"
    """Temporary volume of a restore, and of a dump in the directory format: the dump and the database beside it."""
    scratch_storage_class: DnsLabel | None = None
    """Storage class of that volume; without it, the cluster's default, which some clusters lack (EKS): the pod of a
    restore test then stays Pending, and no migration runs for want of a proof."""
    restore_test: RestoreTest = RestoreTest()
    """The test that proves a backup."""
    priority_class: ObjectName | None = None
    """PriorityClass of the pods of backups, restores and restore tests; it exists already."""
    resources: Resources = resources("100m", "256Mi", "64Mi", limits=("2", "512Mi", "256Mi"))
    """CPU, memory and scratch disk of each task."""
    alerts: Alerts = Alerts()
    """Thresholds of the alerts."""

    def _findings(self) -> list[Finding]:
        found: list[Finding] = []
        gap = longest_gap_in(self.schedule, self.time_zone)
        if gap > timedelta(days=self.retention.days):
            why = f"backups come every {_spoken(gap)}, and would be deleted after {self.retention.days} days"
            found.append(Finding(("retention", "days"), why, 2 * gap.days + 1))
        proof = longest_gap_in(self.restore_test.schedule, self.time_zone)
        if proof > timedelta(hours=self.restore_test.max_age_hours):
            once = (
                f", once a year, when the clock of {self.time_zone} skips its time"
                if proof > longest_gap(self.restore_test.schedule)
                else ""
            )
            why = (
                f"the restore test runs every {_spoken(proof)}{once}, so that between two of them no release "
                f"could migrate (maxAgeHours: {self.restore_test.max_age_hours})"
            )
            found.append(Finding(("restoreTest", "maxAgeHours"), why, 2 * int(proof.total_seconds() // 3600)))
        locked = self.destination.object_lock_days if isinstance(self.destination, S3Destination) else None
        if locked and locked > self.retention.days:
            why = f"objects are locked for {locked} days: deleting them sooner would fail"
            found.append(Finding(("retention", "days"), why, locked))
        return found

    @property
    def missed_seconds(self) -> int:
        """From which age of the last scheduled backup one was missed; not when the clock skips a run, once a year."""
        usual = self.interval * self.alerts.missed_intervals
        skipped = longest_gap_in(self.schedule, self.time_zone)
        once_a_year = skipped + timedelta(seconds=self.timeout_seconds) if skipped > self.interval else timedelta()
        return int(max(usual, once_a_year).total_seconds())

    @property
    def interval(self) -> timedelta:
        """The longest time from one scheduled backup to the next."""
        return longest_gap(self.schedule)

    @property
    def secret_names(self) -> tuple[str, ...]:
        """The `secrets:*` keys that backups need."""
        by_secret = isinstance(self.destination, S3Destination) and self.destination.credentials == "secret"
        return (
            *((S3_ACCESS_KEY, S3_SECRET_KEY) if by_secret else ()),
            *((IDENTITIES,) if self.encryption else ()),
            *((BACKUP_DATABASE_URL,) if self.own_login else ()),
        )


def _spoken(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours / 24:g} days" if hours >= 48 else f"{hours:g} h"


def test_servers(data: Data, test: RestoreTest) -> tuple[BundledPostgres | None, BundledRedis | None]:
    """The servers of a restore test: as the bundled ones are, or of the images given for external ones."""
    given = data.postgres if isinstance(data.postgres, BundledPostgres) else BundledPostgres.model_construct(image="")
    own = given.model_copy(update={"image": test.postgres_image or given.image}) if data.postgres else None
    if data.redis is None:
        return own, None
    redis = data.redis if isinstance(data.redis, BundledRedis) else BundledRedis.model_construct(image="")
    return own, redis.model_copy(update={"image": test.redis_image or redis.image})
