"""Comments, issues and pull requests on GitHub or GitLab, by HTTP, from inside one of their pipelines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import httpx

_SECONDS = 30.0
DRIFT = "drift"
"""Label of the issues about it."""


class ForgeError(Exception):
    """The forge refused, or a variable of its pipeline is missing."""


class Forge(Protocol):
    """What a pipeline writes."""

    limit: int
    """The longest comment, in characters."""
    details: str
    """The address of this run."""

    def put_comment(self, marker: str, body: str) -> None:
        """Replace this pull request's comment that begins with the marker, or write the first one."""
        ...

    def put_issue(self, marker: str, title: str, body: str, *, label: str = DRIFT) -> None:
        """Replace the text of the open issue that begins with the marker, or open one."""
        ...

    def close_issue(self, marker: str, reason: str, *, label: str = DRIFT) -> None:
        """Close the open issue that begins with the marker, with a comment that says why, if there is one."""
        ...

    def put_change(self, branch: str, base: str, title: str, body: str) -> None:
        """Replace title and text of the open pull request from this branch into `base`, or open one."""
        ...


def find_forge(environment: Mapping[str, str] = os.environ) -> Forge | None:
    """The forge whose pipeline this is; None on a person's machine."""
    if environment.get("GITHUB_ACTIONS") == "true":
        return GitHub(environment)
    if environment.get("GITLAB_CI") == "true":
        return GitLab(environment)
    return None


class _Client:
    """Requests to one forge, page by page."""

    def __init__(self, name: str, base: str, headers: Mapping[str, str], hint: str) -> None:
        self._name, self._hint = name, hint
        transport = httpx.HTTPTransport(retries=3)
        self._http = httpx.Client(base_url=base, headers=dict(headers), timeout=_SECONDS, transport=transport)

    def send(self, method: str, path: str, **body: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, json=body or None)
        except httpx.HTTPError as error:
            raise ForgeError(f"{self._name} cannot be reached: {error}") from None
        if answer.is_error:
            hint = f" {self._hint}" if answer.status_code in (401, 403, 404) else ""
            raise ForgeError(f"{self._name} refused {method} {path}: {answer.status_code} {answer.text[:300]}{hint}")
        return answer

    def pages(self, path: str) -> Iterator[dict[str, Any]]:
        following: str | None = path
        while following:
            answer = self.send("GET", following)
            yield from answer.json()
            following = answer.links.get("next", {}).get("url")


class GitHub:
    """The pull request or repository that a workflow runs for. Needs GH_TOKEN."""

    limit = 60_000  # GitHub takes 65,536

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        repository = _need(environment, "GITHUB_REPOSITORY")
        self._path = f"/repos/{repository}"
        server, run = environment.get("GITHUB_SERVER_URL", ""), environment.get("GITHUB_RUN_ID", "")
        self.details = f"{server}/{repository}/actions/runs/{run}"
        headers = {"Authorization": f"Bearer {_need(environment, 'GH_TOKEN')}", "Accept": "application/vnd.github+json"}
        hint = (
            "Give the job the permissions `pull-requests: write` (comments, pull requests) or `issues: write` (drift, "
            'actions); a pull request also needs "Allow GitHub Actions to create and approve pull requests".'
        )
        self._client = _Client("GitHub", _need(environment, "GITHUB_API_URL"), headers, hint)

    def put_comment(self, marker: str, body: str) -> None:
        event = json.loads(Path(_need(self._environment, "GITHUB_EVENT_PATH")).read_text())
        comments = f"{self._path}/issues/{event['number']}/comments"
        known = next((one for one in self._client.pages(f"{comments}?per_page=100") if _begins(one, marker)), None)
        if known:
            self._client.send("PATCH", f"{self._path}/issues/comments/{known['id']}", body=body)
        else:
            self._client.send("POST", comments, body=body)

    def put_issue(self, marker: str, title: str, body: str, *, label: str = DRIFT) -> None:
        if known := self._find_issue(marker, label):
            self._client.send("PATCH", f"{self._path}/issues/{known['number']}", title=title, body=body)
        else:
            self._client.send("POST", f"{self._path}/issues", title=title, body=body, labels=[label])

    def close_issue(self, marker: str, reason: str, *, label: str = DRIFT) -> None:
        if known := self._find_issue(marker, label):
            self._client.send("POST", f"{self._path}/issues/{known['number']}/comments", body=reason)
            self._client.send("PATCH", f"{self._path}/issues/{known['number']}", state="closed")

    def put_change(self, branch: str, base: str, title: str, body: str) -> None:
        owner = self._path.split("/")[2]
        query = f"state=open&head={quote(f'{owner}:{branch}', safe='')}&base={quote(base, safe='')}&per_page=100"
        if known := next(self._client.pages(f"{self._path}/pulls?{query}"), None):
            self._client.send("PATCH", f"{self._path}/pulls/{known['number']}", title=title, body=body)
        else:
            self._client.send("POST", f"{self._path}/pulls", head=branch, base=base, title=title, body=body)

    def _find_issue(self, marker: str, label: str) -> dict[str, Any] | None:
        issues = self._client.pages(f"{self._path}/issues?state=open&labels={label}&per_page=100")
        return next((one for one in issues if _begins(one, marker)), None)


