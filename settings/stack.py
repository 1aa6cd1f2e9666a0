"""All settings of one stack, and the rules that need more than one of its keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from settings.application import Application
from settings.backup import Backup
from settings.base import EXAMPLE_DIGEST, DnsLabel, EnvName, ImageRef, Settings
from settings.checks import Checks
from settings.commands import Commands
from settings.consistency import StackFile, across, needed
from settings.go_live import GoLive
from settings.incidents import Incidents
from settings.lockdown import Lockdown, Precautions
from settings.maintenance import Maintenance
from settings.maintenance_tasks import MaintenanceTasks
from settings.monitoring import HEALTH_PATH, Monitoring
from settings.operations import Operations
from settings.performance import Performance
from settings.platform import Credentials, Data, Guards, Ingress, Network, Registry
from settings.problems import Problem, SettingsError, closest, missing, problems_of
from settings.release import Quarantined, Release
from settings.rotation import RotationSettings, RotationState, SecretRotation, find_rotations
from settings.sqlite import place_beside
from settings.status_page import StatusPage


class StackSettings(Settings):
    """The configuration keys `runbook:*` of one stack file."""

    namespace: DnsLabel
    """Kubernetes namespace of everything this stack makes."""
    environment: Literal["production", "staging", "sandbox"]
    """Kind of environment; production refuses a service with a single pod, because losing it would be downtime. Bundled
    data services are one pod each: preview says so."""
    image: Annotated[ImageRef, Field(examples=[f"registry.example.com/runbook-tasks@{EXAMPLE_DIGEST}"])]
    """The project's own image (images/tasks), by digest: backups, rotations and the maintenance page run in it. Its
    PostgreSQL programs have the server's version."""
    registry: Registry = Registry()
    """How the cluster's nodes pull images."""
    release: Release | None = None
    """What runs now. Written by `runbook deploy` and `runbook rollback`; absent before the first deploy."""
    quarantine: tuple[Quarantined, ...] = ()
    """Digests that must not come back by accident. Written by `runbook`."""
    application: Application = Field(default_factory=Application.none)
    """The services and the secrets they get. Without it, the stack backs a database up and proves its backups, or only
    monitors."""
    commands: Commands = Commands()
    """The runbooks' command lines."""
    data: Data = Data()
    """The database and Redis. An application and backups need a database; monitoring alone needs neither."""
    credentials: Credentials = Credentials()
    """Secrets the program generates."""
    network: Network = Network()
    """Allowed traffic in the network policies."""
    ingress: Ingress | None = None
    """The ingress. Without it, no service is reached from outside the cluster."""
    guards: Guards = Guards()
    """Limits of the namespace."""
    backup: Backup | None = None
    """Backups and restore tests. Without it there are none, and migrations run without a gate."""
    checks: Checks | None = None
    """Limits of the environment before a release. Without it, `runbook check` takes the defaults, and `runbook deploy`
    does not check them."""
    checklist: GoLive | None = None
    """The checklist of `runbook go-live`. Without it, that command is refused."""
    maintenance: Maintenance | None = None
    """Maintenance mode; absent in service. Written by `runbook maintenance` and by a restore in place."""
    maintenance_tasks: MaintenanceTasks | None = None
    """Preventive maintenance. Without it, none is done."""
    security: Precautions = Precautions()
    """Clients admitted during a lockdown, closed paths, duration."""
    lockdown: Lockdown | None = None
    """A lockdown; absent in service. Written by `runbook security` and by the rollback controller."""
    monitoring: Monitoring | None = None
    """Metrics, alerts, their receivers, and triggers of the automatic rollback. Without it there is no monitoring."""
    performance: Performance | None = None
    """Pages that every release has to show fast enough. Without it, none is measured."""
    operations: Operations = Operations()
    """What the quick reference needs to know of the shop: business metrics, rate limits, emergency commands."""
    incidents: Incidents = Incidents()
    """Levels of incidents: which people are notified."""
    status_page: StatusPage | None = None
    """A page with the state of the shop for customers, in pods of its own. Without it there is none."""
    rotation: RotationSettings = RotationSettings()
    """When secrets are rotated, and how."""
    rotated: dict[EnvName, RotationState] = {}
    """State of the rotation of each secret. Written by `runbook rotate`; a rollback does not change it."""

    def rotations(self) -> Mapping[str, SecretRotation]:
        """Every secret that rotates, by name."""
        return find_rotations(self.application, self.data, self.credentials, self.backup, self.rotation, self.rotated)

    @property
    def health_path(self) -> str:
        """Path below the customers' URL of the application's health check."""
        return self.application.health_path or (self.monitoring.health_path if self.monitoring else HEALTH_PATH)

    @property
    def checks_pages(self) -> bool:
        """Whether the pages are measured by schedule now: never in a lockdown, nor while customers are kept away."""
        check = self.performance and self.performance.continuous
        return bool(check and not check.suspend) and self.lockdown is None and self.maintenance is None

    @property
    def url(self) -> str | None:
        """The URL customers use; None without an ingress."""
        return self.ingress.url if self.ingress else None

    @property
    def secret_names(self) -> tuple[str, ...]:
        """The `secrets:*` keys this stack needs."""
        return tuple(sorted(needed(self.rotations(), self.data, self.backup, self.monitoring)))


