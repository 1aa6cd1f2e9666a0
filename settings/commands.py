"""The runbooks' command lines (runbook-de-production §1, §3, §5, §7). Defaults are the runbooks' own words."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from settings.base import CommandLine, DnsLabel, Finding, Seconds, Settings, refuse
from settings.http_check import HttpCheck

MIGRATION_GUARD = "migration-guard"
"""Container beside a migration."""


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Command(Settings):
    """One or more command lines, run one after another in the release's image; the first failure ends it."""

    given_in_part = True

    run: Annotated[
        tuple[CommandLine, ...],
        BeforeValidator(_as_list),
        Field(min_length=1, examples=["npm run start:prod"]),
    ]
    """Command line, or a list of them. Split into words as a shell would; no shell runs it."""
    timeout_seconds: Seconds = 300
    """Seconds until it is ended and counts as failed."""
    attempts: Annotated[int, Field(ge=1, le=5)] = 1
    """How often it is tried before it counts as failed."""

    @model_validator(mode="after")
    def _splittable(self) -> Self:
        for line in self.run:
            try:
                shlex.split(line)
            except ValueError as error:
                refuse([Finding(("run",), f"not a command line: {error}", "npm run start:prod")])
        return self

    @property
    def argvs(self) -> list[list[str]]:
        """Each command line as a list of words."""
        return [shlex.split(line) for line in self.run]


class MigrateCommand(Command):
    """How the release's migrations are run, once per release, before any new pod starts."""

    run: Annotated[
        tuple[CommandLine, ...],
        BeforeValidator(_as_list),
        Field(min_length=1, examples=["npx prisma migrate deploy"]),
    ] = ("npx prisma migrate deploy",)
    """Command line, or a list of them (runbook-de-production §3.1)."""
    timeout_seconds: Seconds = 900
    """Seconds until a migration is ended and the update fails."""
    lock_timeout_seconds: Annotated[int, Field(ge=0, le=3600)] = 5
    """Seconds that a migration waits for a lock, while requests wait behind it; then it is cancelled, and the release
    fails without being quarantined. 0: never. `runner: command`: given to the command as `lock_timeout` in PGOPTIONS,
    which Prisma does not read."""
    runner: Literal["job", "command"] = "job"
    """`job`: a Job in the cluster. `command`: on the machine where `pulumi up` runs."""
    directory: Annotated[str | None, Field(min_length=1, examples=["../shop"])] = None
    """`runner: command` only: the folder to run in (a checkout of the release's commit)."""

    @model_validator(mode="after")
    def _directory(self) -> Self:
        if self.runner == "command" and self.directory is None:
            refuse([Finding(("directory",), "runner: command needs the folder to run in", "../shop")])
        if self.runner == "job" and self.directory is not None:
            refuse([Finding(("runner",), "directory is only used by runner: command", "command")])
        return self


class Step(Command):
    """A step of the pipeline after a release: a Job of its own, whose command lines share /tmp (a token that the first
    leaves there is in no argument list and no log)."""

    given_in_part = False

    name: Annotated[DnsLabel, Field(max_length=40, examples=["staging"])]
    """Name of its Job."""
    secret_output: bool = False
    """Its output may have a secret: then only the pod's own log has it, and no error of an update repeats it."""


class Validation(Settings):
    """Requests to the release in place (HerbisVeritas "Validation Post-Déploiement"). One that is not answered as it
    should be fails the update."""

    checks: Annotated[tuple[HttpCheck, ...], Field(min_length=1)] | None = None
    """Requests, in order. Default: the health check, `/shop` and `/api/auth/status`."""
    attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """How often each is sent until it counts as failed: a single slow answer is no reason to roll back."""
    timeout_seconds: Seconds = 60
    """Seconds for all of them."""

    def to_task(self, health_path: str, url_of: Callable[[str], str]) -> list[dict[str, Any]]:
        """The requests as JSON for the task that sends them; `url_of` says where a path is served."""
        default = (HttpCheck(path=path) for path in (health_path, "/shop", "/api/auth/status"))
        return [{**check.to_config(), "target": url_of(check.path)} for check in self.checks or default]


def _command(*lines: str, timeout_seconds: int = 300) -> Command:
    return Command(run=lines, timeout_seconds=timeout_seconds)


class Commands(Settings):
    """Every command line of the runbooks that the program or the operator's command runs."""

    check: Command = _command("npm run ci:check --workspace backend", timeout_seconds=1800)
    """Checks before a release, run on a checkout (runbook-de-production §1)."""
    migrate: MigrateCommand = MigrateCommand()
    """Schema migrations (runbook-de-production §3.1)."""
    schema_level: Command = _command("npm run --silent db:level --workspace backend", timeout_seconds=60)
    """Prints the database's schema level as one integer; the rollback gate asks it."""
    cache: Command | None = _command("npm run ops:wait --workspace backend")
    """Purges and warms the caches after the rollout (runbook-de-production §3.2). `null` for an application without."""
    rehearsal: Command = _command("npm run smoke:all --workspace backend", timeout_seconds=120)
    """Has to pass in a pod without traffic before the rollout begins; `TARGET_URL` is the new release
    (runbook-de-production §2: smoke before any go-live)."""
    smoke: Command = _command(
        "npm run smoke:all --workspace backend",
        "npm run postdeploy:prod --workspace backend",
        timeout_seconds=600,
    )
    """Checks of the release in place; when they fail the update fails (runbook-de-production §2, §7)."""
    validation: Validation | None = None
    """Requests after the smoke check. None without it. Skipped on a rollback, whose release has passed them before."""
    pipeline: tuple[Step, ...] = ()
    """Steps after that (runbook-de-production §7), one after another; the first that fails, fails the update. Skipped
    on a rollback."""

    def _findings(self) -> list[Finding]:
        names = [step.name for step in self.pipeline]
        return [
            Finding(("pipeline", index, "name"), f"{name} is already the name of another step")
            for index, name in enumerate(names)
            if name in names[:index]
        ]
