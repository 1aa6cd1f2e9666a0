"""What production does not promise: an outage that the settings accept is named at preview."""

from __future__ import annotations

from collections.abc import Iterator

from settings.platform import BundledPostgres, BundledRedis, Data


def list_outages(environment: str, data: Data) -> Iterator[str]:
    """Bundled data services in production: each is one pod."""
    if environment != "production":
        return
    for key, name, store in (("postgres", "PostgreSQL", data.postgres), ("redis", "Redis", data.redis)):
        if isinstance(store, BundledPostgres | BundledRedis):
            yield (
                f"runbook:data.{key}: the bundled {name} is one replica. A drained node or a new image is an outage of "
                f"minutes: drain at a quiet hour, or use an external {name} that fails over (mode: external)."
            )
