"""`python -m sandbox up | status | env | logs | traffic | s3-key | down`: the sandbox behind `make`, requests as
customers send them, and key pairs of its S3 server."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sandbox import cluster, env, images, packages, stack, toolchain, traffic, ui
from sandbox.cluster import Cluster, layout
from sandbox.cluster.s3keys import KeyPair
from sandbox.paths import ENV_FILE, LOGS, ROOT, STATE
from sandbox.progress import progress

_PODS_BACK_SECONDS = 60


def main() -> int:
    arguments = _parser().parse_args()
    try:
        return arguments.run(arguments)
    except ui.SandboxError as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\n✗ interrupted; run the same command again to continue", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    up = command("up", _up, "build and start everything, release the sample shop, print its URL")
    up.add_argument("--cluster-only", action="store_true", help="stop once Kubernetes is ready")
    status = command("status", _status, "show which programs of the sandbox run; exit code 3 if one is not healthy")
    status.add_argument("--json", action="store_true", help="for programs")
    command("env", _env, "print the shell file that sets PATH and variables for the sandbox")
    logs = command("logs", _logs, "print the log of one part of the sandbox")
    logs.add_argument("name", nargs="?", help="without it: list the logs")
    logs.add_argument("--follow", "-f", action="store_true", help="print new lines as they are written")
    customers = command("traffic", _traffic, "send requests as customers do, and print the results of each second")
    customers.add_argument("--seconds", type=float, default=600, help="end after this long (default: 600)")
    key = command("s3-key", _s3_key, "issue a key pair of the S3 server as JSON, or revoke one")
    key.add_argument(
        "verb", choices=["issue", "revoke"], help="revoke: the pair from PULUMI_COMMAND_STDOUT or standard input"
    )
    command("down", _down, "stop the sandbox and remove its data; the build cache stays")
    return parser


def _up(arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    needed = cluster.check()
    packages.ensure(*needed, *([] if arguments.cluster_only else [packages.IMAGES]))
    if arguments.cluster_only:
        print(f"export KUBECONFIG={cluster.up().kubeconfig}")
        return 0
    progress.plan(
        f"build {name}" for name in (*cluster.list_unbuilt(), *toolchain.list_unbuilt(), *images.list_unbuilt())
    )
    progress.plan(["start the cluster"])
    toolchain.download_ahead()
    with ThreadPoolExecutor() as pool:
        # Compiling keeps the processors busy, from the node's programs to the engine; images mostly wait for downloads.
        programs = pool.submit(cluster.build)
        compiling = pool.submit(lambda: (programs.result(), toolchain.ensure(kubectl=cluster.is_built_here()))[1])
        starting = pool.submit(lambda: (programs.result(), cluster.up())[1])
        built = images.build_all(
            lambda: starting.result().registry,
            compiling.result if cluster.is_built_here() else None,
            measures_pages=stack.measures_pages(),
        )
        running, tools = starting.result(), compiling.result()
    (STATE / "images.json").write_text(json.dumps(built, indent=2) + "\n")
    environment = env.write(running, tools)
    with ui.step("stack"):
        changed = stack.ensure(running, built, environment)
    released = stack.released_image()
    _release(released, stack.image_to_release(built), environment, changed=changed)
    if running.s3 and not released:
        _back_up_and_verify(environment)
    _print_urls(running, environment, time.monotonic() - began)
    return 0


def _release(released: str | None, image: str, environment: Mapping[str, str], *, changed: bool) -> None:
    """Release the image unless it is released and serving already."""
    if released == image and not changed and _is_serving(environment):
        return
    print("▸ release the shop", file=sys.stderr, flush=True)
    code = _foreground(["runbook", "deploy", image, "--yes"], environment)
    if code != 0:
        raise ui.SandboxError(
            f"`runbook deploy` ended with exit code {code}; the sandbox itself is up. "
            f"Try again with: . {_shorten(ENV_FILE)} && runbook deploy {image}"
        )


def _back_up_and_verify(environment: Mapping[str, str]) -> None:
    """Back the shop up and run a restore test: migrations require a proven backup."""
    for words in (["backup", "now"], ["backup", "verify"]):
        print(f"▸ runbook {' '.join(words)}", file=sys.stderr, flush=True)
        if _foreground(["runbook", *words], environment) != 0:
            raise ui.SandboxError(
                f"`runbook {' '.join(words)}` failed; the shop itself is up. "
                f"Try again with: . {_shorten(ENV_FILE)} && runbook backup now && runbook backup verify"
            )


def _is_serving(environment: Mapping[str, str]) -> bool:
    """Whether the release serves, after giving its pods time to start with the node."""
    deadline = time.monotonic() + _PODS_BACK_SECONDS
    while True:
        status = subprocess.run(
            ["runbook", "status", "--json"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        if status.returncode == 0:
            return True
        try:
            completed = json.loads(status.stdout)["lastUpdate"]["result"] == "succeeded"
        except (ValueError, KeyError, TypeError):
            return False
        if not completed or time.monotonic() > deadline:
            return False


def _foreground(command: list[str], environment: Mapping[str, str]) -> int:
    """Run a command that handles Ctrl-C itself, and wait until it has stopped."""
    interrupted = False
    with subprocess.Popen(command, cwd=ROOT, env=environment) as child:
        while True:
            try:
                code = child.wait()
                break
            except KeyboardInterrupt:
                interrupted = True
    if interrupted:
        raise KeyboardInterrupt
    return code


def _print_urls(running: Cluster, environment: Mapping[str, str], seconds: float) -> None:
    outputs = json.loads(ui.run(["pulumi", "stack", "output", "--json"], cwd=ROOT, env=environment))
    shop = f"{running.registry}/shop"
    urls = {"The shop": f"{outputs['url']}/shop"}
    tries = {
        f". {_shorten(ENV_FILE)}": "",
        "runbook status": "",
        "runbook backup list": "all backups, and when a restore test proved each",
        f"runbook deploy {shop}:v2": "the next version, with a migration",
        f"runbook deploy {shop}:v4-errors": "a bad release: its smoke check fails, and it gets no traffic",
        "runbook history": "",
        "runbook rollback": "",
    }
    print(f"\nUp in {seconds:.0f} s; revision {outputs['revision']} serves.\n")
    if running.prometheus and running.alertmanager:
        urls |= {"Prometheus": f"{running.prometheus}/alerts", "Alertmanager": running.alertmanager}
        urls |= {"Sent to Slack": "python -m sandbox logs slack"}
    _print_columns(urls, 15, "")
    print("\nTry next:\n")
    _print_columns(tries, 51, "# ")
    if running.prometheus:
        print("\nWith v2 released, a release that fails only under customers' requests is rolled back automatically:\n")
        late = {
            f"runbook deploy {shop}:v8-late-errors": "passes every check",
            "python -m sandbox traffic": "until v2 answers again, in about half a minute",
            "runbook history": "the rollback, and who did it",
            "pulumi config refresh --force": "updates the stack file to the controller's update",
        }
        _print_columns(late, 51, "# ")
    print(f"\nAll images: {_shorten(STATE / 'images.json')}. Stop and remove everything: make down")


def _print_columns(rows: Mapping[str, str], width: int, sign: str) -> None:
    for left, right in rows.items():
        print(f"    {left:<{width}} {sign}{right}" if right else f"    {left}")


def _status(arguments: argparse.Namespace) -> int:
    components = cluster.status()
    if arguments.json:
        print(json.dumps([dataclasses.asdict(component) for component in components], indent=2))
    elif not components:
        print("the sandbox's cluster is not running; start it with `make up`")
    else:
        lines = [f"{'component':<24} {'state':<9} {'pid':>7} {'up for':>9} {'restarts':>8}  log"]
        lines += [
            f"{part.name:<24} {part.state:<9} {part.pid or '-':>7} {_duration(part.uptime_seconds):>9} "
            f"{part.restarts:>8}  {_shorten(part.log)}"
            for part in components
        ]
        print("\n".join(lines))
    well = components and all(part.state == "RUNNING" for part in components)
    return 0 if well else 3


def _shorten(path: str | Path) -> str:
    """A path as short as it can be typed here."""
    return str(Path(path).relative_to(Path.cwd()) if Path(path).is_relative_to(Path.cwd()) else path)


def _duration(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours} h {minutes} m" if hours else f"{minutes} m {seconds} s" if minutes else f"{seconds} s"


def _env(_: argparse.Namespace) -> int:
    if not ENV_FILE.exists():
        raise ui.SandboxError(f"{ENV_FILE} does not exist yet: run `make up` first")
    print(ENV_FILE.read_text(), end="")
    return 0


def _logs(arguments: argparse.Namespace) -> int:
    if not arguments.name:
        for path in sorted(LOGS.glob("*.log")):
            print(f"{path.stem:<26} {_shorten(path)}")
        return 0
    follow: list[str | Path] = ["--follow"] if arguments.follow else ["--lines=+1"]
    return subprocess.run(["tail", *follow, cluster.logs(arguments.name)], check=False).returncode


def _traffic(arguments: argparse.Namespace) -> int:
    with contextlib.suppress(KeyboardInterrupt):
        traffic.report(stack.public_url(), arguments.seconds)
    return 0


def _s3_key(arguments: argparse.Namespace) -> int:
    server = cluster.s3_server()
    if arguments.verb == "issue":
        print(server.issue().to_json())
    else:
        server.revoke(KeyPair.from_json(os.environ.get("PULUMI_COMMAND_STDOUT") or sys.stdin.read()))
    return 0


def _down(_: argparse.Namespace) -> int:
    if ENV_FILE.exists() and not layout.KUBECONFIG.exists():
        # The cluster is the user's own and stays: remove the stack's objects from it.
        code = _foreground(
            ["sh", "-c", '. "$0" && exec pulumi destroy --yes --skip-preview', str(ENV_FILE)], os.environ
        )
        if code != 0:
            raise ui.SandboxError("not everything could be removed from your cluster, so the stack's state is kept")
    cluster.down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
