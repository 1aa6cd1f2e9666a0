"""`runbook check`, and the same checks before a release: is the environment ready?"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from ops.adapters import environment, image_pulls, registry
from ops.commands.health import trusted_authorities
from ops.decisions.capacity import accepts_pods
from ops.decisions.environment import Measured, Pulls, judge_environment
from ops.decisions.release_state import last_good
from ops.decisions.report import Line
from ops.errors import NotMeasured, Refused
from ops.stack.reports import make_report, write_report
from ops.stack.session import Session
from ops.stack.stack_context import StackContext, gather_context, require_application
from settings import read_stack_file
from settings.checks import Checks

T = TypeVar("T")


def check(session: Session, image: str | None, folder: Path | None, *, pull: bool = False) -> dict[str, Any]:
    """Measure what a release of this image, or of the one that serves, needs; the report.

    `pull`: also start a pod on each node that does not have the image.
    """
    require_application(session, "release, and no environment of it to check")
    facts = gather_context(session, decides="release")
    lines = check_environment(session, facts, image, pull=pull)
    subject = {"stack": session.stack, "image": image or (facts.now.release.image if facts.now.release else None)}
    report = make_report(session, "check", subject, lines)
    if folder:
        write_report(report, folder)
    return report.to_json()


def require_environment(session: Session, facts: StackContext, image: str, reason: str | None) -> None:
    """Refuse a release when a line fails, where the stack file asks for that; `reason` overrides it."""
    if facts.settings.checks is None:
        return
    failed = [line for line in check_environment(session, facts, image, found=True) if line.result == "fail"]
    if not failed:
        return
    shown = "\n".join(f"{line.title}: {_with_limit(line)}. Remedy: {line.remedy}" for line in failed)
    if reason is None:
        raise Refused(
            f"The environment is not ready:\n{shown}\nNothing was changed. See `runbook check`; to release all the "
            "same: --without-checks REASON."
        )
    session.say(f"warning: released although the environment is not ready ({reason}):\n{shown}", "yellow")


def _with_limit(line: Line) -> str:
    return f"{line.evidence} (limit {line.limit})" if line.limit else line.evidence


def check_environment(
    session: Session, facts: StackContext, image: str | None, *, found: bool = False, pull: bool = False
) -> list[Line]:
    """Every line, from what is measured now. `found`: its registry has just said that it has the image."""
    settings, cluster = facts.settings, facts.cluster
    namespaced = f"/api/v1/namespaces/{cluster.namespace}"
    url = settings.url
    served = last_good(facts.history) is not None

    def require_served() -> None:
        if not served:
            raise NotMeasured("no release has served yet, and the ingress comes with the first")

    def require_url() -> str:
        if url is None:
            raise NotMeasured("the stack has no ingress")
        return url

    def look_at_image() -> str:
        wanted = image or (facts.now.release.image if facts.now.release else None)
        if wanted is None:
            raise NotMeasured("none is given")
        if found:
            return f"{wanted} is there"
        try:
            return f"{registry.resolve(wanted).reference} is there"
        except Refused as error:
            raise NotMeasured(str(error), fails=True) from None

    def look_at_nodes() -> Pulls:
        wanted = image or (facts.now.release.image if facts.now.release else None)
        if wanted is None:
            raise NotMeasured("no image is given")
        try:
            reference = wanted if "@sha256:" in wanted else registry.resolve(wanted).reference
        except Refused:
            raise NotMeasured("the registry does not say which image it is") from None
        if isinstance(listed := nodes.result(), NotMeasured):
            raise listed
        usable = [node for node in listed if accepts_pods(node)]
        present = image_pulls.find_present(usable, reference)
        others = [name for node in usable if (name := node["metadata"]["name"]) not in present]
        if not pull or not others:
            return Pulls(present, untried=others)
        tried, seconds = others[: image_pulls.MOST_NODES], (settings.checks or Checks()).pull_seconds
        names = settings.registry.pull_secrets
        pulled, failed = image_pulls.try_pulls(cluster, reference, tried, names, seconds)
        return Pulls(present, pulled, failed, others[len(tried) :])

    def resolve_host() -> list[str]:
        require_served()
        return environment.resolve_host(require_url())

    def read_certificate_end() -> datetime:
        require_served()
        return environment.read_certificate_end(require_url(), trusted_authorities())

    with ThreadPoolExecutor(max_workers=8) as pool:

        def measure(work: Callable[[], T]) -> Future[T | NotMeasured]:
            return pool.submit(_or_why_not, work)

        def read(path: str, **query: str) -> Future[list[dict[str, Any]] | NotMeasured]:
            return measure(lambda: environment.read_objects(cluster, path, **query))

        nodes = read(environment.NODES)
        pods = read("/api/v1/pods", fieldSelector="status.phase!=Succeeded,status.phase!=Failed")
        quotas, claims = read(f"{namespaced}/resourcequotas"), read(f"{namespaced}/persistentvolumeclaims")
        clock = measure(lambda: environment.read_clock(cluster))
        registered, addresses, ends = measure(look_at_image), measure(resolve_host), measure(read_certificate_end)
        pulls = measure(look_at_nodes)
        rollouts = pool.submit(cluster.rollouts, settings.application.services)
        sealed = read_stack_file(session.file).sealed
        return judge_environment(
            settings.checks or Checks(),
            Measured(
                now=datetime.now(UTC),
                application=settings.application,
                running={rollout.service: rollout.wanted for rollout in rollouts.result()},
                nodes=nodes.result(),
                pods=pods.result(),
                quotas=quotas.result(),
                claims=claims.result(),
                image=registered.result(),
                pulls=pulls.result(),
                addresses=addresses.result(),
                certificate_ends=ends.result(),
                secrets=len(settings.secret_names),
                secrets_missing=[name for name in settings.secret_names if f"secrets:{name}" not in sealed],
                database=facts.database,
                clock_ahead=clock.result(),
            ),
        )


def _or_why_not(work: Callable[[], T]) -> T | NotMeasured:
    try:
        return work()
    except NotMeasured as why:
        return why
