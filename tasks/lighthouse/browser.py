"""One run of Lighthouse: the npm package's own program, with the distribution's Chromium."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tasks.environment import Environment
from tasks.errors import Refused, TaskError

_NODE, _CLI = "/opt/lighthouse/bin/node", "/opt/lighthouse/node_modules/lighthouse/cli/index.js"
_FLAGS = ("--headless=new", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run")
"""`/dev/shm` of a pod is 64 MiB, less than a large page needs."""
_TAIL = 400


@dataclass(frozen=True)
class Run:
    """What one run found."""

    report: Mapping[str, Any]
    """Lighthouse's result ("LHR")."""
    html: str
    """The same as a page."""


@cache
def has_user_namespaces() -> bool:
    """Whether the kernel lets this process make the namespaces of Chromium's own sandbox.

    Not in a pod of Pod Security `restricted`: its seccomp profile refuses new user namespaces, and without privilege
    escalation the setuid helper does not work either. Such a pod is the sandbox: a user of its own, no capabilities,
    no token, a read-only root, and a network policy.
    """
    tried = subprocess.run(["unshare", "--user", "true"], capture_output=True, check=False)
    return tried.returncode == 0


def run_lighthouse(url: str, form_factor: str, seconds: float, environment: Environment) -> Run:
    """One run on a page. Raises TaskError when Lighthouse could not measure it."""
    if seconds <= 0:
        raise TaskError("timeout", f"the time for all pages was over before {url} was measured")
    if os.geteuid() == 0:
        raise Refused("root", "Chromium has no sandbox as root: run this as another user, such as 10001")
    with tempfile.TemporaryDirectory(prefix="lighthouse-", dir=environment.scratch) as home:
        asked = _address(url, environment)
        flags = [*_FLAGS, *asked.flags, *([] if has_user_namespaces() else ["--no-sandbox"])]
        command = [
            environment.text("LIGHTHOUSE_NODE") or _NODE,
            environment.text("LIGHTHOUSE_CLI") or _CLI,
            asked.url,
            "--quiet",
            "--only-categories=performance",
            "--output=json",
            "--output=html",
            f"--output-path={home}/out",
            f"--chrome-flags={' '.join(flags)}",
            "--no-enable-error-reporting",
            *(["--preset=desktop"] if form_factor == "desktop" else []),
            *([f"--extra-headers={json.dumps(asked.headers)}"] if asked.headers else []),
        ]
        printed = _run(command, home, seconds)
        try:
            report = json.loads(Path(home, "out.report.json").read_text())
            html = Path(home, "out.report.html").read_text()
        except (OSError, ValueError):
            raise TaskError("no_report", f"Lighthouse wrote no report of {url}: {printed[-_TAIL:]}") from None
    if error := report.get("runtimeError"):
        raise TaskError("not_measured", f"{url} could not be measured: {error.get('message', error.get('code'))}")
    return Run(report, html)


@dataclass(frozen=True)
class _Asked:
    url: str
    flags: tuple[str, ...]
    headers: Mapping[str, str]


def _address(url: str, environment: Environment) -> _Asked:
    """The page as the ingress would ask for it: with the public host, which leads to `url`'s address, and its scheme in
    X-Forwarded-Proto."""
    parts = urlsplit(url)
    public = environment.text("PUBLIC_URL") or ""
    scheme = public.partition("://")[0]
    headers = {"X-Forwarded-Proto": scheme} if scheme and scheme != parts.scheme else {}
    host = environment.text("HOST_HEADER")
    if not host:
        return _Asked(url, (), headers)
    place = parts.netloc if parts.port else f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}"
    name = host.partition(":")[0]
    return _Asked(parts._replace(netloc=host).geturl(), (f"--host-resolver-rules='MAP {name} {place}'",), headers)


def _run(command: list[str], home: str, seconds: float) -> str:
    """What it printed. Chromium ends with it, also when time is up."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or "/usr/bin/chromium"
    env = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": home,
        "TMPDIR": home,
        "LANG": "C.UTF-8",
        "CHROME_PATH": chromium,
    }
    process = subprocess.Popen(
        command,
        env=env,
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        return process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        raise TaskError("timeout", f"Lighthouse was ended after {seconds:.0f} s") from None
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
