"""`python -m sandbox up | status | env | logs | down`: what `make` calls."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sandbox import cluster, env, images, packages, stack, toolchain, ui
from sandbox.cluster import Cluster
from sandbox.paths import ENV_FILE, LOGS, ROOT, STATE


def main() -> int:
    arguments = _parser().parse_args()
    try:
        return arguments.run(arguments)
    except ui.SandboxError as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\n✗ interrupted; the same command goes on from here", file=sys.stderr)
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
    status = command("status", _status, "what of the sandbox is running; exit code 3 if it is not all well")
    status.add_argument("--json", action="store_true", help="for programs")
    command("env", _env, "print the shell file that puts the sandbox's tools and settings in place")
    logs = command("logs", _logs, "print the log of one part of the sandbox")
    logs.add_argument("name", nargs="?", help="without it: which logs there are")
    logs.add_argument("--follow", "-f", action="store_true", help="go on printing what is added")
    command("down", _down, "stop the sandbox and remove its data; the build cache stays")
    return parser


def _up(arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    packages.ensure(packages.CLUSTER, packages.IMAGES)
    if not arguments.cluster_only:
        toolchain.download_ahead()
    with ThreadPoolExecutor() as pool:
        running = cluster.up()
        if arguments.cluster_only:
            print(f"export KUBECONFIG={running.kubeconfig}")
            return 0
        # Compiling keeps the processors busy, images mostly wait for downloads.
        building = pool.submit(images.build_all, running.registry)
        tools = toolchain.ensure()
        built = building.result()
    (STATE / "images.json").write_text(json.dumps(built, indent=2) + "\n")
    environment = env.write(running, tools)
    with ui.step("stack"):
        stack.ensure(running, built, environment)
    _release(stack.released_image() or built["shop:v1"], environment)
    _welcome(running, built, environment, time.monotonic() - began)
    return 0


def _release(image: str, environment: Mapping[str, str]) -> None:
    with ui.step(f"release {image.split('@')[0]}"):
        done = subprocess.run(["runbook", "deploy", image, "--yes"], cwd=ROOT, env=environment, check=False)
    if done.returncode != 0:
        raise ui.SandboxError(
            f"`runbook deploy` ended with exit code {done.returncode}; the sandbox itself is up. "
            f"Try again with: . {ENV_FILE.relative_to(ROOT)} && runbook deploy {image}"
        )


def _welcome(running: Cluster, built: Mapping[str, str], environment: Mapping[str, str], seconds: float) -> None:
    outputs = json.loads(ui.run(["pulumi", "stack", "output", "--json"], cwd=ROOT, env=environment))
    registry = running.registry
    where = os.path.relpath(ENV_FILE)
    print(
        f"""
The shop answers at  {outputs["url"]}  (revision {outputs["revision"]}, ready in {seconds:.0f} s)
Its certificate is signed by {running.ca}; or plain: {running.http}

    . {where}
    runbook status
    runbook deploy {registry}/shop:v2          # next version, with a migration
    runbook deploy {registry}/shop:v4-errors   # a bad one: watch it roll back
    runbook history
    runbook rollback

Images here: {", ".join(sorted(built))}
Stop and remove everything: make down"""
    )


def _status(arguments: argparse.Namespace) -> int:
    components = cluster.status()
    if arguments.json:
        print(json.dumps([dataclasses.asdict(component) for component in components], indent=2))
    elif not components:
        print("the sandbox's cluster is not running; start it with `make up`")
    else:
        print(f"{'component':<24} {'state':<9} {'pid':>7} {'up for':>9} {'restarts':>8}  log")
        for part in components:
            print(
                f"{part.name:<24} {part.state:<9} {part.pid or '-':>7} {_duration(part.uptime_seconds):>9} "
                f"{part.restarts:>8}  {os.path.relpath(part.log)}"
            )
    well = components and all(part.state == "RUNNING" for part in components)
    return 0 if well else 3


def _duration(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours} h {minutes} m" if hours else f"{minutes} m {seconds} s" if minutes else f"{seconds} s"


def _env(_: argparse.Namespace) -> int:
    if not ENV_FILE.exists():
        raise ui.SandboxError(f"{ENV_FILE} is not there yet: run `make up` first")
    print(ENV_FILE.read_text(), end="")
    return 0


def _logs(arguments: argparse.Namespace) -> int:
    if not arguments.name:
        for path in sorted(LOGS.glob("*.log")):
            print(f"{path.stem:<26} {os.path.relpath(path)}")
        return 0
    follow: list[str | Path] = ["--follow"] if arguments.follow else ["--lines=+1"]
    return subprocess.run(["tail", *follow, cluster.logs(arguments.name)], check=False).returncode


def _down(_: argparse.Namespace) -> int:
    cluster.down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
