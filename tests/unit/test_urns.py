"""Resources keep their identity from one version of the program to the next."""

from __future__ import annotations

import pytest

from tests.support.recorded_urns import STACKS, list_urns, read_urns


@pytest.mark.parametrize("stack", STACKS)
def test_no_resource_gets_another_identity(stack: str) -> None:
    gone = sorted(set(read_urns(stack)) - set(list_urns(stack)))
    assert not gone, (
        "an update would delete these and make others instead: give the new resource `aliases`, or, when it is meant, "
        f"record what is registered now (`python -m tests.support.recorded_urns`): {gone}"
    )
