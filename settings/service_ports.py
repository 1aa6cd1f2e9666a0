"""More ports of a service, each with the clients that may call it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from settings.base import DnsLabel, Finding, Path, PortNumber, Settings
from settings.peers import NetworkPeer

if TYPE_CHECKING:
    from settings.application import Service

PortName = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,13}[a-z0-9])?$", examples=["grpc"])]
"""At most 15 lower-case letters, digits and hyphens, as Kubernetes wants it."""
_MAIN = "http"


class ServicePort(Settings):
    """A port beside `port`, reached through the Service of the service. Network policies let in only the clients that
    are named here: neither the ingress controller nor the other services are among them by themselves."""

    name: PortName
    """Name of the port."""
    port: PortNumber
    """Number of the port, in the pods and in the Service. A container of the pod listens there: the service or a
    sidecar."""
    protocol: Literal["TCP", "UDP"] = "TCP"
    """Protocol."""
    from_services: Annotated[tuple[DnsLabel, ...], Field(examples=[["backend"]])] = ()
    """Services of this stack that may call it."""
    from_outside: NetworkPeer | None = None
    """Pods of another namespace, or addresses, that may call it. Not during a lockdown."""

    def _findings(self) -> list[Finding]:
        found: list[Finding] = []
        if self.name == _MAIN:
            found.append(Finding(("name",), "the program gives `port` this name", "grpc"))
        if not (self.from_services or self.from_outside):
            why = "no client may call this port: name services of this stack in fromServices, others in fromOutside"
            found.append(Finding(("fromServices",), why, ["backend"]))
        if self.from_outside and self.from_outside.ports:
            why = "these clients call us, on the number of this port: remove it"
            found.append(Finding(("fromOutside", "ports"), why))
        return found


def find_port_faults(services: Sequence[Service]) -> Iterator[Finding]:
    """Clients that there are, and numbers that no other policy opens."""
    names = [service.name for service in services]
    main = {service.port: service.name for service in services if service.port}
    for index, service in enumerate(services):
        taken: set[str] = set()
        numbers: set[tuple[int, str]] = set()
        for place, port in enumerate(service.more_ports):
            here: Path = ("services", index, "ports", place)
            if port.name in taken:
                yield Finding((*here, "name"), f"{port.name} stands here twice: rename one")
            if (port.port, port.protocol) in numbers:
                yield Finding((*here, "port"), f"{port.port} ({port.protocol}) stands here twice: remove one")
            if port.port in main and port.protocol == "TCP":
                why = (
                    f"{port.port} is the port of {main[port.port]}, and the network policies let all services, Jobs "
                    "and the ingress controller call that number in the pods of every service: use another"
                )
                yield Finding((*here, "port"), why, _free(port.port, main))
            taken.add(port.name)
            numbers.add((port.port, port.protocol))
            for number, name in enumerate(port.from_services):
                if name not in names:
                    why = f"no such service; there are: {', '.join(names)}"
                    yield Finding((*here, "fromServices", number), why, names[0])


def _free(port: int, taken: dict[int, str]) -> int:
    """The next number that no service has as its own."""
    return next(number for number in range(port + 1, port + len(taken) + 2) if number not in taken)
