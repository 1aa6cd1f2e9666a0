"""`python -m tasks lighthouse` with the real Lighthouse and Debian's Chromium, as an ordinary user, on small pages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.decisions.lighthouse_files import read_files
from sandbox.images import lighthouse, shop
from sandbox.images.tasks import PYTHON
from sandbox.paths import LOGS, ROOT
from tasks.pages.results import parse_pages
from tests.support import http_servers

USER = 10001
HEAD = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Page</title>'
BUSY = "const end = performance.now() + 1500; while (performance.now() < end);\n//" + "x" * 600_000
PAGES = {
    "/": f"<!doctype html><html lang=en>{HEAD}<h1>Tea</h1><p>Fresh.</p></html>",
    "/slow": f'<!doctype html><html lang=en>{HEAD}<script src="/busy.js"></script><h1>Tea</h1></html>',
    "/busy.js": BUSY,
}


class Site(http_servers.Handler):
    asked: list[tuple[str | None, str | None]] = []

    def do_GET(self) -> None:
        page = PAGES.get(self.path)
        type(self).asked.append((self.headers["Host"], self.headers["X-Forwarded-Proto"]))
        kind = "text/javascript" if self.path.endswith(".js") else "text/html"
        self.answer(200 if page else 404, page or "", {"Content-Type": kind})


@pytest.fixture(scope="module")
def programs() -> Iterator[Path]:
    """The image's programs and tasks, where another user can read them."""
    with tempfile.TemporaryDirectory(prefix="runbook-lighthouse-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(lighthouse.packages(LOGS / "lighthouse.log"), folder / "npm", copy_function=_link)
        _link(shop.node(LOGS / "lighthouse.log") / "bin" / "node", folder / "node")
        shutil.copytree(ROOT / "tasks", folder / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "scratch").mkdir()
        os.chown(folder / "scratch", USER, USER)
        yield folder


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with http_servers.serve(Site) as port:
        yield f"http://127.0.0.1:{port}"


def _link(source: str | Path, target: str | Path) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return str(target)


def measure(
    programs: Path,
    url: str,
    *routes: dict[str, Any],
    least: float = 0,
    user: int = USER,
    words: tuple[str, ...] = ("lighthouse",),
    **more: str,
) -> tuple[int, Any, str, str]:
    """Exit code, result, output, progress of one run per page."""
    asked = {"routes": routes, "formFactor": "mobile", "runs": 1, "leastBenchmark": least, "runSeconds": 120}
    asked["allSeconds"] = 360
    done = subprocess.run(
        [
            "setpriv",
            f"--reuid={user}",
            f"--regid={user}",
            "--clear-groups",
            PYTHON,
            "-m",
            "tasks",
            *words,
            "--json",
        ],
        cwd=programs,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LIGHTHOUSE": json.dumps(asked),
            "LIGHTHOUSE_NODE": str(programs / "node"),
            "LIGHTHOUSE_CLI": str(programs / "npm/node_modules/lighthouse/cli/index.js"),
            "SCRATCH": str(programs / "scratch"),
            "TARGET_URL": url,
            **more,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    return done.returncode, json.loads(lines[-1]) if lines else None, done.stdout, done.stderr


def test_a_fast_page_passes_and_its_reports_are_kept(programs: Path, url: str) -> None:
    # Any machine keeps these, a busy one too; that a page fails is tested with the slow one.
    limits = {"score": 50, "lcp": 10_000, "tbt": 2000, "cls": 0.1, "bundleKb": 150}
    Site.asked.clear()
    code, result, output, progress = measure(
        programs,
        url,
        {"path": "/", "limits": limits},
        HOST_HEADER="shop.example.com",
        PUBLIC_URL="https://shop.example.com",
    )
    assert code == 0, progress
    (page,) = result["pages"]
    assert page["values"]["score"] >= 50
    assert page["values"]["bundleKb"] == 0
    # As the ingress asks: the customers' host, and that they came over TLS.
    assert Site.asked[0] == ("shop.example.com", "https")
    files = read_files(output.splitlines())
    assert set(files) == {"index.html", "index.json"}
    assert json.loads(files["index.json"])["configSettings"]["formFactor"] == "mobile"
    assert "<!doctype html>" in files["index.html"][:200]


def test_a_slow_page_fails_and_the_worst_audit_is_named(programs: Path, url: str) -> None:
    folder = programs / "scratch" / "reports"
    limits = {"score": 90, "tbt": 200, "bundleKb": 150}
    pages = ({"path": "/slow", "limits": limits}, {"path": "/", "limits": {"score": 1}})
    code, result, _, progress = measure(programs, url, *pages, REPORTS=str(folder))
    assert code == 1, progress
    assert result["error"]["code"] == "too_slow"
    message = result["error"]["message"]
    assert "1 of 2 pages do not keep their limits. /slow (mobile): Performance score" in message
    assert "Scripts and styles transferred 586 KB, at most 150 KB" in message
    assert "Worst: " in message
    assert "most to gain: " in message
    assert "FAIL  /slow (mobile): score" in progress
    assert {file.name for file in folder.iterdir()} == {"slow.html", "slow.json", "index.html", "index.json"}


def test_a_failure_on_a_busy_machine_is_not_the_pages(programs: Path, url: str) -> None:
    code, result, _, progress = measure(programs, url, {"path": "/", "limits": {"tbt": -1}}, least=1e9)
    assert (code, result["error"]["code"]) == (1, "machine_busy")
    assert "too busy" in result["error"]["message"]
    assert progress.count("measured again") == 2


def test_a_page_that_does_not_answer(programs: Path) -> None:
    code, result, _, _ = measure(programs, "http://127.0.0.1:9", {"path": "/", "limits": {"score": 90}})
    assert code == 1
    assert "could not be measured" in result["error"]["message"]


def test_root_is_refused(programs: Path, url: str) -> None:
    code, result, _, _ = measure(programs, url, {"path": "/", "limits": {"score": 90}}, user=0)
    assert (code, result["error"]["code"]) == (2, "root")


def test_a_check_leaves_a_result_of_each_page_whatever_it_is(programs: Path, url: str) -> None:
    file = programs / "scratch" / "pages.json"
    loose, tight = {"score": 1}, {"lcp": 1, "bundleKb": 150}
    pages = [
        {"path": path, "limits": limits, "target": target}
        for path, limits, target in (("/", loose, url), ("/slow", tight, url), ("/away", loose, "http://127.0.0.1:9"))
    ]
    words = ("pages", "measure")
    code, _, output, progress = measure(programs, url, *pages, words=words, PAGES_FILE=str(file))
    assert code == 0, progress
    kept, slow, away = parse_pages(file.read_bytes())
    assert (kept["result"], slow["result"], away["result"]) == ("kept", "over budget", "not measured")
    assert slow["over"] == ["lcp", "bundleKb"]
    assert slow["worst"].partition(";")[0] in progress
    assert {"index.html", "slow.html"} < set(read_files(output.splitlines()))
    code, _, _, progress = measure(programs, url, pages[1], words=words, least=1e9, PAGES_FILE=str(file))
    (busy,) = parse_pages(file.read_bytes())
    assert (code, busy["result"]) == (0, "busy"), progress
    assert progress.count("measured again") == 0
