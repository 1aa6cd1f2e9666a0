"""Where backups are kept: `open_store(environment)` gives a `Store`, on S3 or in a folder."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from tasks.environment import Environment
from tasks.errors import Refused
from tasks.store.base import Entry, Missing, Sink, Store
from tasks.store.folder import FolderStore

__all__ = ["Entry", "Missing", "Sink", "Store", "open_store"]

_EXAMPLE = "s3://bucket/prefix or file:///path"


def open_store(environment: Environment) -> Store:
    """The store that BACKUP_STORE names. Asks nothing of it yet: `prepare` does."""
    url = environment.required("BACKUP_STORE", _EXAMPLE)
    parts = urlsplit(url)
    if parts.scheme == "s3" and parts.netloc and "@" not in parts.netloc:
        from tasks.store.s3 import S3Store  # boto3 takes a third of a second, which a folder need not pay

        return S3Store.from_environment(parts.netloc, parts.path.strip("/"), environment)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.strip("/"):
        return FolderStore(Path(unquote(parts.path)))
    if parts.scheme == "http" and parts.hostname and not parts.username:
        from tasks.store.window import WindowStore

        return WindowStore(url, environment.required("STORE_TOKEN", "the exporter's token"))
    raise Refused("environment_invalid", f"BACKUP_STORE is {url!r}; it has to be {_EXAMPLE}")
