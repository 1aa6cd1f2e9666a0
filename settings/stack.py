"""All settings of one stack, and the rules that need more than one of its keys."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from settings.application import PROVIDED_ENV, Application
from settings.backup import Backup, VolumeDestination, throw_away
from settings.base import EXAMPLE_DIGEST, DnsLabel, ImageRef, Path, Settings, quantity
from settings.commands import Commands
from settings.maintenance import Maintenance
from settings.platform import (
    BundledPostgres,
    BundledRedis,
    Credentials,
    Data,
    External,
    Guards,
    Ingress,
    Network,
)
from settings.problems import Problem, SettingsError, closest, missing, problems_of
from settings.release import Quarantined, Release

DATABASE_URL = "DATABASE_URL"
REDIS_URL = "REDIS_URL"


class StackSettings(Settings):
    """The configuration keys `runbook:*` of one stack file."""

    namespace: DnsLabel
    """Kubernetes namespace of everything this stack makes."""
    environment: Literal["production", "staging", "sandbox"]
    """What kind of ground this is; production refuses what would not survive losing a pod."""
    image: Annotated[ImageRef, Field(examples=[f"registry.example.com/runbook-tasks@{EXAMPLE_DIGEST}"])]
    """The project's own image (images/tasks), by digest: backups, rotations and the maintenance page run in it. Its
    PostgreSQL programs have the server's version."""
    release: Release | None = None
    """What runs now. Written by `runbook deploy` and `runbook rollback`; absent before the first deploy."""
    quarantine: tuple[Quarantined, ...] = ()
    """Digests that must not come back by accident. Written by `runbook`."""
    application: Application
    """The services and the secrets they get."""
    commands: Commands = Commands()
    """The runbooks' command lines."""
    data: Data
    """PostgreSQL and Redis."""
    credentials: Credentials = Credentials()
    """Secrets the program generates."""
    network: Network
    """Openings of the network policies."""
    ingress: Ingress
    """The way in from outside."""
    guards: Guards = Guards()
    """Limits of the namespace."""
    backup: Backup | None = None
    """Backups and the tests that prove them. Without it there are none, and migrations run without a gate."""
    maintenance: Maintenance | None = None
    """Maintenance mode; absent in service. Written by `runbook maintenance` and by a restore in place."""

    @property
    def secret_names(self) -> tuple[str, ...]:
        """The `secrets:*` keys this stack needs."""
        return tuple(sorted(_needed(self.application, self.data, self.backup)))


@dataclass(frozen=True)
class StackFile:
    """A stack's configuration before it is judged. Values of encrypted keys are not in here."""

    name: str
    """File name for messages, `Pulumi.<stack>.yaml`."""
    values: Mapping[str, Any]
    """Plain values by full key (`runbook:namespace`)."""
    sealed: frozenset[str]
    """Full keys whose value is encrypted."""


def parse(file: StackFile) -> StackSettings:
    """The settings, or one SettingsError that tells every problem at once."""
    schema = json_schema()
    problems = list(_unknown_keys(file))
    parsed: dict[str, Any] = {}
    for key, field in StackSettings.model_fields.items():
        name = f"runbook:{key}"
        if name in file.sealed:
            why = f"only secrets:* keys are encrypted: run `pulumi config rm {name}` and write it in plain"
            problems.append(Problem((name,), why, found="an encrypted value"))
        elif name in file.values:
            raw = file.values[name]
            try:
                parsed[key] = _adapter(key).validate_python(raw)
            except ValidationError as error:
                problems += problems_of(error, key, raw, schema)
        elif field.is_required():
            problems.append(missing(key, schema))
        else:
            parsed[key] = field.get_default(call_default_factory=True)
    problems += _across(parsed, file)
    if problems:
        raise SettingsError(file.name, problems)
    return StackSettings.model_construct(**parsed)


@cache
def json_schema() -> dict[str, Any]:
    """JSON Schema of the keys under `runbook:`."""
    return StackSettings.model_json_schema(by_alias=True, mode="validation")


