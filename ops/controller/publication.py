"""Keeps the status page at what the records say: of this controller, and of commands that could not publish."""

from __future__ import annotations

from ops.adapters.cluster import Cluster
from ops.commands.status_page import publish_status
from ops.controller.notify import log
from settings import StackSettings


def publish_news(cluster: Cluster, settings: StackSettings, *, copy: bool = True) -> None:
    """Publish what changed. Nothing without a status page; a failure is logged, and tried again within a minute."""
    if settings.status_page is None:
        return
    if why := publish_status(cluster, settings.status_page, copy=copy, only_news=True):
        log("the status page is not published", why=why)
