"""`python -m settings schema` writes the JSON Schema for editors and the page docs/settings.md;
`python -m settings check FILE…` validates stack files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from settings import SettingsError, load_stack_file
from settings.reference import render_reference
from settings.stack import editor_schema

SCHEMA_FILE = Path(__file__).with_name("stack.schema.json")
PAGE = Path(__file__).parents[1] / "docs" / "settings.md"


def schema_text() -> str:
    return json.dumps(editor_schema(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    match arguments:
        case ["schema"]:
            SCHEMA_FILE.write_text(schema_text())
            PAGE.write_text(render_reference())
            print(f"{SCHEMA_FILE.name}, {PAGE.name}")
            return 0
        case ["check", *files] if files:
            return max(_check(Path(file)) for file in files)
        case _:
            print(__doc__, file=sys.stderr)
            return 2


def _check(file: Path) -> int:
    try:
        load_stack_file(file)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{file.name}: ok")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
