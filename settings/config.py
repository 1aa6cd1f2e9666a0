"""The only reader of pulumi.Config: a stack's settings, and its secrets as secret Outputs."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env, get_config_secret_keys_env, is_config_secret

from settings.connections import find_problems, find_warnings
from settings.consistency import StackFile
from settings.problems import SettingsError
from settings.secret import Secret
from settings.stack import StackSettings, parse


def read() -> tuple[StackSettings, dict[str, Secret]]:
    """The stack's settings and its `secrets:*`; refuses a bad stack file before any resource is registered."""
    config = {**get_config_env(), **CONFIG.get()}
    sealed = frozenset({*get_config_secret_keys_env(), *filter(is_config_secret, config)})
    plain = {key: _value(key, text) for key, text in config.items() if key not in sealed}
    try:
        settings = parse(StackFile(_file_name(), plain, sealed))
    except SettingsError as error:
        raise pulumi.RunError(str(error)) from None
    given = {name: str(config.get(f"secrets:{name}", "")) for name in settings.secret_names}
    if problems := list(find_problems(settings, given)):
        raise pulumi.RunError(str(SettingsError(_file_name(), problems)))
    for warning in find_warnings(settings, given):
        pulumi.warn(warning)
    return settings, {name: _secret(name) for name in settings.secret_names}


def _secret(name: str) -> Secret:
    value = pulumi.Config("secrets").require_secret(name)
    return Secret(value, _identity(name, CONFIG.get().get(f"secrets:{name}", "")))


def _identity(name: str, plaintext: str) -> str:
    """A slow, salted hash: it is part of object names, and must not allow guessing a weak secret."""
    salt = f"{pulumi.get_project()}/{pulumi.get_stack()}/{name}".encode()
    return hashlib.scrypt(plaintext.encode(), salt=salt, n=2**12, r=8, p=1, dklen=16).hex()


def _value(key: str, text: Any) -> Any:
    """Objects and lists come from the engine as JSON."""
    if key.startswith("runbook:") and isinstance(text, str) and text[:1] in "{[":
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _file_name() -> str:
    return os.environ.get("PULUMI_OPTION_CONFIG_FILE") or f"Pulumi.{pulumi.get_stack()}.yaml"
