"""`runbook init`: from nothing to a stack file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.common import Invocation
from ops.errors import Refused

if TYPE_CHECKING:
    from ops.decisions.new_monitoring import NewMonitoring
    from ops.decisions.new_stack import NewStack

EXAMPLES = """runbook init staging --image registry.example.com/shop:2.4.0
runbook init staging --yes --dockerfile ../shop/Dockerfile --tasks-image registry.example.com/runbook-tasks:1 \
--host shop.example.com --health-path /ready --live-path /live --postgres-cidr 10.0.5.0/24 --redis-cidr 10.0.6.0/24
runbook init watch --monitoring-only --watch-url https://shop.example.com"""

Text = str | None
_ENVIRONMENT, _TASKS_IMAGE = "Kind of environment (production, staging)", "This project's own image (images/tasks)"


def init(
    call: Invocation,
    stack: Annotated[str, typer.Argument(help="Name of the new stack, such as staging.")],
    image: Annotated[Text, typer.Option(help="The application's image: port and command are read from it.")] = None,
    dockerfile: Annotated[Path, typer.Option(help="Or its Dockerfile.", dir_okay=False)] = Path("Dockerfile"),
    tasks_image: Annotated[Text, typer.Option(help="This project's image (images/tasks), by tag or digest.")] = None,
    namespace: Annotated[Text, typer.Option(help="Default: the stack's name.")] = None,
    environment: Annotated[Text, typer.Option(help="production, staging or sandbox.")] = None,
    context: Annotated[Text, typer.Option(help="The cluster's context in the kubeconfig.")] = None,
    service: Annotated[str, typer.Option(help="Name of the service.")] = "backend",
    command: Annotated[Text, typer.Option(help="Its command line.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Its HTTP port.")] = None,
    health_path: Annotated[Text, typer.Option(help="Answers 2xx when the application can serve.")] = None,
    live_path: Annotated[Text, typer.Option(help="Answers 2xx while the process lives.")] = None,
    host: Annotated[Text, typer.Option(help="Host name for customers.")] = None,
    ingress_class: Annotated[str, typer.Option(help="Ingress class.")] = "nginx",
    ingress_namespace: Annotated[Text, typer.Option(help="Namespace of the ingress controller.")] = None,
    ingress_label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Labels of the ingress controller's pods.")
    ] = None,
    postgres_cidr: Annotated[Text, typer.Option(help="Address range of an external PostgreSQL.")] = None,
    postgres_image: Annotated[Text, typer.Option(help="Or an image to run it in the cluster.")] = None,
    redis_cidr: Annotated[Text, typer.Option(help="Address range of an external Redis.")] = None,
    redis_image: Annotated[Text, typer.Option(help="Or an image to run it in the cluster.")] = None,
    without_redis: Annotated[bool, typer.Option("--without-redis", help="The application has no Redis.")] = False,
    uid: Annotated[int | None, typer.Option(min=1, help="Number of the image's user.")] = None,
    migrate: Annotated[
        list[str] | None, typer.Option(metavar="COMMAND", help="Command line of the migrations; repeat it.")
    ] = None,
    schema_level: Annotated[
        Text, typer.Option("--schema-level", metavar="COMMAND", help="Prints the database's schema level.")
    ] = None,
    smoke: Annotated[Text, typer.Option(metavar="COMMAND", help="Checks the release at TARGET_URL.")] = None,
    secret: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A secret variable; repeat it.")] = None,
    monitoring_only: Annotated[
        bool, typer.Option("--monitoring-only", help="No application: only monitor what belongs to others.")
    ] = False,
    monitoring_image: Annotated[Text, typer.Option(help="With it: the image of images/monitoring.")] = None,
    watch_url: Annotated[Text, typer.Option(help="With it: the public address to probe.")] = None,
    watch_cidr: Annotated[Text, typer.Option(help="With it: address range of that.")] = None,
    slack_cidr: Annotated[Text, typer.Option(help="With it: address range of the Slack webhooks.")] = None,
) -> None:
    """Write the stack file of an application, as short as it can be, and print what to type next.

    Asks for what is not given; with --yes, names all that is missing at once. Images are resolved to digests.
    """
    from ops.commands import init as making
    from ops.decisions.new_stack import DataService, NewStack

    file = making.stack_file(call.cwd, stack)
    ask = _Questions(call.yes)
    if monitoring_only:
        from ops.decisions.new_monitoring import NewMonitoring

        servers = {"postgres": postgres_cidr, "redis": redis_cidr}
        if not any(servers.values()):
            watch_url = ask("--watch-url", watch_url, "Public address to probe, such as https://shop.example.com")
        alone = {
            "environment": ask("--environment", environment, _ENVIRONMENT, "staging"),
            "tasks_image": ask("--tasks-image", tasks_image, _TASKS_IMAGE),
            "monitoring_image": ask("--monitoring-image", monitoring_image, "This project's images/monitoring"),
            "url_cidr": ask("--watch-cidr", watch_cidr, f"Address range of {watch_url} (CIDR)") if watch_url else None,
            "slack_cidr": ask("--slack-cidr", slack_cidr, "Address range of the Slack webhooks (CIDR)"),
        }
        ask.refuse_missing()
        images = {name: making.resolve_digest(alone[name]) for name in ("tasks_image", "monitoring_image")}
        found = {name: DataService(cidr) for name, cidr in servers.items() if cidr}
        named = {"stack": stack, "namespace": namespace or stack, "context": context, "url": watch_url}
        _write(call, file, NewMonitoring(**{**named, **alone, **images, **found}), None)
        return
    facts, lacks = making.read_facts(image, dockerfile)
    answers: dict[str, Any] = {
        "environment": ask("--environment", environment, _ENVIRONMENT, "staging"),
        "tasks_image": ask("--tasks-image", tasks_image, _TASKS_IMAGE),
        "command": ask("--command", command or facts.command, "The application's command line"),
        "port": int(ask("--port", port or facts.port, "Its HTTP port")),
        "health_path": ask("--health-path", health_path or facts.health_path, "Path that answers when it can serve"),
        "live_path": ask(
            "--live-path", live_path, "Path that answers while the process lives, whatever its database does"
        ),
        "host": ask("--host", host, "Host name for customers"),
    }
    stores = [("postgres", "the database", postgres_cidr, postgres_image, "")]
    if not without_redis:
        stores.append(("redis", "Redis", redis_cidr, redis_image, " or --without-redis"))
    outside = {
        name: cidr if of else ask(f"--{name}-cidr or --{name}-image{more}", cidr, f"Address range of {title} (CIDR)")
        for name, title, cidr, of, more in stores
    }
    ask.refuse_missing()
    labels: dict[str, str] = {}
    for label in ingress_label or [f"app.kubernetes.io/name={_controller(ingress_class)}"]:
        key, _, value = label.partition("=")
        labels[key] = value
    made = NewStack(
        stack=stack,
        namespace=namespace or stack,
        context=context,
        service=service,
        ingress_class=ingress_class,
        ingress_namespace=ingress_namespace or _controller(ingress_class),
        ingress_labels=labels,
        postgres=DataService(outside["postgres"], postgres_image and making.resolve_digest(postgres_image)),
        redis=None
        if without_redis
        else DataService(outside["redis"], redis_image and making.resolve_digest(redis_image)),
        uid=uid or facts.uid,
        migrate=tuple(migrate or ()),
        schema_level=schema_level,
        smoke=smoke,
        secrets=tuple(secret or ()),
        **{**answers, "tasks_image": making.resolve_digest(answers["tasks_image"])},
    )
    _write(call, file, made, image, lacks)