def editor_schema() -> dict[str, Any]:
    """JSON Schema of a whole stack file, for editors."""
    inner = json_schema()
    sealed = {
        "type": "object",
        "properties": {"secure": {"type": "string"}},
        "required": ["secure"],
        "additionalProperties": False,
        "description": "Set with `pulumi config set --secret`.",
    }
    config = {
        "type": "object",
        "properties": {f"runbook:{key}": node for key, node in inner["properties"].items()},
        "required": [f"runbook:{key}" for key in inner["required"]],
        "patternProperties": {"^secrets:": sealed, f"^runbook:(?!({'|'.join(inner['properties'])})$)": False},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Stack file of the runbook",
        "type": "object",
        "properties": {
            "config": config,
            "encryptionsalt": {"type": "string"},
            "encryptedkey": {"type": "string"},
            "secretsprovider": {"type": "string"},
        },
        "required": ["config"],
        "$defs": inner["$defs"],
    }


@cache
def _adapter(key: str) -> TypeAdapter[Any]:
    field = StackSettings.model_fields[key]
    annotation: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return TypeAdapter(annotation)


def _unknown_keys(file: StackFile) -> Iterator[Problem]:
    known = set(StackSettings.model_fields)
    for key in sorted({*file.values, *file.sealed}):
        space, _, name = key.partition(":")
        if space == "runbook" and name not in known:
            meant = closest(name, known)
            known_here = f"remove it; known here: {', '.join(f'runbook:{key}' for key in sorted(known))}"
            hint = f"rename it to runbook:{meant}" if meant else known_here
            yield Problem((key,), f"unknown key: {hint}", file.values.get(key, "an encrypted value"))
        elif space not in ("runbook", "secrets") and (meant := closest(space, ("runbook", "secrets"))):
            yield Problem((key,), f"nothing reads {space}:*, did you mean {meant}:{name}?")


# -- rules across keys: each runs when every key it names could be read ------------------------------

_Rule = Callable[..., Iterator[Problem]]
_RULES: list[_Rule] = []


def _rule(check: _Rule) -> _Rule:
    _RULES.append(check)
    return check


def _across(parsed: Mapping[str, Any], file: StackFile) -> Iterator[Problem]:
    known = {**parsed, "file": file}
    for check in _RULES:
        wanted = inspect.signature(check).parameters
        if all(name in known for name in wanted):
            yield from check(**{name: known[name] for name in wanted})


def _at(file: StackFile, key: str, path: Path, why: str, found: Any, write: Any = None) -> Problem:
    return Problem((f"runbook:{key}", *path), why, found, write, file.values.get(f"runbook:{key}"))


