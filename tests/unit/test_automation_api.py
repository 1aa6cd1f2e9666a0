"""Only the public part of Pulumi's Automation API is used: its private names may change in any release."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pulumi.automation
import pytest

from sandbox.paths import ROOT

FOLDERS = ("settings", "monitoring", "components", "program", "ops", "tasks", "ci", "sandbox", "benchmarks", "tests")
API = "pulumi.automation"
_PRIVATE = re.compile(r"_[a-z]\w*")


def internals() -> set[str]:
    """Names of the private members of its classes, also of those that only their methods assign."""
    classes = [each for _, each in inspect.getmembers(pulumi.automation, inspect.isclass)]
    own = [each for each in classes if each.__module__.startswith(API)]
    names = {name for each in own for name in (*vars(each), *re.findall(r"\bself\.(\w+)", inspect.getsource(each)))}
    return {name for name in names if _PRIVATE.fullmatch(name)}


def private_names(code: str, private: set[str]) -> Iterator[str]:
    """Private names of the Automation API that a module imports, reads or redefines."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names if each.name.startswith(f"{API}._"))
            case ast.ImportFrom(module=str(module), names=names) if module == API or module.startswith(f"{API}."):
                dotted = (f"{module}.{each.name}" for each in names)
                yield from (name for name in dotted if "._" in name)
            case ast.Constant(value=str(text)) if re.search(rf"\b{API}(\.\w+)* import _\w|\b{API}\._\w", text):
                yield text  # a script
            case ast.Attribute(attr=name) | ast.FunctionDef(name=name) | ast.Name(id=name) if name in private:
                yield name


def modules() -> dict[str, str]:
    """The code of every module that mentions the Automation API."""
    files = [ROOT / "__main__.py", *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))]
    found = {str(file.relative_to(ROOT)): file.read_text() for file in files if file != Path(__file__).resolve()}
    return {name: code for name, code in found.items() if "automation" in code}


def test_no_private_name_of_it_is_used() -> None:
    private = internals()
    assert {"_remote", "_mode", "_run_pulumi_cmd_sync"} <= private, "as of 3.256"
    used = {name: found for name, code in modules().items() if (found := list(private_names(code, private)))}
    assert used == {}


@pytest.mark.parametrize(
    "code",
    [
        "import pulumi.automation._stack",
        "from pulumi.automation._stack import StackInitMode",
        "from pulumi.automation import Stack, _cmd",
        "script = 'from pulumi.automation import _cmd'",
        "stack._run_pulumi_cmd_sync(['up'])",
        "class Mine(Stack):\n    def _remote_args(self): ...",
        "class Mine(LocalWorkspace):\n    _remote = True",
    ],
)
def test_each_way_to_use_one_is_found(code: str) -> None:
    assert list(private_names(code, internals()))
