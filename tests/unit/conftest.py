"""Programs that many tests share, each run once."""

from __future__ import annotations

import pytest

from tests.support.program import RELEASE, Program, run_program, stack_config


@pytest.fixture(scope="session")
def sandbox() -> Program:
    """The sandbox's stack with one release: bundled data services."""
    return run_program(stack_config("Pulumi.sandbox.yaml", release=RELEASE))


@pytest.fixture(scope="session")
def prod() -> Program:
    """Production with one release: external data services, autoscaler."""
    return run_program(stack_config("Pulumi.prod.yaml", release=RELEASE), stack="prod")
