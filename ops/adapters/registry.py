"""Reads an image's digest and labels from its registry, by the OCI distribution API."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from ops.errors import Refused
from settings import SchemaRange

GIT = "org.opencontainers.image.revision"
VERSION = "org.opencontainers.image.version"
SCHEMA = {name: f"runbook.schema.{name}" for name in ("min", "max", "level")}

_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_REFERENCE = re.compile(
    r"(?P<host>[A-Za-z0-9.-]+(?::\d+)?)/(?P<path>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True)
class Image:
    """An image as the registry knows it."""

    reference: str
    """`host/path@sha256:…`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    """How the image is run (OCI image configuration: Cmd, Entrypoint, ExposedPorts, …)."""

    @property
    def git(self) -> str | None:
        return self.labels.get(GIT)

    @property
    def version(self) -> str | None:
        return self.labels.get(VERSION)

    def schema(self, given: Mapping[str, int | None]) -> SchemaRange:
        """The schema levels from the flags, else from the labels; an error names what is in neither."""
        values = {name: given.get(name) for name in SCHEMA}
        for name, label in SCHEMA.items():
            if values[name] is None and label in self.labels:
                if not self.labels[label].isdigit():
                    raise Refused(f"{self.reference}: label {label} is {self.labels[label]!r}, not a whole number.")
                values[name] = int(self.labels[label])
        if lacking := [name for name, value in values.items() if value is None]:
            raise Refused(
                f"{self.reference} does not say which database schema it needs: build it with the labels "
                f"{', '.join(SCHEMA[name] for name in lacking)}, or give "
                f"{' '.join(f'--schema-{name} N' for name in lacking)}."
            )
        return SchemaRange.model_validate(values)


def resolve(reference: str) -> Image:
    """The image with its digest and labels. A tag is resolved; a digest is checked to exist."""
    match = _REFERENCE.fullmatch(reference)
    if not match or not re.search(r"[.:]|^localhost$", match["host"]):
        raise Refused(
            f"{reference!r} is not a full image reference: write registry/name:tag or "
            "registry/name@sha256:…, for example registry.example.com/shop:2.4.0."
        )
    host, path, wanted = match["host"], match["path"], match["digest"] or match["tag"] or "latest"
    with _Registry(host, path) as registry:
        body = registry.get(f"manifests/{wanted}", (*_INDEXES, *_MANIFESTS))
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if match["digest"] and digest != match["digest"]:
            raise Refused(f"{reference}: the registry returned {digest} instead.")
        manifest: dict[str, Any] = json.loads(body)
        if "manifests" in manifest:
            manifest = json.loads(registry.get(f"manifests/{_find_image(reference, manifest)}", _MANIFESTS))
        config: dict[str, Any] = {}
        if "config" in manifest:
            described = json.loads(registry.get(f"blobs/{manifest['config']['digest']}", ("*/*",)))
            config = described.get("config") or {}
    return Image(f"{host}/{path}@{digest}", config.get("Labels") or {}, config)


def _find_image(reference: str, index: Mapping[str, Any]) -> str:
    """The first image of an index; attestations, which have an unknown platform, are skipped."""
    for item in index["manifests"]:
        if item.get("platform", {}).get("os") not in (None, "unknown"):
            return item["digest"]
    raise Refused(f"{reference} is an index without an image in it.")


class _Registry:
    """One repository of a registry, with the credentials of the docker configuration."""

    def __init__(self, host: str, path: str) -> None:
        self._host, self._path = host, path
        local = re.match(r"(localhost|127\.\d+\.\d+\.\d+)(:\d+)?$", host)
        self._base = f"{'http' if local else 'https'}://{host}/v2/{path}"
        self._client = httpx.Client(timeout=10, follow_redirects=True)
        self._headers: dict[str, str] = {}

    def __enter__(self) -> _Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, what: str, accept: tuple[str, ...]) -> bytes:
        try:
            answer = self._request(what, accept)
            if answer.status_code == 401 and not self._headers:
                self._headers = self._login(answer.headers.get("www-authenticate", ""))
                answer = self._request(what, accept)
        except httpx.HTTPError as error:
            raise Refused(f"The registry {self._host} cannot be reached: {error}") from None
        if answer.status_code == 404:
            raise Refused(f"{self._host}/{self._path} has no {what.removeprefix('manifests/')}: is it pushed?")
        if answer.status_code in (401, 403):
            raise Refused(
                f"The registry {self._host} refuses to show {self._path} ({answer.status_code}): run "
                f"`docker login {self._host}` (or any tool that writes the docker configuration)."
            )
        if answer.is_error:
            raise Refused(f"The registry {self._host} answered {answer.status_code} for {self._path}.")
        return answer.content

    def _request(self, what: str, accept: tuple[str, ...]) -> httpx.Response:
        headers = {**self._headers, "Accept": ", ".join(accept)}
        return self._client.get(f"{self._base}/{what}", headers=headers)

    def _login(self, challenge: str) -> dict[str, str]:
        user = _read_credentials(self._host)
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic" and user:
            return {"Authorization": _basic(*user)}
        challenge_values = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        if kind.lower() != "bearer" or "realm" not in challenge_values:
            return {}
        realm = urlsplit(challenge_values.pop("realm"))
        if realm.scheme != urlsplit(self._base).scheme and realm.scheme != "https":
            raise Refused(
                f"The registry {self._host} asks for the password over {realm.scheme} without encryption: not sent."
            )
        params = {"scope": f"repository:{self._path}:pull", **challenge_values}
        headers = {"Authorization": _basic(*user)} if user else {}
        answer = self._client.get(realm.geturl(), params=params, headers=headers)
        if answer.is_error:
            return {}
        token = answer.json()
        return {"Authorization": f"Bearer {token.get('token') or token.get('access_token')}"}


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _read_credentials(host: str) -> tuple[str, str] | None:
    """User and password from the docker configuration: a credential helper, else what is stored there."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    except OSError:
        return None
    except ValueError as error:
        raise Refused(f"{folder / 'config.json'} is not JSON: {error}") from None
    if helper := config.get("credHelpers", {}).get(host) or config.get("credsStore"):
        return _ask_helper(helper, host)
    stored = config.get("auths", {}).get(host, {}).get("auth")
    if not stored:
        return None
    user, _, password = base64.b64decode(stored).decode().partition(":")
    return user, password


def _ask_helper(helper: str, host: str) -> tuple[str, str] | None:
    try:
        done = subprocess.run(
            [f"docker-credential-{helper}", "get"], input=host, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise Refused(f"The docker configuration names docker-credential-{helper}, which is not on PATH.") from None
    if done.returncode != 0:
        return None
    found = json.loads(done.stdout)
    return found["Username"], found["Secret"]
