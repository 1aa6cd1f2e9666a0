"""Asks the command that began this update whether it still applies to what stands.

The engine runs the program only while it holds the stack's lock: no other update can begin or end any more.
"""

from __future__ import annotations

import os
import socket

import pulumi

from settings.start_check import GO, START_CHECK


def await_start() -> None:
    """Return when the update may begin; before any resource is registered, so that nothing is changed otherwise."""
    path = os.environ.get(START_CHECK)
    if not path:
        return  # plain `pulumi up`, or a preview
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(path)
            with line.makefile(encoding="utf-8") as answers:
                answer = answers.read()
        except OSError:
            answer = ""
    if answer != GO:
        raise pulumi.RunError(answer or "the command that began this update has ended, so that it does not begin")
