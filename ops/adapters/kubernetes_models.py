"""Makes the decoding of lightkube's models safe for threads.

A model class is set up at its first use, and marked as set up too early: a second thread then fails on a missing
attribute (lightkube 0.22, core/dataclasses_dict.py).
"""

from __future__ import annotations

import threading

from lightkube.core.dataclasses_dict import DataclassDictMixIn

_lock = threading.RLock()
_set_up = DataclassDictMixIn._setup.__func__


def _set_up_locked(cls: type[DataclassDictMixIn]) -> None:
    if cls._valid_params is None:  # set last
        with _lock:
            _set_up(cls)


def decode_in_threads() -> None:
    """Set model classes up under a lock from now on."""
    DataclassDictMixIn._setup = classmethod(_set_up_locked)  # type: ignore[method-assign]
