"""The stack file of an application that has none yet: as short as it can be, every line with its reason."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

_UID = 10001
"""User of the pods where the stack file names none."""


@dataclass(frozen=True)
class ImageFacts:
    """What a Dockerfile or an image says about how it is run."""

    port: int | None = None
    command: str | None = None
    health_path: str | None = None
    uid: int | None = None


@dataclass(frozen=True)
class DataService:
    """PostgreSQL or Redis: at an address outside, or in the cluster from an image."""

    cidr: str | None = None
    image: str | None = None


@dataclass(frozen=True)
class NewStack:
    """The answers."""

    stack: str
    namespace: str
    environment: str
    context: str | None
    tasks_image: str
    """By digest, as the images of `postgres` and `redis`."""
    service: str
    command: str
    port: int
    health_path: str
    live_path: str
    """Answers while the process lives, whatever its database does."""
    host: str
    ingress_class: str
    ingress_namespace: str
    ingress_labels: Mapping[str, str]
    postgres: DataService
    redis: DataService | None
    """None without Redis."""
    uid: int | None = None
    """Number of the image's user."""
    migrate: tuple[str, ...] = ()
    """Command lines of the migrations; empty where they are the runbook's."""
    schema_level: str | None = None
    smoke: str | None = None
    """The check of a release, in rehearsal and in place; None where it is the runbook's."""
    secrets: tuple[str, ...] = ()

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """The `secrets:` keys that have to be set before a first release."""
        external = [
            name
            for name, service in (("DATABASE_URL", self.postgres), ("REDIS_URL", self.redis))
            if service and service.cidr
        ]
        return (*external, *self.secrets)


def first_lines(applied_by: str, namespace: str, environment: str, context: str | None, tasks_image: str) -> list[str]:
    """Of every stack file. `applied_by`: the sentence on the command that applies it."""
    named = context or "NAME # of this stack's cluster, from `kubectl config get-contexts -o name`"
    return [
        "# yaml-language-server: $schema=settings/stack.schema.json",
        f"# Every key and its default: docs/settings.md. {applied_by}",
        "config:",
        f"  {'' if context else '# '}kubernetes:context: {named}",
        f"  runbook:namespace: {namespace}",
        f"  runbook:environment: {environment}",
        f"  runbook:image: {tasks_image} # images/tasks: backups and rotations run in it",
    ]


def render(answers: NewStack) -> str:
    """The stack file. Keys with a default are left out: docs/settings.md has them all."""
    by = "`runbook deploy IMAGE` adds runbook:release."
    lines = [
        *first_lines(by, answers.namespace, answers.environment, answers.context, answers.tasks_image),
        "  runbook:application:",
        f"    healthPath: {answers.health_path} # what `runbook status` and monitoring request",
        "    services:",
        f"      - name: {answers.service}",
        f"        command: {json.dumps(answers.command)} # no shell runs it",
        f"        port: {answers.port}",
        "        paths: [/] # what the ingress sends to it",
        "        replicas: 2",
        "        probes:",
        f"          startup: {{path: {answers.live_path}, failureThreshold: 18}} # 90 s to start",
        f"          readiness: {{path: {answers.health_path}}} # while it fails, the pod gets no traffic",
        f"          liveness: {{path: {answers.live_path}}} # when it fails, the pod is restarted: no dependency",
    ]
    if answers.uid and answers.uid != _UID:
        lines.append(f"        pod: {{uid: {answers.uid}}} # the image's user")
    if answers.secrets:
        lines += ["    secrets: # variables, set by `pulumi config set --secret secrets:NAME`"]
        lines += [f"      - {name}" for name in answers.secrets]
    lines += [
        *_commands(answers),
        "  runbook:data:",
        *describe_server("postgres", answers.postgres, 5432, "DATABASE_URL"),
        *(describe_server("redis", answers.redis, 6379, "REDIS_URL") if answers.redis else []),
        "  runbook:ingress:",
        f"    host: {answers.host}",
        f"    className: {answers.ingress_class}",
        "  runbook:network: # everything else is closed; `egress` opens payments, mail, error reports",
        "    ingressController:",
        f"      namespace: {answers.ingress_namespace}",
        f"      podLabels: {_flow(answers.ingress_labels)}",
    ]
    return "\n".join(lines) + "\n"


