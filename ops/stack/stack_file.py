"""Edits `Pulumi.<stack>.yaml` without changing any other byte, comments included.

Only the lines of the changed keys are replaced, the result is read back and compared with the intended one,
and the file is replaced atomically: a killed run leaves the old file or the new one, never half of it.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ops.errors import Refused


@dataclass(frozen=True)
class StackText:
    """The text of a stack file, and what it says."""

    path: Path
    text: str

    @property
    def config(self) -> dict[str, Any]:
        """Values by full key; an encrypted one is `{secure: …}`."""
        return _config(self.text)

    def edited(self, changes: Mapping[str, Any]) -> StackText:
        """With these keys under `config:` set; None removes a key."""
        text, wanted = self.text, self.config
        for key, value in changes.items():
            if wanted.get(key) == value:
                continue
            text = _edit(text, key, value)
            wanted = {**wanted, key: value}
            if value is None:
                del wanted[key]
        if _config(text) != wanted:
            raise ValueError(f"{self.path.name}: the edit would change more than {', '.join(changes)}")
        return StackText(self.path, text)

    def save(self) -> None:
        """Replace the file by this text, atomically."""
        scratch = self.write_scratch()
        try:
            if self.path.exists():
                scratch.chmod(self.path.stat().st_mode & 0o777)
            scratch.replace(self.path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise

    def write_scratch(self) -> Path:
        """A scratch file with this text, next to the stack file; the caller removes it."""
        handle, name = tempfile.mkstemp(prefix=f".{self.path.stem}.", suffix=".yaml", dir=self.path.parent)
        with os.fdopen(handle, "w") as sink:
            sink.write(self.text)
            sink.flush()
            os.fsync(sink.fileno())
        return Path(name)


def read(path: Path) -> StackText:
    try:
        text = StackText(path, path.read_text())
        _ = text.config
    except FileNotFoundError:
        raise Refused(
            f"{path} does not exist: check the stack's name, and that you are in the project's folder (--cwd)."
        ) from None
    except (yaml.YAMLError, TypeError, AttributeError) as error:
        raise Refused(f"{path} is not a stack file: {error}") from None
    return text


def _config(text: str) -> dict[str, Any]:
    document = yaml.safe_load(text) or {}
    return dict(document.get("config") or {})


def _edit(text: str, key: str, value: Any) -> str:
    """The text with the lines of one key replaced, added at the end of `config:`, or removed."""
    block = [] if value is None else _dump(key, value)
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    entries = root.value if isinstance(root, yaml.MappingNode) else []
    config = next((node for name, node in entries if name.value == "config"), None)
    if config is None or not isinstance(config, yaml.MappingNode) or not config.value:
        if config is not None:
            raise Refused("`config:` is empty or no mapping: write the stack's settings under it first.")
        return "".join([*lines, "config:\n", *_indented(block, 2)])
    if config.flow_style:
        raise Refused("`config:` is written as {…} on one line: write one key per line, so that it can be edited.")
    indent = config.value[0][0].start_mark.column
    for name, node in config.value:
        if name.value == key:
            start, end = name.start_mark.line, _last_line(lines, node) + 1
            break
    else:
        start = end = _last_line(lines, config.value[-1][1]) + 1
    return "".join([*lines[:start], *_indented(block, indent), *lines[end:]])


def _last_line(lines: list[str], node: yaml.Node) -> int:
    """The last line of a value; the YAML end mark is after the comments and blank lines that follow it."""
    last = node.end_mark.line - (1 if node.end_mark.column == 0 else 0)
    last = max(min(last, len(lines) - 1), node.start_mark.line)
    while last > node.start_mark.line and (not lines[last].strip() or lines[last].lstrip().startswith("#")):
        last -= 1
    if last > node.start_mark.line and not isinstance(node, yaml.ScalarNode) and not getattr(node, "flow_style", False):
        # A block collection's end mark is where the next key starts, which may be indented.
        while last > node.start_mark.line and _starts_at(lines[last], node.end_mark, last):
            last -= 1
            while last > node.start_mark.line and (not lines[last].strip() or lines[last].lstrip().startswith("#")):
                last -= 1
    return last


def _starts_at(line: str, mark: Any, number: int) -> bool:
    return mark.line == number and len(line) - len(line.lstrip()) == mark.column


def _indented(block: list[str], columns: int) -> list[str]:
    return [" " * columns + line if line.strip() else line for line in block]


class _Dumper(yaml.SafeDumper):
    """Lists indented under their key; text quoted unless every reader of YAML takes it for text (a commit
    such as 12e4567 is a number to the engine)."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        return super().increase_indent(flow, False)


_PLAIN = re.compile(r"[A-Za-z_/][\w ./:@=-]*")
_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style=None if _PLAIN.fullmatch(text) else '"'
    ),
)


def _dump(key: str, value: Any) -> list[str]:
    text = yaml.dump({key: value}, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)
    return text.splitlines(keepends=True)
