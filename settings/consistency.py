"""The rules that need more than one key of a stack file."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from settings import budget
from settings.application import PROVIDED_ENV, Application
from settings.backup import BACKUP_DATABASE_URL, IDENTITIES, Backup
from settings.base import EXAMPLE_DIGEST, Path
from settings.chapters import find_faults_of_monitoring_alone, find_ingress_without_paths, find_missing_chapters
from settings.init_containers import find_unknown_secrets
from settings.monitoring import Monitoring
from settings.placeholders import find_placeholders
from settings.platform import (
    Credentials,
    Data,
    External,
    ExternalPostgres,
    Network,
)
from settings.pods import find_volumes_of_services
from settings.problems import Problem, missing
from settings.quota import find_quota_excess
from settings.release import Quarantined, Release
from settings.rotation import (
    BACKUP_S3,
    DATABASE_ADMIN_URL,
    DATABASE_URL,
    REDIS_URL,
    RotationSettings,
    RotationState,
    SecretRotation,
    find_rotations,
    slot_key,
)
from settings.rotation_rules import findings
from settings.sqlite import find_faults_of_sqlite
from settings.status_page import find_faults_of_status_page


@dataclass(frozen=True)
class StackFile:
    """A stack's configuration before it is judged. Values of encrypted keys are not in here."""

    name: str
    """File name for messages, `Pulumi.<stack>.yaml`."""
    values: Mapping[str, Any]
    """Plain values by full key (`runbook:namespace`)."""
    sealed: frozenset[str]
    """Full keys whose value is encrypted."""


_Rule = Callable[..., Iterator[Problem]]
_RULES: list[_Rule] = []


def _rule(check: _Rule) -> _Rule:
    _RULES.append(check)
    return check


def across(parsed: Mapping[str, Any], file: StackFile, schema: Callable[[], Mapping[str, Any]]) -> Iterator[Problem]:
    """What is wrong between keys: a rule runs when every key it names could be read."""
    known = {**parsed, "file": file, "schema": schema}
    for check in _RULES:
        wanted = inspect.signature(check).parameters
        if all(name in known for name in wanted):
            yield from check(**{name: known[name] for name in wanted})


_rule(find_placeholders)
_rule(find_volumes_of_services)
_rule(find_unknown_secrets)
_rule(find_faults_of_sqlite)
_rule(find_faults_of_status_page)


def _at(file: StackFile, key: str, path: Path, why: str, found: Any, write: Any = None) -> Problem:
    return Problem((f"runbook:{key}", *path), why, found, write, file.values.get(f"runbook:{key}"))


@_rule
def _enough_replicas(environment: str, application: Application, file: StackFile) -> Iterator[Problem]:
    """In production a service needs a second pod, which serves while one is replaced."""
    for index, service in enumerate(application.services):
        if service.least_replicas >= (2 if environment == "production" else 1):
            continue
        why = (
            "production needs at least 2, so that one pod serves while another is replaced"
            if environment == "production"
            else "a service with 0 pods answers no request; remove the service instead"
        )
        here: Path = ("services", index)
        where: Path = (*here, "autoscaler", "minReplicas") if service.autoscaler else (*here, "replicas")
        yield _at(file, "application", where, why, service.least_replicas, 2)


@_rule
def _no_quarantined_release(
    release: Release | None, quarantine: tuple[Quarantined, ...], application: Application, file: StackFile
) -> Iterator[Problem]:
    if release is None or release.allow_quarantined:
        return
    bad = {item.digest: item for item in quarantine}
    places: list[tuple[str, Path, str]] = [("release", ("image",), release.image)]
    for index, service in enumerate(application.services):
        here: Path = ("services", index)
        places += [("application", (*here, "image"), service.image)] if service.image else []
        places += [
            ("application", (*here, "initContainers", place, "image"), one.image)
            for place, one in enumerate(service.before)
            if one.image
        ]
    for key, path, image in places:
        if item := bad.get(image.rsplit("@", 1)[1]):
            why = (
                f"this digest is quarantined since revision {item.revision} ({item.reason}): release another image, "
                "or run `runbook deploy IMAGE --allow-quarantined REASON`"
            )
            yield _at(file, key, path, why, image)


@_rule
def _no_plain_secrets(file: StackFile) -> Iterator[Problem]:
    for key in sorted(file.values):
        if key.startswith("secrets:"):
            fix = f"run `pulumi config set --secret {key}` with a new value: this one could be read"
            yield Problem((key,), f"a secret in plain text: {fix}", "a value that is not encrypted")