def parse(file: StackFile) -> StackSettings:
    """The settings, or one SettingsError that lists every problem."""
    problems = list(_unknown_keys(file))
    parsed: dict[str, Any] = {}
    for key, field in StackSettings.model_fields.items():
        name = f"runbook:{to_camel(key)}"
        if name in file.sealed:
            why = f"only secrets:* keys are encrypted: run `pulumi config rm {name}` and write it in plain"
            problems.append(Problem((name,), why, found="an encrypted value"))
        elif name in file.values:
            raw = file.values[name]
            try:
                parsed[key] = _adapter(key).validate_python(raw)
            except ValidationError as error:
                problems += problems_of(error, to_camel(key), raw, json_schema())
        elif field.is_required():
            problems.append(missing(to_camel(key), json_schema()))
        else:
            parsed[key] = field.get_default(call_default_factory=True)
    problems += across(parsed, file, json_schema)
    if problems:
        raise SettingsError(file.name, problems)
    return StackSettings.model_construct(**_completed(parsed))


def _completed(parsed: dict[str, Any]) -> dict[str, Any]:
    """What a stack does not have is neither watched nor part of its checklist; its health check has one path. Without
    an application, no secret is generated for one."""
    monitoring, checklist = parsed["monitoring"], parsed["checklist"]
    parsed = {**parsed, "application": place_beside(parsed["application"], parsed["data"])}
    if not parsed["application"].services:
        parsed = {**parsed, "credentials": Credentials(generated={})}
    watched: dict[str, Any] = {}
    if path := parsed["application"].health_path:
        watched["health_path"] = path
    if parsed["data"].postgres is None:
        watched["postgres"] = None
    if parsed["data"].redis is None:
        watched["redis"] = None
        if checklist:
            without = {"redis": "the stack has no Redis", **checklist.without}
            parsed = {**parsed, "checklist": checklist.model_copy(update={"without": without})}
    return {**parsed, "monitoring": monitoring.model_copy(update=watched)} if monitoring and watched else parsed


@cache
def json_schema() -> dict[str, Any]:
    """JSON Schema of the keys under `runbook:`."""
    from pydantic.json_schema import GenerateJsonSchema

    class Untitled(GenerateJsonSchema):
        """An editor shows titles above descriptions, and pydantic's only repeat the name of the field; and it completes
        a value of one kind better than `anyOf` with null, which says only that the key may be left out."""

        def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic asks with it
            return False

        def default_schema(self, schema: Any) -> dict[str, Any]:
            match made := super().default_schema(schema):
                case {"anyOf": [wanted, {"type": "null"}], "default": None}:
                    # The field's own description comes later, and replaces none.
                    return {key: value for key, value in wanted.items() if key != "description"}
            return made

    return StackSettings.model_json_schema(by_alias=True, mode="validation", schema_generator=Untitled)


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
    context = {
        "type": "string",
        "description": "Context of the stack's cluster in the kubeconfig; required outside the sandbox.",
    }
    config = {
        "type": "object",
        "properties": {
            "kubernetes:context": context,
            **{f"runbook:{key}": node for key, node in inner["properties"].items()},
        },
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
    known = {to_camel(key) for key in StackSettings.model_fields}
    for key in sorted({*file.values, *file.sealed}):
        space, _, name = key.partition(":")
        if space == "runbook" and name not in known:
            meant = closest(name, known)
            known_here = f"remove it; known here: {', '.join(f'runbook:{key}' for key in sorted(known))}"
            hint = f"rename it to runbook:{meant}" if meant else known_here
            yield Problem((key,), f"unknown key: {hint}", file.values.get(key, "an encrypted value"))
        elif space not in ("runbook", "secrets") and (meant := closest(space, ("runbook", "secrets"))):
            yield Problem((key,), f"nothing reads {space}:*, did you mean {meant}:{name}?")
