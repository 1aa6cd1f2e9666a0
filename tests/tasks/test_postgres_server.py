"""A real PostgreSQL takes the arguments that follow from the settings of a bundled one."""

from __future__ import annotations

import pytest

from settings import BundledPostgres
from settings.base import EXAMPLE_DIGEST
from tests.support import servers


@pytest.mark.parametrize(("memory", "buffers"), [("64Mi", "16MB"), ("512Mi", "128MB")])
def test_the_server_starts_with_them(memory: str, buffers: str) -> None:
    amounts = {"cpu": "1", "memory": memory, "ephemeralStorage": "64Mi"}
    wanted = BundledPostgres.model_validate(
        {
            "mode": "bundled",
            "image": f"postgres@{EXAMPLE_DIGEST}",
            "storage": "1Gi",
            "resources": {"requests": amounts, "limits": amounts},
            "parameters": {"max_connections": 37, "jit": False},
        }
    )
    with servers.postgres(*wanted.server_arguments) as server, server.connect() as connection:
        found = {
            name: connection.execute(f"SHOW {name}".encode()).fetchall()[0][0]
            for name in ("shared_buffers", "max_connections", "jit")
        }
    assert found == {"shared_buffers": buffers, "max_connections": "37", "jit": "off"}