@_rule
def _secrets(
    application: Application,
    data: Data,
    credentials: Credentials,
    backup: Backup | None,
    rotation: RotationSettings,
    rotated: Mapping[str, RotationState],
    monitoring: Monitoring | None,
    release: Release | None,
    file: StackFile,
) -> Iterator[Problem]:
    """Every secret that is needed is set, encrypted; and every one that is set is needed."""
    rotating = find_rotations(application, data, credentials, backup, rotation, rotated)
    wanted = needed(rotating, data, backup, monitoring)
    present = {key.partition(":")[2] for key in (*file.values, *file.sealed) if key.startswith("secrets:")}
    absent = sorted(set(wanted) - present)
    if absent:
        orders = "\n".join(f"    pulumi config set --secret secrets:{name}" for name in absent)
        askers = " and ".join(sorted({wanted[name] for name in absent}))
        why = f"missing secret, needed by {askers}; run, and enter the value when asked:\n{orders}"
        yield Problem((", ".join(f"secrets:{name}" for name in absent),), why)
    if not _may_know_more(release):
        slots = {
            slot_key(name, period) for each in rotating.values() for name in each.secret_names for period in (0, 1)
        }
        for name in sorted(present - set(wanted) - slots):
            fix = f"add {name} to runbook:application.secrets or run `pulumi config rm secrets:{name}`"
            yield Problem((f"secrets:{name}",), f"nothing uses this secret: {fix}", "a secret")


@_rule
def _one_meaning_per_name(
    application: Application,
    data: Data,
    credentials: Credentials,
    backup: Backup | None,
    rotation: RotationSettings,
    rotated: Mapping[str, RotationState],
    file: StackFile,
) -> Iterator[Problem]:
    """No variable and no secret name is used twice."""
    rotating = find_rotations(application, data, credentials, backup, rotation, rotated)
    given = {name for each in rotating.values() for name in each.secret_names}
    plain = {name for service in application.services for name in service.env}
    for name in sorted(credentials.generated):
        if name in given | plain | PROVIDED_ENV:
            why = "is generated here and also set elsewhere: remove one of the two"
            yield _at(file, "credentials", ("generated", name), why, "a generated secret")
    second = {slot_key(name, 1): name for name in given}
    for place, name in enumerate(application.secrets):
        if name in second:
            why = f"secrets:{name} holds every second value of {second[name]}, which rotates: choose another name"
            yield _at(file, "application", ("secrets", place), why, name)
    made = {variable: name for name, each in rotating.items() for variable in each.variables}
    for variable in sorted(made.keys() & (given | plain | set(credentials.generated))):
        why = f"services get {variable} when {made[variable]} is rotated: choose another name"
        yield _at(file, "application", (variable,), why, variable)


@_rule
def _rotation(
    application: Application,
    data: Data,
    credentials: Credentials,
    backup: Backup | None,
    rotation: RotationSettings,
    rotated: Mapping[str, RotationState],
    release: Release | None,
    file: StackFile,
) -> Iterator[Problem]:
    rotating = find_rotations(application, data, credentials, backup, rotation, rotated)
    for found in findings(rotation, rotating, may_know_more=_may_know_more(release)):
        there: Any = file.values.get("runbook:rotation") or {}
        for step in found.path:
            there = there.get(step) if isinstance(there, Mapping) else None
        yield _at(file, "rotation", found.path, found.why, there, found.write)


def _may_know_more(release: Release | None) -> bool:
    """A rollback brings back an application that may know fewer secrets than there are: that is no mistake."""
    return release is not None and release.action == "rollback"


@_rule
def _production_has_backups(
    environment: str,
    application: Application,
    data: Data,
    backup: Backup | None,
    monitoring: Monitoring | None,
    file: StackFile,
    schema: Callable[[], Mapping[str, Any]],
) -> Iterator[Problem]:
    """Not of a database that others have, and back up, and that is only monitored here."""
    ours = data.has_database and (application.services or not monitoring)
    if environment == "production" and ours and backup is None and "runbook:backup" not in file.values:
        yield missing("backup", schema())


@_rule
def _direct_url_is_a_secret(application: Application, data: Data, file: StackFile) -> Iterator[Problem]:
    name = data.postgres.direct_url if isinstance(data.postgres, ExternalPostgres) else None
    if name and name not in application.secrets:
        why = f"no such secret: add {name} to runbook:application.secrets"
        yield _at(file, "data", ("postgres", "directUrl"), why, name)


@_rule
def _secrets_of_restore_tests(
    application: Application, credentials: Credentials, backup: Backup | None, file: StackFile
) -> Iterator[Problem]:
    known = {*application.secrets, *credentials.generated}
    for place, name in enumerate(backup.restore_test.secrets if backup else ()):
        if name not in known:
            why = f"no such secret; there are: {', '.join(sorted(known))}"
            yield _at(file, "backup", ("restoreTest", "secrets", place), why, name)


@_rule
def _servers_for_restore_tests(data: Data, backup: Backup | None, file: StackFile) -> Iterator[Problem]:
    """A restore test starts bundled servers from the stack's own image; for an external one the image must be set."""
    for key, store in (("postgres", data.postgres), ("redis", data.redis)):
        if backup and isinstance(store, External) and not getattr(backup.restore_test, f"{key}_image"):
            why = f"is missing: {key} is external, so the restore test needs an image to start its own {key} from"
            write = f"registry.example.com/{key}@{EXAMPLE_DIGEST}"
            yield _at(file, "backup", ("restoreTest", f"{key}Image"), why, None, write)


