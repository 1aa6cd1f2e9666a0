"""Sidecars and init containers of a service, in its pods and in the Jobs that run its release."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pulumi import Input
from pulumi_kubernetes.core.v1 import ContainerArgsDict, EnvFromSourceArgsDict, EnvVarArgsDict

from components.base.pods import container, probe, with_own_scratch
from components.base.shapes import shared_mounts
from settings import Service
from settings.init_containers import InitContainer
from settings.names import keep_dollars


def make_init_containers(
    service: Service,
    wanted: Iterable[InitContainer],
    *,
    release_image: Input[str],
    secret_name: str,
    env_from: Iterable[EnvFromSourceArgsDict] = (),
) -> list[ContainerArgsDict]:
    """In the order in which they start. `env_from`: variables of the service, for those that get them."""
    sources = list(env_from)
    return [
        _make(service, one, service.image or release_image, secret_name, sources if one.service_env else [])
        for one in wanted
    ]


def make_beside_jobs(service: Service, release_image: Input[str], secret_name: str) -> list[ContainerArgsDict]:
    """Those that also run in the Jobs of the release's commands."""
    wanted = [one for one in service.before if one.in_jobs]
    made = make_init_containers(service, wanted, release_image=release_image, secret_name=secret_name)
    # A command has no traffic, and is not to be run again because a probe failed.
    return [_without(one, "readiness_probe", "liveness_probe") for one in made]


def _make(
    service: Service, one: InitContainer, image: Input[str], secret_name: str, sources: list[EnvFromSourceArgsDict]
) -> ContainerArgsDict:
    plain: list[EnvVarArgsDict] = [{"name": name, "value": keep_dollars(value)} for name, value in one.env.items()]
    secret: list[EnvVarArgsDict] = [
        {"name": name, "value_from": {"secret_key_ref": {"name": secret_name, "key": name}}} for name in one.secrets
    ]
    env = [*plain, *secret]
    more: dict[str, Any] = {"env": env} if env else {}
    if sources:
        more["env_from"] = sources
    if one.arguments is not None:
        more["args"] = [keep_dollars(word) for word in one.arguments]
    if one.sidecar:
        more["restart_policy"] = "Always"
        for kind in ("startup", "readiness", "liveness"):
            if asked := getattr(one.probes, kind):
                more[f"{kind}_probe"] = probe(asked, one.port)
    made = with_own_scratch(
        container(
            one.name,
            image=one.image or image,
            amounts=one.resources,
            command=one.command_line,
            mounts=shared_mounts(service.shape, one.mounts),
            **more,
        )
    )
    if one.uid is not None and "security_context" in made:
        made["security_context"] = {**made["security_context"], "run_as_user": one.uid, "run_as_group": one.uid}  # type: ignore[dict-item]
    return made


def _without(made: ContainerArgsDict, *keys: str) -> ContainerArgsDict:
    return {key: value for key, value in made.items() if key not in keys}  # type: ignore[return-value]
