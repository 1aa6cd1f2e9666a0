"""`runbook check-code`: the checks of the code, side by side where they can, none again while the code is the same."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops.adapters.artifacts import archive_outputs
from ops.adapters.checkout import Checkout
from ops.causes.text import Masker
from ops.decisions.code_report import LABEL, explain_refusal, find_report
from ops.decisions.report import Line
from ops.errors import Refused
from ops.stack.reports import make_report, write_report
from ops.stack.session import Session
from ops.stack.stack_context import StackContext, load_settings
from settings import Release, StackSettings
from settings.application import LOOKS_SECRET
from settings.checks import Checks, CodeStep

_TAIL = 5
_NAMES = re.compile(rf"{LOOKS_SECRET}|PASS(PHRASE|$)|_KEY$|CREDENTIAL", re.IGNORECASE)


def check_code(session: Session, directory: Path, *, again: bool) -> dict[str, Any]:
    """Run the steps on this checkout and keep the report; returns it. `again`: also what passed before."""
    settings = load_settings(session.file)
    code = (settings.checks or Checks()).code
    folder = session.file.resolve().parent / code.reports
    checkout = Checkout(directory.resolve(), folder)
    commit, changed, tree = checkout.commit, checkout.is_changed, checkout.hash_content()
    lines = _Run(session, checkout.folder, tree, code.parallel, again).run_all(_steps(settings))
    if checkout.hash_content() != tree:
        why = "a step, or another program, changed files that are not ignored"
        lines.append(
            Line("checkout", "Checkout unchanged", "fail", why, "`git status` names them; commit or ignore them")
        )
    subject: dict[str, Any] = {"commit": commit, "changed": changed, "tree": tree}
    outputs = [path for step in code.steps for path in step.outputs]
    if outputs and all(line.result == "pass" for line in lines):
        digest, archive = archive_outputs(checkout.folder, outputs, folder)
        subject["artifacts"] = {"digest": digest, "file": archive.name, "paths": outputs}
    report = make_report(session, "code", subject, lines)
    file = write_report(report, folder, f"code-{commit or tree.removeprefix('sha256:')[:12]}")
    made = report.to_json()
    if report.passed:
        session.say(f"Build the image with --label {LABEL}={made['digest']}")
    return {**made, "keptAs": str(file)}


def require_report(session: Session, facts: StackContext, release: Release, label: str | None) -> Release:
    """The release with the digest of its report; refused without a good one, where the stack file requires it."""
    code = (facts.settings.checks or Checks()).code
    if not code.required:
        return release
    folder = session.file.parent / code.reports
    report = find_report(_read_reports(folder), release.git)
    why = explain_refusal(report, release.git, label)
    if why is None and report:
        return release.model_copy(update={"report": report["digest"]})
    if release.without_checks is None:
        raise Refused(
            f"The code was not checked: {why} in {folder}. Run `runbook check-code DIRECTORY`, or copy "
            "its report there; to release all the same: --without-checks REASON. Nothing was changed."
        )
    session.say(f"warning: released although {why} ({release.without_checks})", "yellow")
    return release


def _read_reports(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for file in sorted(folder.glob("code-*.json")):
        try:
            report = json.loads(file.read_text())
        except ValueError:
            raise Refused(f"{file} is no JSON: delete it, or make it anew. Nothing was changed.") from None
        if isinstance(report, dict):
            found.append(report)
    return found


def _steps(settings: StackSettings) -> Sequence[CodeStep]:
    code = (settings.checks or Checks()).code
    return code.steps or (CodeStep(name="check", **settings.commands.check.model_dump()),)


@dataclass
class _Run:
    """The steps of one run."""

    session: Session
    folder: Path
    tree: str
    parallel: int
    again: bool
    masker: Masker = field(default_factory=lambda: _learn_environment(os.environ))
    processes: set[subprocess.Popen[str]] = field(default_factory=set)
    stopped: threading.Event = field(default_factory=threading.Event)
    saying: threading.Lock = field(default_factory=threading.Lock)

    def run_all(self, steps: Sequence[CodeStep]) -> list[Line]:
        """Each step as soon as those before it have passed; what a failed one prevents is a failure as well."""
        done: dict[str, Line] = {}
        waiting, running = list(steps), dict[Future[Line], CodeStep]()
        with ThreadPoolExecutor(max_workers=self.parallel) as pool:
            try:
                while waiting or running:
                    for step in list(waiting):
                        if any(name not in done for name in step.after):
                            continue
                        waiting.remove(step)
                        if bad := [name for name in step.after if done[name].result != "pass"]:
                            done[step.name] = Line(
                                step.name, step.name, "fail", f"not run: {bad[0]} failed", "see there"
                            )
                        else:
                            running[pool.submit(self._run_step, step)] = step
                    for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                        done[running.pop(future).name] = future.result()
            except BaseException:
                self._end_all()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [done[step.name] for step in steps]

    def _run_step(self, step: CodeStep) -> Line:
        file = _cache_folder() / f"{self._key(step)}.json"
        made = all((self.folder / path).exists() for path in step.outputs)
        if step.cache and not self.again and made and file.exists():
            with suppress(ValueError, KeyError):
                passed = json.loads(file.read_text())["at"]
                self._say(step, f"passed at {passed} with the same code")
                return Line(step.name, step.name, "pass", f"passed at {passed} with the same code")
        began, problem = time.monotonic(), "not run"
        for attempt in range(1, step.attempts + 1):
            if self.stopped.is_set() or (problem := self._run_lines(step)) is None:
                break
            self._say(step, self.masker.text(f"attempt {attempt} of {step.attempts}: {problem}"))
        seconds = time.monotonic() - began
        if problem:
            remedy = f"run it in {self.folder}: {'; '.join(step.run)}"
            # A command line may have a password as well.
            return Line(step.name, step.name, "fail", self.masker.text(problem), self.masker.text(remedy))
        if missing := [path for path in step.outputs if not (self.folder / path).exists()]:
            return Line(step.name, step.name, "fail", f"it made no {missing[0]}", "correct outputs, or the command")
        if step.cache:
            at = datetime.now(UTC).isoformat(timespec="seconds")
            fresh = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
            file.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps({"at": at}))
            fresh.replace(file)
        self._say(step, f"passed in {seconds:.1f} s")
        return Line(step.name, step.name, "pass", f"passed in {seconds:.1f} s")

    def _key(self, step: CodeStep) -> str:
        # Other code, or other words, is other work; so is the same in another place, where other tools may be.
        parts = [self.tree, str(self.folder), os.environ.get("PATH", ""), *step.run]
        return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()

    def _run_lines(self, step: CodeStep) -> str | None:
        """Why the step fails, or None."""
        deadline = time.monotonic() + step.timeout_seconds
        for line, argv in zip(step.run, step.argvs, strict=True):
            try:
                process = subprocess.Popen(
                    argv,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                    start_new_session=True,
                )
            except OSError as error:
                return f"`{line}` cannot be started: {error.strerror}"
            self.processes.add(process)
            expired = threading.Event()

            def end(process: subprocess.Popen[str] = process, expired: threading.Event = expired) -> None:
                expired.set()
                _kill(process)

            timer = threading.Timer(max(deadline - time.monotonic(), 0), end)
            timer.start()
            tail: list[str] = []
            assert process.stdout is not None
            for raw in process.stdout:
                text = self.masker.text(raw)
                self._say(step, text.rstrip())
                tail = [*tail, text.strip()][-_TAIL:]
            code = process.wait()
            timer.cancel()
            self.processes.discard(process)
            if expired.is_set():
                return f"`{line}` was ended after {step.timeout_seconds} s"
            if code != 0:
                return f"`{line}` ended with exit code {code}: {' | '.join(filter(None, tail))}"[:600]
        return None

    def _say(self, step: CodeStep, text: str) -> None:
        with self.saying:
            self.session.say(f"{step.name:>12} | {text}")

    def _end_all(self) -> None:
        self.stopped.set()
        for process in list(self.processes):
            _kill(process)


def _learn_environment(environment: Mapping[str, str]) -> Masker:
    """Values that a pipeline gives its steps, and that their output must not take into reports and logs."""
    named = {name: value for name, value in environment.items() if _NAMES.search(name)}
    masker = Masker()
    masker.learn([{"data": {name: base64.b64encode(value.encode(errors="replace")) for name, value in named.items()}}])
    return masker


def _kill(process: subprocess.Popen[str]) -> None:
    """With everything that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "runbook" / "checks"
