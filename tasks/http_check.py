"""One HTTP request and what its answer has to be: the checks of a go-live and of a release in place.

A check is the JSON of the settings' HttpCheck, with `target`, the service's URL. HOST_HEADER is the Host header,
and X-Forwarded-Proto is as in PUBLIC_URL. In headers and body, `${NAME}` is a variable of this process.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any

import httpx

from tasks.environment import Environment
from tasks.errors import TaskError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SHOWN = 120
_MISSING = object()


class Wrong(TaskError):
    """An answer, but not the one that was asked for."""

    def __init__(self, message: str) -> None:
        super().__init__("wrong_answer", message)


def ask(check: Mapping[str, Any], environment: Environment) -> str:
    """Send the request; returns what came back, in one line. Wrong or httpx.HTTPError says what is not as it should."""
    method, limit = check["method"], check["withinMilliseconds"]
    headers = httpx.Headers(ingress_headers(environment))
    headers.update({name: _filled(value, environment) for name, value in check["headers"].items()})
    body = _filled(check["body"], environment).encode() if check.get("body") is not None else None
    began = time.monotonic()
    # Not shorter than the limit: an answer that comes too late is reported with its time.
    with httpx.Client(timeout=max(2 * limit / 1000, 5), trust_env=False) as client:
        answer = client.request(method, f"{check['target']}{check['path']}", headers=headers, content=body)
    took = round((time.monotonic() - began) * 1000)
    found = f"{answer.status_code} in {took} ms"
    if answer.status_code not in check["status"]:
        wanted = " or ".join(map(str, check["status"]))
        moved = f" to {answer.headers['Location']}" if answer.has_redirect_location else ""
        raise Wrong(f"{found}{moved}, not {wanted}")
    if took > limit:
        raise Wrong(f"{found}, and {limit} ms are allowed")
    if (text := check.get("contains")) is not None and text not in answer.text:
        raise Wrong(f"{found}, without {text!r} in its body")
    _compare(check["fields"], answer, found)
    return found


def describe(check: Mapping[str, Any]) -> str:
    """The check's name, or what it requests."""
    return check.get("name") or f"{check['method']} {check['path']}"


def ingress_headers(environment: Environment) -> dict[str, str]:
    """What the ingress would say: an application that wants https or a known host redirects or refuses others."""
    host, url = environment.text("HOST_HEADER"), environment.text("PUBLIC_URL")
    return {
        **({"Host": host} if host else {}),
        **({"X-Forwarded-Proto": url.partition("://")[0]} if url and "://" in url else {}),
    }


def _filled(text: str, environment: Environment) -> str:
    def value(found: re.Match[str]) -> str:
        given = environment.text(found[1])
        if given is None:
            raise Wrong(f"the variable {found[1]}, which the request needs, is not set")
        return given

    return _VARIABLE.sub(value, text)


def _compare(fields: Mapping[str, Any], answer: httpx.Response, found: str) -> None:
    if not fields:
        return
    try:
        body = answer.json()
    except ValueError:
        raise Wrong(f"{found}, and its body is no JSON") from None
    for path, wanted in fields.items():
        value = _field(body, path)
        if value is _MISSING:
            raise Wrong(f"{found}, without the field {path}")
        # 1 and true are the same to Python, and not to JSON.
        if value != wanted or isinstance(value, bool) != isinstance(wanted, bool):
            raise Wrong(f"{found}, with {path} {json.dumps(value)[:_SHOWN]}, not {json.dumps(wanted)[:_SHOWN]}")


def _field(body: Any, path: str) -> Any:
    """The value at a dotted path; numbers are places in lists. A key that has dots itself is found as well."""
    if isinstance(body, Mapping) and path in body:
        return body[path]
    for part in path.split("."):
        if isinstance(body, Mapping) and part in body:
            body = body[part]
        elif isinstance(body, list) and part.isdigit() and int(part) < len(body):
            body = body[int(part)]
        else:
            return _MISSING
    return body