def _write(
    call: Invocation, file: Path, made: NewStack | NewMonitoring, image: str | None, lacks: Sequence[str] = ()
) -> None:
    """Write the file, and print what its image lacks and what to type next."""
    from ops.commands import init as making

    making.write_stack_file(file, made)
    for lack in lacks:
        typer.secho(lack, fg="yellow", err=True)
    steps = "\n".join(f"    {step}" for step in making.next_commands(made, image))
    more = "" if made.context else "\nName the cluster first: kubernetes:context in the file."
    call.show(making.describe(made, image, file), f"{file.name} is written.{more} Next:\n{steps}")


class _Questions:
    """Asks for what was not given; with --yes or without a terminal, collects what is missing."""

    def __init__(self, yes: bool) -> None:
        self._asks = not yes and sys.stdin.isatty()
        self._missing: list[str] = []

    def __call__(self, option: str, given: object, question: str, default: str | None = None) -> Any:
        if given is not None:
            return given
        if self._asks:
            return typer.prompt(question, default=default, err=True)
        if default is None:
            self._missing.append(f"{option}  {question}")
        return default or "0"

    def refuse_missing(self) -> None:
        if self._missing:
            raise Refused("Missing, and there is no terminal to ask on. Give:\n  " + "\n  ".join(self._missing))


def _controller(ingress_class: str) -> str:
    """Where the controllers' own charts put them."""
    return {"nginx": "ingress-nginx"}.get(ingress_class, ingress_class)
