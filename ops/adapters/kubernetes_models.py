"""lightkube's models, decoded by several threads at once.

A class of them gets ready when it is first met, and says that it is before it is: a second thread then fails on what
is not there yet (lightkube 0.22, core/dataclasses_dict.py).
"""

from __future__ import annotations

import threading

from lightkube.core.dataclasses_dict import DataclassDictMixIn

_one_at_a_time = threading.RLock()
_get_ready = DataclassDictMixIn._setup.__func__


def _get_ready_alone(cls: type[DataclassDictMixIn]) -> None:
    if cls._valid_params is None:  # what is set last
        with _one_at_a_time:
            _get_ready(cls)


def decode_in_threads() -> None:
    """From now on, threads wait for each other there."""
    DataclassDictMixIn._setup = classmethod(_get_ready_alone)  # type: ignore[method-assign]
