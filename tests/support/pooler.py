"""A real PgBouncer in front of a PostgreSQL server of the tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sandbox import packages
from tests.support.servers import Postgres, free_ports, running, unprivileged


@dataclass(frozen=True)
class Pooler:
    port: int
    server: Postgres

    def url(self, database: str, user: str, password: str) -> str:
        """The same as the server's, through the pooler."""
        return self.server.url(database, user, password).replace(f":{self.server.port}/", f":{self.port}/")


@contextmanager
def pgbouncer(
    server: Postgres,
    users: dict[str, str],
    mode: Literal["transaction", "session"] = "transaction",
    *,
    turns: bool = False,
) -> Iterator[Pooler]:
    """`users`: name → password, of those who may log in. `turns`: the server's sessions are taken in turn."""
    (port,) = free_ports(1)
    as_user = unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="runbook-pooler-"))
    try:
        lines = [f'"{name}" "{password}"\n' for name, password in users.items()]
        (folder / "users.txt").write_text("".join(lines))
        (folder / "pgbouncer.ini").write_text(
            f"""[databases]
* = host=127.0.0.1 port={server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users.txt
pool_mode = {mode}
default_pool_size = 3
min_pool_size = 3
server_round_robin = {int(turns)}
server_login_retry = 1
"""
        )
        if as_user:
            for path in (folder, *folder.iterdir()):
                os.chown(path, as_user.pw_uid, as_user.pw_gid)
        program = packages.require("pgbouncer")
        with running([program, folder / "pgbouncer.ini"], "process up", user=as_user):
            yield Pooler(port, server)
    finally:
        shutil.rmtree(folder)
