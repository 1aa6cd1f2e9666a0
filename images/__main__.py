"""`python3 -m images --registry HOST/PATH [IMAGE…]`: builds, tests and pushes the images that pods run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from urllib.parse import urlsplit

from images.publish import check_registry, choose_recipes, find_revision, publish, render_lines
from images.recipes import RECIPES
from images.tools import Commands, ImageError, choose_tool


def main(arguments: Sequence[str] | None = None, commands: Commands | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make images REGISTRY=…", description=__doc__)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=", ".join(each.name for each in RECIPES))
    parser.add_argument("--registry", help="where to push: host and path")
    parser.add_argument("--tool", choices=("docker", "podman", "buildah"), help="instead of the first that works")
    parser.add_argument(
        "--build-arg",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the Dockerfiles: BASE=debian:trixie-slim",
    )
    options = parser.parse_args(arguments)
    commands = commands or Commands()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        registry = check_registry(options.registry)
        recipes = choose_recipes(options.images)
        given = dict(_split(each) for each in options.build_arg)
        revision = find_revision(commands)
        tool = choose_tool(commands, options.tool, say)
        pushed = publish(tool, registry, recipes, revision, given, say)
    except ImageError as error:
        say(f"error: {error}.")
        return 1
    say("Pushed. Write into Pulumi.<stack>.yaml:")
    print(render_lines(pushed))
    return 0


def _split(argument: str) -> tuple[str, str]:
    name, equals, value = argument.partition("=")
    if not (name and equals):
        raise ImageError(f"--build-arg {argument} is not NAME=VALUE. Nothing was changed")
    if (parts := urlsplit(value)).username or parts.password:
        why = "its URL has a login, which the image's history and the process list would show"
        raise ImageError(
            f"--build-arg {name}: {why}. Use an index without one, or a proxy that adds it. Nothing was changed"
        )
    return name, value


if __name__ == "__main__":
    sys.exit(main())
