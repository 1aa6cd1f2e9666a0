"""All files of the status page, as pods serve them and a bucket has them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tasks.status_page.content import Site, read_content
from tasks.status_page.formats import render_atom, render_json
from tasks.status_page.page import render_page


def render_files(
    site: Mapping[str, Any], published: Mapping[str, Any] | None, now: datetime
) -> dict[str, tuple[str, bytes]]:
    """Content type and content by name."""
    content = read_content(Site.from_task(site), published, now)
    return {
        "index.html": ("text/html; charset=utf-8", render_page(content).encode()),
        "status.json": ("application/json", render_json(content).encode()),
        "feed.atom": ("application/atom+xml; charset=utf-8", render_atom(content).encode()),
    }
