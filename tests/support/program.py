"""Runs the program without an engine and keeps every resource it registers.

`python -m tests.support.program Pulumi.sandbox.yaml` prints the Kubernetes objects of a stack file as YAML,
for linters; secrets are made up.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import runpy
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pulumi import Output, ResourceHook
from pulumi.runtime import get_root_resource, mocks, rpc, set_all_config
from pulumi.runtime.settings import SETTINGS
from pulumi.runtime.stack import run_pulumi_func

from settings.monitoring import STATE_SECRETS, Monitoring

ROOT = Path(__file__).resolve().parents[2]
RELEASE = {
    "revision": 1,
    "image": "registry.example.com/shop@sha256:" + "a" * 64,
    "git": "1a2b3c4",
    "schema": {"min": 1, "max": 2, "level": 1},
}


@dataclass(frozen=True)
class Registered:
    """One resource as the program asked for it."""

    urn: str
    type: str
    name: str
    inputs: Mapping[str, Any]
    parent: str
    depends_on: frozenset[str]
    protect: bool
    retained: bool
    ignored_changes: frozenset[str]
    timeouts: Mapping[str, str]
    ignored: tuple[str, ...]
    secret_inputs: frozenset[str]

    @property
    def kind(self) -> str:
        return self.type.rsplit(":", 1)[1]

    @property
    def object_name(self) -> str:
        return self.inputs["metadata"]["name"]

    @property
    def pod(self) -> Mapping[str, Any] | None:
        """The spec of its pods, for what has pods."""
        template = self.template
        return template["spec"] if template else None

    @property
    def template(self) -> Mapping[str, Any] | None:
        """The template of its pods, for what has pods."""
        spec = self.inputs.get("spec", {})
        return (spec["jobTemplate"]["spec"] if self.kind == "CronJob" else spec).get("template")

    @property
    def containers(self) -> list[Mapping[str, Any]]:
        return [*(self.pod or {}).get("initContainers", []), *(self.pod or {}).get("containers", [])]


@dataclass
class Program:
    """Everything one run registered, in order, and what it exported."""

    resources: list[Registered] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    hooks: dict[str, ResourceHook] = field(default_factory=dict)
    """What the engine would call before or after it changes a resource, by name."""

    def all(self, kind: str) -> list[Registered]:
        return [resource for resource in self.resources if resource.kind == kind]

    def one(self, kind: str, object_name: str | None = None) -> Registered:
        found = [
            r for r in self.all(kind) if object_name is None or object_name in (r.inputs["metadata"]["name"], r.name)
        ]
        assert len(found) == 1, f"{len(found)} {kind} {object_name}: {[r.urn for r in self.resources]}"
        return found[0]

    @property
    def objects(self) -> list[Registered]:
        return [resource for resource in self.resources if resource.type.startswith("kubernetes:")]

    def waits_for(self, later: Registered, earlier: Registered) -> bool:
        """Whether `later` depends on `earlier`, directly or through others."""
        by_urn = {resource.urn: resource for resource in self.resources}
        seen: set[str] = set()
        todo = list(later.depends_on)
        while todo:
            urn = todo.pop()
            if urn == earlier.urn:
                return True
            if urn not in seen and urn in by_urn:
                seen.add(urn)
                todo += by_urn[urn].depends_on
        return False


class _Echo(mocks.Mocks):
    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        made: dict[str, str] = {}
        if args.typ.startswith("random:"):
            made = {"result": f"made-up-{args.name}"}
        elif args.typ.startswith("command:"):
            pair = {"accessKeyId": f"id-{args.name}", "secretAccessKey": f"key-{args.name}"}
            made = {"stdout": json.dumps(pair) + "\n"}
        return f"{args.name}-id", {**args.inputs, **made}

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        raise AssertionError(f"the program calls {args.token}, which differs from run to run")


class _Recorder(mocks.MockMonitor):
    def __init__(self, program: Program) -> None:
        super().__init__(_Echo())
        self._program = program

    def RegisterResource(self, request: Any) -> Any:
        answer = super().RegisterResource(request)
        if request.type != "pulumi:pulumi:Stack":
            opened, secret = _opened(rpc.deserialize_properties(request.object, keep_unknowns=True))
            self._program.resources.append(
                Registered(
                    urn=answer.urn,
                    type=request.type,
                    name=request.name,
                    inputs=opened,
                    parent=request.parent,
                    depends_on=frozenset(request.dependencies),
                    protect=request.protect,
                    retained=request.retainOnDelete,
                    ignored_changes=frozenset(request.ignoreChanges),
                    timeouts={key: getattr(request.customTimeouts, key) for key in ("create", "update")},
                    ignored=tuple(request.ignoreChanges),
                    secret_inputs=frozenset(secret),
                )
            )
        return answer


@dataclass(frozen=True)
class _Callbacks:
    """In place of the server through which the engine calls hooks."""

    program: Program

    def register_resource_hook(self, hook: ResourceHook) -> None:
        self.program.hooks[hook.name] = hook


def _opened(value: Any, at: str = "") -> tuple[Any, set[str]]:
    """The value with its secrets opened, and where they were."""
    if rpc.is_rpc_secret(value):
        return _opened(rpc.unwrap_rpc_secret(value), at)[0], {at}
    if isinstance(value, dict):
        parts = {key: _opened(item, f"{at}.{key}" if at else key) for key, item in value.items()}
        return {k: part[0] for k, part in parts.items()}, set().union(*(part[1] for part in parts.values()))
    if isinstance(value, float) and value.is_integer():
        return int(value), set()  # the protocol knows no integers
    if isinstance(value, list):
        items = [_opened(item, f"{at}[{index}]") for index, item in enumerate(value)]
        return [item[0] for item in items], set().union(*(item[1] for item in items))
    return value, set()


def committed(file: str, **changes: Any) -> dict[str, Any]:
    """The configuration of a committed stack file with its placeholders filled in, and changes to `runbook:` keys."""
    text = (ROOT / file).read_text().replace("0" * 64, "0" * 63 + "1")
    config = {"kubernetes:context": "a-cluster", **yaml.safe_load(text)["config"]}
    return {**config, **{f"runbook:{key}": value for key, value in changes.items()}}


def stack_config(file: str, **changes: Any) -> dict[str, Any]:
    """The same without monitoring and maintenance, which tests of other chapters would find among what is theirs."""
    config = committed(file)
    config.pop("runbook:monitoring", None)
    config.pop("runbook:maintenanceTasks", None)
    return {**config, **{f"runbook:{key}": value for key, value in changes.items()}}


def secrets_for(config: Mapping[str, Any]) -> dict[str, str]:
    """A made-up value for every secret a configuration needs."""
    names = list(config.get("runbook:application", {}).get("secrets", []))
    data = config.get("runbook:data", {})
    names += [
        f"{url}_URL"
        for url, key in (("DATABASE", "postgres"), ("REDIS", "redis"))
        if data.get(key, {}).get("mode") == "external"
    ]
    if data.get("postgres", {}).get("admin"):
        names.append("DATABASE_ADMIN_URL")
    backup = config.get("runbook:backup")
    if backup and backup["destination"]["mode"] == "s3" and backup["destination"].get("credentials") != "podIdentity":
        names += ["BACKUP_S3_ACCESS_KEY_ID", "BACKUP_S3_SECRET_ACCESS_KEY"]
    if backup and backup.get("encryption"):
        names.append("BACKUP_IDENTITIES")
    if (monitoring := config.get("runbook:monitoring")) is not None:
        switch = monitoring.get("deadMansSwitch", True)
        names += Monitoring(dead_mans_switch=switch).secret_names
        names += STATE_SECRETS if monitoring.get("rollback", {}).get("image") else ()
    return {name: _made_up(name) for name in names}


def _made_up(name: str) -> str:
    if name in ("DATABASE_URL", "DATABASE_ADMIN_URL"):
        return f"postgresql://{name.split('_')[1].lower()}:value-of-{name.lower()}@db.example.com:5432/shop?sslmode=require"
    return f"value-of-{name.lower()}"


def run_program(config: Mapping[str, Any], secrets: Mapping[str, str] | None = None, stack: str = "test") -> Program:
    """Run `__main__.py` on this configuration."""
    given = secrets_for(config) if secrets is None else secrets
    flat = {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}
    flat |= {f"secrets:{name}": value for name, value in given.items()}
    program = Program()

    def run() -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)  # the mocked root stack is registered on the current one
        mocks.set_mocks(_Echo(), project="runbook", stack=stack, preview=False, monitor=_Recorder(program))
        set_all_config(flat, [f"secrets:{name}" for name in given])
        SETTINGS.callbacks = _Callbacks(program)  # type: ignore[assignment]

        async def main() -> None:
            runpy.run_path(str(ROOT / "__main__.py"), run_name="runbook_program")
            root: Any = get_root_resource()
            program.outputs = dict(await Output.all(**root.outputs).future() or {})

        try:
            loop.run_until_complete(run_pulumi_func(main))
        finally:
            loop.close()
            gc.enable()  # the program is a short process, this one is not

    contextvars.copy_context().run(run)
    return program


def main(file: str) -> None:
    program = run_program(stack_config(file, release=RELEASE))
    yaml.safe_dump_all([dict(resource.inputs) for resource in program.objects], sys.stdout, sort_keys=False)


if __name__ == "__main__":
    main(sys.argv[1])
