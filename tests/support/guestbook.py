"""The guestbook's stack, and guests who read the book."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from ruamel.yaml import YAML

from sandbox.paths import STATE
from sandbox.traffic import ClientThreads, Pause, client_for

FILE = Path(__file__).parents[1] / "cluster" / "guestbook.yaml"
_IMAGE = re.compile(r"localhost:15000/(?P<name>[a-z]+)@sha256:0{64}")


def guestbook_document(images: Mapping[str, str], host: str = "guestbook", file: Path = FILE) -> tuple[Any, Any]:
    """A guestbook's stack file on this machine, below a name of `localhost`; and the sandbox's own stack file."""
    sandbox = YAML().load(STATE / "Pulumi.sandbox.yaml")
    here = sandbox["config"]["runbook:ingress"]["publicUrl"].replace("//localhost", "//guestbook.localhost")
    text = _IMAGE.sub(lambda match: images[match["name"]], file.read_text())
    text = text.replace("http://guestbook.localhost:18080", here).replace("guestbook.localhost", f"{host}.localhost")
    return YAML().load(f"{text}encryptionsalt: {sandbox['encryptionsalt']}\n"), sandbox


class Guests:
    """They read the book all the time, until the block ends."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.bad: list[str] = []
        self.releases: list[str] = []

    def __enter__(self) -> Guests:
        self._threads = ClientThreads(self._read, range(2), 300)
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.stop()

    def _read(self, number: int, pause: Pause) -> None:
        with client_for(self._url) as client:
            while pause(0.05):
                try:
                    answer = client.get("/")
                except httpx.HTTPError as error:
                    self.bad.append(f"{type(error).__name__}: {error}")
                    continue
                if answer.status_code == 200:
                    self.releases.append(answer.json()["version"])
                else:
                    self.bad.append(f"{answer.status_code}: {answer.text}")
