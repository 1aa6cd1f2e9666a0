"""The runbooks' own names: `npm run status:health` is `runbook status:health` is `runbook status health`."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperGroup

_NAME = re.compile(r"[a-z]+(:[a-z][a-z-]*)+")


class NpmNames(TyperGroup):
    """Splits the command's name at its colons, where the first word is one of its commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and _NAME.fullmatch(args[0]) and args[0] not in self.commands:
            words = args[0].split(":")
            if words[0] in self.commands:
                args = [*words, *args[1:]]
        return super().parse_args(ctx, args)