class GitLab:
    """The merge request or project that a pipeline runs for. Needs GITLAB_TOKEN with the scope `api`."""

    limit = 500_000  # GitLab takes 1,000,000

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._path = f"/projects/{quote(_need(environment, 'CI_PROJECT_ID'), safe='')}"
        self.details = environment.get("CI_JOB_URL", "")
        headers = {"PRIVATE-TOKEN": _need(environment, "GITLAB_TOKEN")}
        hint = "GITLAB_TOKEN has to be a project access token with the scope `api` and the role Reporter or higher."
        self._client = _Client("GitLab", _need(environment, "CI_API_V4_URL"), headers, hint)

    def put_comment(self, marker: str, body: str) -> None:
        notes = f"{self._path}/merge_requests/{_need(self._environment, 'CI_MERGE_REQUEST_IID')}/notes"
        known = next((one for one in self._client.pages(f"{notes}?per_page=100") if _begins(one, marker)), None)
        if known:
            self._client.send("PUT", f"{notes}/{known['id']}", body=body)
        else:
            self._client.send("POST", notes, body=body)

    def put_issue(self, marker: str, title: str, body: str, *, label: str = DRIFT) -> None:
        if known := self._find_issue(marker, label):
            self._client.send("PUT", f"{self._path}/issues/{known['iid']}", title=title, description=body)
        else:
            self._client.send("POST", f"{self._path}/issues", title=title, description=body, labels=label)

    def close_issue(self, marker: str, reason: str, *, label: str = DRIFT) -> None:
        if known := self._find_issue(marker, label):
            self._client.send("POST", f"{self._path}/issues/{known['iid']}/notes", body=reason)
            self._client.send("PUT", f"{self._path}/issues/{known['iid']}", state_event="close")

    def put_change(self, branch: str, base: str, title: str, body: str) -> None:
        path = f"{self._path}/merge_requests"
        query = f"state=opened&source_branch={quote(branch, safe='')}&target_branch={quote(base, safe='')}&per_page=100"
        if known := next(self._client.pages(f"{path}?{query}"), None):
            self._client.send("PUT", f"{path}/{known['iid']}", title=title, description=body)
        else:
            target = {"source_branch": branch, "target_branch": base, "remove_source_branch": True}
            self._client.send("POST", path, **target, title=title, description=body)

    def _find_issue(self, marker: str, label: str) -> dict[str, Any] | None:
        issues = self._client.pages(f"{self._path}/issues?state=opened&labels={label}&per_page=100")
        return next((one for one in issues if _begins(one, marker)), None)


def _begins(item: Mapping[str, Any], marker: str) -> bool:
    return str(item.get("body") or item.get("description") or "").startswith(marker)


def _need(environment: Mapping[str, str], name: str) -> str:
    if value := environment.get(name):
        return value
    raise ForgeError(f"{name} is not set: the pipeline has to pass it to this step.")
