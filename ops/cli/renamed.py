"""Groups that were one command with modes: the old spellings go on working, with a hint that names the new one."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup


class RenamedGroup(TyperGroup):
    """Translates an old spelling into a subcommand."""

    modes: ClassVar[Mapping[str, str]] = {}
    """What chose a mode → the subcommand that it is now."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {*self.commands, *ctx.help_option_names}
        if not ctx.resilient_parsing and not (args[0] in known if args else self.no_args_is_help):
            args = self.translate(args)
            new = shlex.join(["runbook", self.name or "", *args])
            typer.echo(f"hint: this spelling is old; the new one is `{new}`", err=True)
        return super().parse_args(ctx, args)

    def translate(self, args: Sequence[str]) -> list[str]:
        """The arguments in the new spelling."""
        for index, word in enumerate(args):
            if word in self.modes:
                return [self.modes[word], *args[:index], *args[index + 1 :]]
        return [self.choose(args), *args]

    def choose(self, args: Sequence[str]) -> str:
        """The subcommand of arguments that name no mode."""
        raise NotImplementedError
