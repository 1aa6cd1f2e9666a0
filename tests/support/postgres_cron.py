"""A PostgreSQL server with pg_cron, which runs jobs by itself: the machine's own server and one more package."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox import packages
from sandbox.cache import artifact
from tests.support.servers import BIN, Postgres, postgres

_MAJOR = BIN.parent.name
_PACKAGE = f"postgresql-{_MAJOR}-cron"
_SHARED = Path("/usr/share/postgresql") / _MAJOR


def extension() -> Path:
    """The package's files; fetched before the tests start."""
    return artifact("tests-postgres-cron", [_PACKAGE], lambda target: packages.unpack(_PACKAGE, target))


@contextmanager
def postgres_with_cron(database: str, *more: str) -> Iterator[Postgres]:
    """A new server that runs the jobs of one database; `more` are options such as `cron.log_run=off`."""
    with tempfile.TemporaryDirectory(prefix="runbook-postgres-programs-") as name:
        root = Path(name)
        # A server finds its extensions by the place of its program: so it is a copy that has one more.
        shutil.copytree(BIN.parent, root / BIN.parent.relative_to("/usr"))
        shutil.copytree(_SHARED, root / _SHARED.relative_to("/usr"))
        shutil.copytree(extension() / "usr", root, dirs_exist_ok=True)
        root.chmod(0o755)
        options = ("shared_preload_libraries=pg_cron", f"cron.database_name={database}", "cron.host=127.0.0.1", *more)
        flags = [word for option in options for word in ("-c", option)]
        with postgres(*flags, programs=root / BIN.relative_to("/usr")) as server:
            yield server
