"""Publishes the status page: into a ConfigMap that its pods mount, and into a bucket where the settings name one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from lightkube import ApiError
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap
from lightkube.types import PatchType

from ops.adapters.cluster import Cluster
from ops.decisions.public_status import publish_records
from ops.errors import OpsError, Refused
from ops.stack import incidents
from settings.status_page import PUBLISHED, PUBLISHED_KEY, StatusBucket, StatusPage

_ATTEMPTS = 10
_RENEW = timedelta(days=1)
"""What is published is written again after this time, so that a copy in a bucket drops days that are over."""
_LABELS = {"app.kubernetes.io/name": PUBLISHED, "app.kubernetes.io/part-of": "runbook"}
_COPIED = "copied"
"""Key with a mark of what the bucket has: what could not be written is written by the next publication."""
_BUCKET_SECONDS = 5
_MAX_AGE = "public, max-age=30"


def publish_status(cluster: Cluster, page: StatusPage, *, copy: bool = True, only_news: bool = False) -> str | None:
    """Publish what the records say now. None, or why that did not work: what it is part of goes on without.

    `copy`: to the bucket too. `only_news`: nothing, where the same was published within a day.
    """
    try:
        published = _publish(cluster, page, only_news=only_news)
        if copy and page.bucket:
            _copy(cluster, page, page.bucket, published)
    except OpsError as error:
        return error.brief
    return None


def _publish(cluster: Cluster, page: StatusPage, *, only_news: bool) -> str:
    """What is published now.

    The ConfigMap is read before the records, and a stale version is rejected: of two that publish at once, the later
    one has read the records of both.
    """
    with cluster.patient() as client:
        for _ in range(_ATTEMPTS):
            found: ConfigMap | None = cluster.find(ConfigMap, PUBLISHED)
            if found is None:
                try:
                    client.create(ConfigMap(metadata=ObjectMeta(name=PUBLISHED, labels=_LABELS), data={}))
                except ApiError as error:
                    if error.status.code != 409:
                        raise
                continue
            version = found.metadata.resourceVersion if found.metadata else None
            before = (found.data or {}).get(PUBLISHED_KEY)
            now = datetime.now(UTC)
            content = publish_records(page, records := incidents.list_incidents(cluster), _begin(found, records), now)
            if only_news and before and not _is_news(json.loads(before), content, now):
                return before
            text = json.dumps(content, indent=1, ensure_ascii=False)
            change = {"metadata": {"resourceVersion": version}, "data": {PUBLISHED_KEY: text}}
            try:
                client.patch(ConfigMap, PUBLISHED, change, patch_type=PatchType.MERGE)
            except ApiError as error:
                if error.status.code != 409:
                    raise
            else:
                return text
    raise Refused("other commands published at the same time, ten times over")


def _begin(found: ConfigMap, records: list[dict[str, Any]]) -> datetime:
    """When the records begin: with the oldest one, or with the first publication."""
    made = found.metadata.creationTimestamp if found.metadata else None
    times = [*([made] if made else []), *(datetime.fromisoformat(one["openedAt"]) for one in records)]
    return min(times, default=datetime.now(UTC))


def _is_news(before: Mapping[str, Any], content: Mapping[str, Any], now: datetime) -> bool:
    same = all(before.get(key) == content[key] for key in content if key != "publishedAt")
    return not same or now - datetime.fromisoformat(before["publishedAt"]) >= _RENEW


def _copy(cluster: Cluster, page: StatusPage, bucket: StatusBucket, published: str) -> None:
    """Write the page's files, unless the bucket has them. If more was published in the meantime, once more: the newest
    is written last."""
    from botocore.exceptions import BotoCoreError, ClientError

    from ops.stack.state_files import connect_bucket
    from tasks.status_page.files import render_files

    url = urlsplit(bucket.url)
    prefix = f"{url.path.strip('/')}/" if url.path.strip("/") else ""
    try:
        client = connect_bucket(url, seconds=_BUCKET_SECONDS)
        for _ in range(_ATTEMPTS):
            found: ConfigMap | None = cluster.find(ConfigMap, PUBLISHED)
            data = (found and found.data) or {}
            published = data.get(PUBLISHED_KEY, published)
            mark = hashlib.sha256(f"{bucket.url} {published}".encode()).hexdigest()
            if data.get(_COPIED) == mark:
                return
            files = render_files(page.to_task(), json.loads(published), datetime.now(UTC))
            # The page last: what it links to is there by then.
            for name, (kind, content) in sorted(files.items(), reverse=True):
                key = f"{prefix}{name}"
                client.put_object(Bucket=url.netloc, Key=key, Body=content, ContentType=kind, CacheControl=_MAX_AGE)
            with cluster.patient() as kubernetes:
                kubernetes.patch(ConfigMap, PUBLISHED, {"data": {_COPIED: mark}}, patch_type=PatchType.MERGE)
    except (BotoCoreError, ClientError) as error:
        raise Refused(f"s3://{url.netloc} cannot be written: {error}") from None
