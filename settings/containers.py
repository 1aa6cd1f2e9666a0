"""What every container of the application has: CPU, memory and scratch disk, probes, variables."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from settings.base import Bytes, CommandLine, Cpu, Finding, Seconds, Settings, as_text, quantity, refuse


class Amounts(Settings):
    """CPU, memory and scratch disk of one container."""

    given_in_part = True

    cpu: Cpu
    """CPU, in cores or `m` (1/1000)."""
    memory: Bytes
    """Memory."""
    ephemeral_storage: Bytes
    """Scratch disk: logs and /tmp."""


class Resources(Settings):
    """Requests and limits of a container. What a stack file leaves out has its default."""

    given_in_part = True

    requests: Amounts
    """Requests; what the scheduler and the namespace's quota count."""
    limits: Amounts
    """Never exceeded: CPU is throttled, memory and disk end the container."""

    @model_validator(mode="after")
    def _order(self) -> Self:
        refuse(
            Finding(("limits", alias), f"the limit is below the request {asked}", asked)
            for name, alias in (
                ("cpu", "cpu"),
                ("memory", "memory"),
                ("ephemeral_storage", "ephemeralStorage"),
            )
            if quantity(getattr(self.limits, name)) < quantity(asked := getattr(self.requests, name))
        )
        return self


def resources(cpu: str, memory: str, disk: str, *, limits: tuple[str, str, str]) -> Resources:
    return Resources(
        requests=Amounts(cpu=cpu, memory=memory, ephemeral_storage=disk),
        limits=Amounts(cpu=limits[0], memory=limits[1], ephemeral_storage=limits[2]),
    )


class Probe(Settings):
    """A probe of the kubelet: an HTTP path, a connection, gRPC's health check, or a command."""

    path: Annotated[str | None, Field(pattern=r"^/", examples=["/api/ready"])] = None
    """HTTP path on the service's port; any status from 200 to 399 is a success."""
    command: Annotated[CommandLine | None, Field(examples=["node scripts/alive.js"])] = None
    """Command line; exit code 0 is a success."""
    tcp: Annotated[Literal[True] | None, Field(examples=[True])] = None
    """The service's port accepts connections."""
    grpc: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9._/-]*$", examples=["shop.Catalogue"])] = None
    """gRPC's health check on the service's port, of this service; `""` for the whole server."""
    period_seconds: Seconds = 5
    """Seconds between two probes."""
    timeout_seconds: Seconds = 3
    """Seconds after which a missing answer is a failure."""
    failure_threshold: Annotated[int, Field(ge=1, le=600)] = 3
    """Consecutive failures until the probe counts as failed."""

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if sum(asked is not None for asked in self.question) != 1:
            refuse([Finding(("path",), "a probe has one of path, command, tcp and grpc", "/api/ready")])
        return self

    @property
    def question(self) -> tuple[str | bool | None, ...]:
        """What it asks; one of these is not None."""
        return (self.path, self.command, self.tcp, self.grpc)

    @property
    def needs_port(self) -> bool:
        """Whether it asks at the service's port."""
        return self.command is None


_LONGEST_VARIABLE = 128 * 1024


def _startable(value: str) -> str:
    """Linux starts no program with another one."""
    if "\0" in value or len(value.encode()) >= _LONGEST_VARIABLE - 1_000:
        refuse([Finding((), f"a variable has less than {_LONGEST_VARIABLE // 1024} KiB, and no NUL")])
    return value


EnvValue = Annotated[str, BeforeValidator(as_text), AfterValidator(_startable)]
