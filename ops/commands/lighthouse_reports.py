"""Keeps Lighthouse's reports of a release as files beside the stack file, where they outlive the pod that made them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import httpx
from lightkube import Client
from lightkube.resources.core_v1 import Pod

from ops.adapters.cluster import Cluster
from ops.decisions.lighthouse_files import read_files
from ops.errors import OpsError
from ops.stack.session import Session
from ops.stack.stack_context import StackContext
from settings import Release
from settings.checks import Checks
from settings.performance import LIGHTHOUSE

_ROUNDED = timedelta(seconds=1)
"""The API server's times have no fractions."""


def keep_lighthouse_reports(session: Session, facts: StackContext, release: Release) -> list[str]:
    """Write `lighthouse-rREVISION-PAGE.html` and `.json` into the folder of reports; their names.

    Called after the update, whether it failed or not, and before anything is rolled back. A report that cannot be kept
    is no reason to fail a release: a warning says why.
    """
    if not facts.settings.performance:
        return []
    folder = session.file.resolve().parent / (facts.settings.checks or Checks()).code.reports
    try:
        log = _read_log(session, facts)
        if log is None:
            return []
        files = read_files(log)
        for name, text in files.items():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"lighthouse-r{release.revision}-{name}").write_text(text)
    except (OpsError, OSError, ValueError, EOFError, httpx.HTTPError) as error:
        session.say(f"warning: the reports of Lighthouse were not kept: {error}", "yellow")
        return []
    if not files:
        session.say("warning: Lighthouse left no report in the log of its pod", "yellow")
        return []
    kept = [f"lighthouse-r{release.revision}-{name}" for name in files]
    session.say(f"Reports of Lighthouse: {folder}/{kept[0]} and {len(kept) - 1} more")
    return kept


def _read_log(session: Session, facts: StackContext) -> list[str] | None:
    """The log of the newest pod that measured; None when the command made none: one of an earlier release may still
    be there."""
    began = facts.cluster.read_clock().now() - timedelta(seconds=session.seconds)
    with facts.cluster.patient() as client:
        pods = list(client.list(Pod, labels={"app.kubernetes.io/name": LIGHTHOUSE}))
        return _read_newest(client, [pod for pod in pods if _made(pod) >= began - _ROUNDED])


def read_reports(cluster: Cluster, name: str) -> dict[str, str]:
    """File name → content, of the newest pod of this name that measured to its end."""
    with cluster.patient() as client:
        pods = list(client.list(Pod, labels={"app.kubernetes.io/name": name}))
        ended = [pod for pod in pods if pod.status and pod.status.phase == "Succeeded"]
        return read_files(_read_newest(client, ended) or [])


def _read_newest(client: Client, pods: Sequence[Pod]) -> list[str] | None:
    if not pods:
        return None
    newest = max(pods, key=_made).metadata
    return list(client.log((newest and newest.name) or "", container=LIGHTHOUSE, newlines=False))


def _made(pod: Pod) -> datetime:
    return (pod.metadata and pod.metadata.creationTimestamp) or datetime.min.replace(tzinfo=UTC)
