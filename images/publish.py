"""Builds images, tests all of them, then pushes them, and prints their digests as lines of a stack file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from images.recipes import RECIPES, USER, Recipe
from images.tools import CommandFailed, Commands, ImageError, Tool

_REGISTRY = re.compile(r"^(localhost|[a-z0-9-]+(\.[a-z0-9-]+)+|[a-z0-9.-]+:\d+)(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$")
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")
_WRITE = "make images REGISTRY=registry.example.com/shop"
Say = Callable[[str], None]


def check_registry(registry: str | None) -> str:
    """A registry's host and, behind slashes, where in it; refused before anything is built."""
    if not registry:
        raise ImageError(f"REGISTRY is missing, and nothing was changed: name where to push, `{_WRITE}`")
    if not _REGISTRY.match(registry):
        why = "write host and path, without https://, tag or digest" if "." in registry else "name the host, too"
        raise ImageError(f"REGISTRY={registry} is no place to push to, and nothing was changed: {why}, `{_WRITE}`")
    return registry


def choose_recipes(names: Sequence[str]) -> list[Recipe]:
    """The images of these names; all of them without any."""
    known = {recipe.name: recipe for recipe in RECIPES}
    if unknown := [name for name in names if name not in known]:
        raise ImageError(f"No such image: {', '.join(unknown)}. There are: {', '.join(known)}. Nothing was changed")
    return [known[name] for name in names] or list(RECIPES)


def find_revision(commands: Commands) -> tuple[str, bool]:
    """The commit of the checkout, and whether it has changes that are in no commit."""
    try:
        revision = commands.run("git", "rev-parse", "HEAD")
        return revision, bool(commands.run("git", "status", "--porcelain"))
    except CommandFailed as error:
        why = "images carry the commit that they were built from, and this is no Git checkout: clone the project"
        raise ImageError(f"{why}. Nothing was changed. {error}") from None


def publish(
    tool: Tool, registry: str, recipes: Sequence[Recipe], revision: tuple[str, bool], given: Mapping[str, str], say: Say
) -> dict[Recipe, str]:
    """By image: its reference by digest. Nothing is pushed before every image is built and tested."""
    commit, changed = revision
    tag = f"{commit[:12]}-changed" if changed else commit[:12]
    if changed:
        say("The checkout has changes that are in no commit: the tag ends in -changed. Commit them for production.")
    if unknown := sorted(set(given) - frozenset().union(*(recipe.arguments for recipe in recipes))):
        raise ImageError(f"No Dockerfile of these images has an argument {', '.join(unknown)}. Nothing was changed")
    references = {recipe: f"{registry}/runbook-{recipe.name}:{tag}" for recipe in recipes}
    labels = {"org.opencontainers.image.revision": commit}
    for recipe, reference in references.items():
        say(f"Building {reference}.")
        tool.build(recipe, reference, {key: given[key] for key in sorted(given) if key in recipe.arguments}, labels)
    for recipe, reference in references.items():
        check_image(tool, recipe, reference, say)
    pushed: dict[Recipe, str] = {}
    for recipe, reference in references.items():
        say(f"Pushing {reference}.")
        digest = tool.push(reference)
        if not _DIGEST.match(digest):
            raise ImageError(f"{tool.name} gave no digest for {reference}, but {digest!r}")
        pushed[recipe] = f"{reference.rpartition(':')[0]}@{digest}"
    return pushed


def check_image(tool: Tool, recipe: Recipe, reference: str, say: Say) -> None:
    """Every program of an image starts, as its own user, which is not root."""
    run = tool.open(reference)
    user = run(("id", "-u")).splitlines()[-1].strip()
    if user != USER:
        raise ImageError(f"{reference} runs as user {user} instead of {USER}. Nothing was pushed")
    for what, argv in recipe.checks.items():
        try:
            printed = run(argv)
        except CommandFailed as error:
            raise ImageError(f"{reference}: {what}: {error}\nNothing was pushed") from None
        first = next(iter(printed.splitlines()), "")
        say(f"  {recipe.name}: {what}: {first}" if "ersion" in printed[:200] else f"  {recipe.name}: {what}")


def render_lines(pushed: Mapping[Recipe, str]) -> str:
    """What to write into a stack file, under `config:`."""
    lines: list[str] = []
    before: tuple[str, ...] = ()
    for recipe, reference in sorted(pushed.items(), key=lambda item: item[0].key):
        *parents, last = recipe.key
        for depth, key in enumerate(parents):
            if before[: depth + 1] != tuple(parents[: depth + 1]):
                lines.append(f"{'  ' * (depth + 1)}{key}:")
        lines.append(f"{'  ' * (len(parents) + 1)}{last}: {reference}")
        before = recipe.key
    return "\n".join(["config:", *lines])