@_rule
def _rollback_in_time(application: Application, monitoring: Monitoring | None, file: StackFile) -> Iterator[Problem]:
    for found in budget.findings(monitoring, application) if monitoring and application.services else ():
        yield _at(
            file, "monitoring", found.path, found.why, monitoring and monitoring.rollback.limit_seconds, found.write
        )


@_rule
def _probes_are_uncounted(
    application: Application, monitoring: Monitoring | None, file: StackFile
) -> Iterator[Problem]:
    """The kubelet's probes always succeed on a healthy pod: if they counted, they would dilute customers' errors."""
    if monitoring is None or monitoring.requests.by_controller:
        return
    probes = [probe for service in application.services for probe in dict(service.probes).values()]
    asked = dict.fromkeys(probe.path for probe in probes if probe.path)
    if forgotten := [path for path in asked if path not in monitoring.machine_routes]:
        why = f"probes request {', '.join(forgotten)}: counted as customers' requests, they would lower the error rate"
        routes = monitoring.uncounted_routes
        yield _at(file, "monitoring", ("uncountedRoutes",), why, [*routes], [*routes, *forgotten])


@_rule
def _monitoring_is_complete(
    application: Application, data: Data, monitoring: Monitoring | None, network: Network, file: StackFile
) -> Iterator[Problem]:
    """Each enabled alert needs a metrics source and a receiver."""
    if monitoring is None:
        return
    exports = application.services or data.postgres or data.redis or monitoring.front_door.address
    if monitoring.image is None and (monitoring.mode == "plain" or exports):
        why = "is missing: the image of Prometheus, Alertmanager and the exporters (images/monitoring), by digest"
        yield _at(file, "monitoring", ("image",), why, None, f"registry.example.com/monitoring@{EXAMPLE_DIGEST}")
    if monitoring.rollback.controlled and not monitoring.slack.egress:
        why = (
            "is missing: the rollback controller reaches only what it needs, not all of `runbook:network.egress`. Name "
            "the addresses of the webhooks. Slack's own change often; those of a relay of yours do not"
        )
        yield _at(file, "monitoring", ("slack", "egress"), why, None, [{"cidr": "10.0.3.4/32", "ports": [443]}])
    if monitoring.mode == "operator":
        operator = monitoring.operator
        if monitoring.rollback.controlled and operator and operator.alertmanager is None:
            why = "is missing: the rollback controller asks Alertmanager whether an alert fires"
            pods = {"namespace": "monitoring", "podLabels": {"app.kubernetes.io/name": "alertmanager"}}
            write = {"url": "http://alertmanager-operated.monitoring.svc:9093", "pods": pods}
            yield _at(file, "monitoring", ("operator", "alertmanager"), why, None, write)
        return
    if not (network.egress or monitoring.slack.egress or monitoring.rollback.controlled):
        why = "is missing: no network policy allows egress to the Slack webhooks, so notifications would fail"
        yield _at(file, "monitoring", ("slack", "egress"), why, None, [{"cidr": "10.0.3.4/32", "ports": [443]}])
    wanted, there = monitoring.infrastructure, monitoring.prometheus
    for name, asked, source in (
        ("kubelet", wanted.kubelet, there.kubelet),
        ("nodes", wanted.nodes, there.nodes),
        ("kubeState", wanted.kube_state, there.kube_state),
    ):
        if asked and source is None:
            why = f"is enabled, but this stack's Prometheus has no source for it: set prometheus.{name}, or disable it"
            yield _at(file, "monitoring", ("infrastructure", name), why, True, False)


_rule(find_missing_chapters)
_rule(find_faults_of_monitoring_alone)
_rule(find_ingress_without_paths)
_rule(find_quota_excess)


def needed(
    rotating: Mapping[str, SecretRotation], data: Data, backup: Backup | None, monitoring: Monitoring | None
) -> dict[str, str]:
    """Every secret a stack needs, and the setting that needs it."""
    found = {}
    for each in rotating.values():
        for period in each.periods:
            again = f"the rotation of {each.name} (`runbook rotate {each.name}` asks for its value)"
            found |= dict.fromkeys(each.given_by(period), again if period else _ASKERS.get(each.name, _APPLICATION))
    if isinstance(data.postgres, ExternalPostgres) and data.postgres.admin:
        # Whose owner and address every other DSN has.
        found |= {DATABASE_URL: _ASKERS[DATABASE_URL], DATABASE_ADMIN_URL: "runbook:data.postgres (admin: true)"}
    if backup and backup.encryption:
        found[IDENTITIES] = "runbook:backup"
    if backup and backup.own_login:
        found[BACKUP_DATABASE_URL] = "runbook:backup (ownLogin: true)"
    if monitoring:
        found |= dict.fromkeys(monitoring.secret_names, "runbook:monitoring")
    return found


_APPLICATION = "runbook:application.secrets"
_ASKERS = {
    DATABASE_URL: "runbook:data.postgres (mode: external)",
    REDIS_URL: "runbook:data.redis (mode: external)",
    BACKUP_S3: "runbook:backup",
}
