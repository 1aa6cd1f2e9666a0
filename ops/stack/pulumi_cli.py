"""Runs the `pulumi` command line, without the Automation API, whose import takes longer than a reading command."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ops.errors import Refused
from ops.stack import history, history_index
from ops.stack.locks import EngineLock, Locked, list_locks, parse_lock_owners
from ops.stack.state_files import BucketFiles, StateFiles, open_state_files

ENVIRONMENT: Mapping[str, str] = {"PULUMI_SKIP_UPDATE_CHECK": "true"}
# Less garbage collection in the engine, a Go program: it runs for a second, and takes a quarter less time.
_FAST = {"GOGC": "400"}


class PulumiCli:
    """One stack of the project in `folder`."""

    def __init__(self, folder: Path, stack: str | None) -> None:
        self.folder = folder
        self.stack = stack or self._read_selected_stack()
        self._listed: list[str] | None = None

    def run(self, *args: str, stdin: str = "", interactive: bool = False, config_file: bool = True) -> str:
        """Run `pulumi …`: its stdout, or a Refused with its error.

        `interactive`: its prompts are answered by `stdin`. Without `config_file` it uses the stack file of its folder.
        """
        environment = {**_FAST, **os.environ, **ENVIRONMENT}
        if not config_file:
            environment.pop("PULUMI_OPTION_CONFIG_FILE", None)
        try:
            done = subprocess.run(
                ["pulumi", *(() if interactive else ("--non-interactive",)), *args],
                cwd=self.folder,
                env=environment,
                input=stdin,
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            raise Refused("pulumi is not on PATH: install it, or `. ./.sandbox/env` in the sandbox.") from None
        if done.returncode == 0:
            return done.stdout
        if owners := parse_lock_owners(done.stderr):
            raise Locked(owners)
        raise Refused(self.explain(done.stderr or done.stdout))

    def explain(self, text: str) -> str:
        """The error and its remedy, from the output of `pulumi`."""
        if "incorrect passphrase" in text:
            # Set together, the engine takes the first.
            names = ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE")
            where = next((name for name in names if os.environ.get(name)), "neither of " + " and ".join(names))
            return f"The passphrase is wrong for this stack; it came from {where}."
        if "passphrase must be set" in text:
            return "There is no passphrase for this stack: set PULUMI_CONFIG_PASSPHRASE_FILE."
        if "no stack named" in text:
            create = f"create it with `pulumi stack init {self.stack}`"
            return f"There is no stack {self.stack} in this backend: {create}, or choose another with --stack."
        lines = [line.removeprefix("error: ") for line in text.splitlines() if line.strip()]
        return "\n".join(lines[-15:]) or "pulumi failed without a message"

    def _read_selected_stack(self) -> str:
        """The stack that plain `pulumi` would use."""
        try:
            return self.run("stack", "--show-name").strip()
        except Refused as error:
            raise Refused(f"No stack is selected: add --stack NAME or set RUNBOOK_STACK. ({error})") from None

    @cached_property
    def files(self) -> StateFiles | None:
        """The files of the state, when its backend is a folder or an S3 bucket."""
        given = os.environ.get("PULUMI_BACKEND_URL")
        return open_state_files(given or json.loads(self.run("whoami", "--json")).get("url", ""))

    def read_locks(self) -> list[EngineLock] | None:
        """The engine's locks on the stack; None when the backend reports them only to an update."""
        return list_locks(self.files, self.locks_folder) if self.files else None

    def remove_locks(self, locks: Sequence[EngineLock]) -> None:
        """Remove these locks of the engine, and where the backend shows its files no lock that came after them."""
        if self.files and all(lock.file for lock in locks):
            for lock in locks:
                self.files.delete(self.locks_folder, lock.file)
        else:
            self.run("cancel", "--yes", "--stack", self.stack)

    def read_history(self, size: int, page: int) -> list[history.Entry]:
        """A page, newest first. The files are listed for the first one only: what is added later shifts no page."""
        if self.files:
            if page == 1 or self._listed is None:
                self._listed = history.list_stored(self.files, self._history)
            if self._listed:
                return history.read_stored(self.files, self._history, self._listed[(page - 1) * size : page * size])
        pages = ("--page-size", str(size), "--page", str(page))
        return history.parse(json.loads(self.run("stack", "history", "--json", *pages, "--stack", self.stack)))

    def list_history(self, size: int, page: int) -> list[dict[str, Any]]:
        """A page of the history as a list shows it, newest first; of a bucket by the index, where there is one."""
        files = self.files if isinstance(self.files, BucketFiles) else None
        if files and (rows := history_index.read_rows(files, self._history, size, page)):
            return rows
        return [history.history_row(entry) for entry in self.read_history(size, page)]

    def index_history(self) -> None:
        """Where the state is in a bucket, bring the index of the history up to date. Raises Refused."""
        if isinstance(self.files, BucketFiles):
            history_index.update(self.files, self._history)

    @property
    def _history(self) -> str:
        return f"history/{self.place}"

    @property
    def locks_folder(self) -> str:
        return f"locks/organization/{self.place}"

    @cached_property
    def place(self) -> str:
        """Folder of the stack below the backend's folders of locks and histories."""
        project = yaml.safe_load((self.folder / "Pulumi.yaml").read_text())["name"]
        return f"{project}/{self.stack.rsplit('/', 1)[-1]}"

    def read_state(self) -> dict[str, Any]:
        """The deployment as it is stored: secrets are ciphertext in it."""
        return json.loads(self.run("stack", "export", "--stack", self.stack))["deployment"]