@_rule
def _enough_replicas(environment: str, application: Application, file: StackFile) -> Iterator[Problem]:
    """In production one pod may always go while another serves."""
    for index, service in enumerate(application.services):
        if service.least_replicas >= (2 if environment == "production" else 1):
            continue
        why = (
            "production needs at least 2, so that one pod can go while another serves"
            if environment == "production"
            else "a service with 0 pods serves nobody; remove the service instead"
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
    places += [
        ("application", ("services", index, "image"), service.image)
        for index, service in enumerate(application.services)
        if service.image
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
    release: Release | None,
    file: StackFile,
) -> Iterator[Problem]:
    """Every secret that is asked for is there, encrypted; and every one that is there is asked for."""
    needed = _needed(application, data, backup)
    present = {key.partition(":")[2] for key in (*file.values, *file.sealed) if key.startswith("secrets:")}
    absent = sorted(set(needed) - present)
    if absent:
        orders = "\n".join(f"    pulumi config set --secret secrets:{name}" for name in absent)
        askers = " and ".join(sorted({needed[name] for name in absent}))
        why = f"missing secret, needed by {askers}; run, and enter the value when asked:\n{orders}"
        yield Problem((", ".join(f"secrets:{name}" for name in absent),), why)
    # A rollback brings back an application that may know fewer secrets than there are: that is no mistake.
    if release is None or release.action != "rollback":
        for name in sorted(present - set(needed)):
            fix = f"add {name} to runbook:application.secrets or run `pulumi config rm secrets:{name}`"
            yield Problem((f"secrets:{name}",), f"nothing uses this secret: {fix}", "a secret")
    for name in sorted(credentials.generated):
        if name in needed or name in PROVIDED_ENV or any(name in service.env for service in application.services):
            why = "is generated here and also set elsewhere: remove one of the two"
            yield _at(file, "credentials", ("generated", name), why, "a generated secret")


@_rule
def _production_has_backups(environment: str, backup: Backup | None, file: StackFile) -> Iterator[Problem]:
    if environment == "production" and backup is None and "runbook:backup" not in file.values:
        yield missing("backup", json_schema())


@_rule
def _servers_for_restore_tests(data: Data, backup: Backup | None, file: StackFile) -> Iterator[Problem]:
    """What is bundled shows which image its throw-away double needs."""
    for key, store in (("postgres", data.postgres), ("redis", data.redis)):
        if backup and isinstance(store, External) and not getattr(backup.restore_test, f"{key}_image"):
            why = f"is missing: {key} is external, so the restore test has to be told which image to start for itself"
            write = f"registry.example.com/{key}@{EXAMPLE_DIGEST}"
            yield _at(file, "backup", ("restoreTest", f"{key}Image"), why, None, write)


@_rule
def _way_in(application: Application, ingress: Ingress, file: StackFile) -> Iterator[Problem]:
    if not any(service.paths for service in application.services):
        why = f"no service serves a path, so {ingress.host} would answer nothing"
        yield _at(file, "application", ("services", 0, "paths"), why, [], ["/"])


@_rule
def _fits_the_quota(
    application: Application, data: Data, backup: Backup | None, guards: Guards, file: StackFile
) -> Iterator[Problem]:
    """A rollout needs more pods of every service for a while, and Jobs run beside them."""
    pods = [(s.resources, s.most_replicas + application.surge) for s in application.services]
    pods.append((application.job_resources, 2))
    stores = [store for store in (data.postgres, data.redis) if isinstance(store, BundledPostgres | BundledRedis)]
    pods += [(store.resources, 1) for store in stores]
    volumes = [store.storage for store in stores]
    if backup:
        # A restore test has its own servers and one pod of the release. Beside it: a scheduled backup, one before
        # a release, a restore, the exporter; and in it one task or Job at a time.
        pods += [(store.resources, 1) for store in throw_away(data, backup.restore_test)]
        pods += [(application.services[0].resources, 1), (application.job_resources, 1), (backup.resources, 5)]
        # One at work, and what the last Job that went well and the last that failed still hold.
        volumes += [backup.scratch] * (10 if backup.format == "directory" else 5)
        volumes += [backup.destination.size] if isinstance(backup.destination, VolumeDestination) else []
    quota = guards.quota
    for key, have, side, amount in (
        ("cpu", quota.cpu, "requests", "cpu"),
        ("memory", quota.memory, "requests", "memory"),
        ("limitsCpu", quota.limits_cpu, "limits", "cpu"),
        ("limitsMemory", quota.limits_memory, "limits", "memory"),
    ):
        need = sum(quantity(getattr(getattr(resources, side), amount)) * count for resources, count in pods)
        if need > quantity(have):
            written = f"{ceil(need / 2**30)}Gi" if amount == "memory" else str(ceil(need))
            more = ", backups, a restore and its test" if backup else ""
            why = f"all services with the surge of a rollout, Jobs and data{more} need {written} ({side}.{amount})"
            yield _at(file, "guards", ("quota", key), why, have, written)
    storage = sum(quantity(size) for size in volumes)
    if storage > quantity(quota.storage):
        written = f"{ceil(storage / 2**30)}Gi"
        yield _at(file, "guards", ("quota", "storage"), f"the volumes need {written}", quota.storage, written)


def _needed(application: Application, data: Data, backup: Backup | None) -> dict[str, str]:
    """Every secret of a stack, and who asks for it."""
    return {
        **dict.fromkeys(application.secrets, "runbook:application.secrets"),
        **_dsn_names(data),
        **dict.fromkeys(backup.secret_names if backup else (), "runbook:backup"),
    }


def _dsn_names(data: Data) -> dict[str, str]:
    """Secrets the external data services need, and why."""
    stores = {DATABASE_URL: ("postgres", data.postgres), REDIS_URL: ("redis", data.redis)}
    return {
        name: f"runbook:data.{key} (mode: external)"
        for name, (key, store) in stores.items()
        if isinstance(store, External)
    }
