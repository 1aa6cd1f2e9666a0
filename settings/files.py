"""Reading a stack file without an engine."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Any

import yaml

from settings.consistency import StackFile
from settings.problems import Problem, SettingsError
from settings.stack import StackSettings, parse


def read_stack_file(path: FilePath) -> StackFile:
    """The configuration in `Pulumi.<stack>.yaml`; encrypted values stay closed."""
    try:
        document: Any = yaml.safe_load(path.read_text()) or {}
    except OSError as error:
        raise SettingsError(path.name, [Problem((str(path),), f"cannot be read: {error.strerror}")]) from error
    except yaml.YAMLError as error:
        raise SettingsError(path.name, [Problem((str(path),), f"is not YAML: {error}")]) from error
    config = document.get("config") if isinstance(document, dict) else None
    if not isinstance(config, dict):
        raise SettingsError(path.name, [Problem(("config",), "is missing: all settings stand under it")])
    sealed = frozenset(str(key) for key, value in config.items() if _has_secure(value))
    return StackFile(path.name, {str(k): v for k, v in config.items() if k not in sealed}, sealed)


def load_stack_file(path: FilePath) -> StackSettings:
    """The settings in `Pulumi.<stack>.yaml`, or a SettingsError that lists every problem."""
    return parse(read_stack_file(path))


def _has_secure(value: Any) -> bool:
    if isinstance(value, dict):
        return set(value) == {"secure"} or any(_has_secure(item) for item in value.values())
    return isinstance(value, list) and any(_has_secure(item) for item in value)
