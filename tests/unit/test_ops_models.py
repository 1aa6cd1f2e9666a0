"""Threads that meet one of lightkube's classes at the same moment."""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from lightkube.core.dataclasses_dict import DataclassDictMixIn

from ops.adapters.kubernetes_models import decode_in_threads

FIELDS = [f"field{number}" for number in range(200)]


@pytest.fixture
def _hasty() -> Iterator[None]:
    """Threads take turns all the time."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def never_met() -> Any:
    return dataclasses.make_dataclass("Met", [(name, str, None) for name in FIELDS], bases=(DataclassDictMixIn,))


@pytest.mark.usefixtures("_hasty")
def test_a_class_used_by_many_threads_at_once_is_set_up_for_all() -> None:
    decode_in_threads()
    failures: list[BaseException] = []
    for _ in range(10):
        model, start = never_met(), threading.Barrier(8)

        def meet(model: Any = model, start: threading.Barrier = start) -> None:
            start.wait()
            try:
                assert model.from_dict({"field7": "here"}).field7 == "here"
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=meet) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
