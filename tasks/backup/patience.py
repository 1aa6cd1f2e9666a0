"""How long a backup waits for another one, or for a migration, to end."""

from __future__ import annotations

import time

from tasks.environment import Environment
from tasks.errors import TaskError
from tasks.progress import say

_SAY_SECONDS = 30.0


class Patience:
    """The time that is left to wait. Without any, what is in the way is an error at once."""

    def __init__(self, seconds: float = 0) -> None:
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._say_at = 0.0

    @classmethod
    def from_environment(cls, environment: Environment) -> Patience:
        return cls(environment.integer("BACKUP_WAIT_SECONDS", least=0) or 0)

    def spend(self, busy: TaskError, *, most: float) -> float:
        """Seconds to wait until the next try, `most` at a time; raises `busy` when the time is up."""
        now = time.monotonic()
        left = self._deadline - now
        if left <= 0:
            if not self._seconds:
                raise busy
            raise TaskError(busy.code, f"{busy}. It did not end within {self._seconds:.0f} s")
        if now >= self._say_at:
            say(f"{busy}. Waiting for it, at most {left:.0f} s more")
            self._say_at = now + _SAY_SECONDS
        return min(left, most)