def _commands(answers: NewStack) -> list[str]:
    """Command lines that are not the runbook's."""
    lines: list[str] = []
    if answers.migrate:
        lines.append(f"    migrate: {{run: {json.dumps(list(answers.migrate))}}}")
    if answers.schema_level:
        lines.append(f"    schemaLevel: {{run: {json.dumps(answers.schema_level)}}} # prints one whole number")
    if answers.smoke:
        lines.append(f"    rehearsal: {{run: {json.dumps(answers.smoke)}}} # before the rollout, without traffic")
        lines.append(f"    smoke: {{run: {json.dumps(answers.smoke)}}} # after it; TARGET_URL is the release")
    if not lines:
        return []
    return ["  runbook:commands: # in the release's image", *lines, "    cache: null # nothing to warm after a rollout"]


def describe_server(name: str, service: DataService, port: int, variable: str) -> list[str]:
    if service.cidr:
        return [
            f"    {name}: # reached by secrets:{variable}",
            "      mode: external",
            f"      egress: [{{cidr: {service.cidr}, ports: [{port}]}}]",
        ]
    return [
        f"    {name}: # one pod in the cluster: a drained node is an outage",
        "      mode: bundled",
        f"      image: {service.image}",
        "      storage: 10Gi",
    ]


def _flow(value: Mapping[str, str]) -> str:
    return yaml.safe_dump(dict(value), default_flow_style=True, width=1000).strip()


def read_dockerfile(text: str) -> ImageFacts:
    """What the last stage of a Dockerfile says: EXPOSE, ENTRYPOINT and CMD, and the path of its HEALTHCHECK."""
    joined = re.sub(r"\\\s*\n", " ", text)
    words: dict[str, str] = {}
    for line in joined.splitlines():
        keyword, _, rest = line.strip().partition(" ")
        if keyword.upper() == "FROM":
            words = {}
        elif keyword.upper() in ("EXPOSE", "CMD", "ENTRYPOINT", "HEALTHCHECK", "USER"):
            words[keyword.upper()] = rest.strip()
    port = re.match(r"(\d+)", words.get("EXPOSE", ""))
    parts = [_command_line(words[key]) for key in ("ENTRYPOINT", "CMD") if key in words]
    path = re.search(r"https?://[^/\s\"']+(/[^\s\"'|)]*)", words.get("HEALTHCHECK", ""))
    user = re.match(r"[1-9]\d*", words.get("USER", ""))
    return ImageFacts(
        int(port[1]) if port else None,
        " ".join(parts) or None,
        path[1] if path else None,
        int(user[0]) if user else None,
    )


def read_image_config(config: Mapping[str, object]) -> ImageFacts:
    """The same from the configuration of a built image (OCI: ExposedPorts, Entrypoint, Cmd, Healthcheck)."""
    exposed = config.get("ExposedPorts")
    ports = [int(port.split("/")[0]) for port in exposed if port.endswith("/tcp")] if isinstance(exposed, dict) else []
    argv = [word for key in ("Entrypoint", "Cmd") for word in _strings(config.get(key))]
    check = config.get("Healthcheck")
    test = " ".join(_strings(check.get("Test"))) if isinstance(check, dict) else ""
    path = re.search(r"https?://[^/\s\"']+(/[^\s\"'|)]*)", test)
    user = str(config.get("User") or "").partition(":")[0]
    uid = int(user) if user.isdigit() and int(user) else None
    return ImageFacts(min(ports, default=None), shlex.join(argv) or None, path[1] if path else None, uid)


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _command_line(text: str) -> str:
    """A CMD or ENTRYPOINT in either of its forms, as one command line."""
    if text.startswith("["):
        try:
            return shlex.join(_strings(json.loads(text)))
        except ValueError:
            return text
    return text
