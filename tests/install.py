"""Installs and builds what tests need, before the first of them starts; tests do neither."""

from __future__ import annotations

import os
import sys

from sandbox import cluster, packages, toolchain, ui
from sandbox.images import lighthouse, shop
from sandbox.paths import LOGS
from tests.support import operator_servers, policy_pack, postgres_cron, postgres_majors


def install(*, quick: bool = False) -> None:
    """Debian packages, all in one go; and programs that only tests run. `quick`: what the unit tests need."""
    if quick:
        packages.ensure(packages.UNIT_TESTS)
        return
    packages.ensure(*cluster.check(), *packages.FOR_TESTS)
    toolchain.build_actionlint()
    toolchain.build_kube_score()
    operator_servers.build_images()
    shop.application(LOGS / "shop.log")
    lighthouse.packages(LOGS / "lighthouse.log")
    policy_pack.packages()
    for major in postgres_majors.VERSIONS:
        postgres_majors.programs(major)
    postgres_cron.extension()
    if postgres_majors.HAS_CLIENTS:
        postgres_majors.clients()


def bare(*, yes: bool) -> None:
    """Remove the Debian packages that only tests and image builds need, as far as they were installed from here."""
    gone = packages.find_removable(packages.FOR_TESTS)
    if not gone:
        print("Nothing to remove: no package of tests and image builds was installed from here.", file=sys.stderr)
        return
    print(f"These packages go, with their configuration and data:\n    {' '.join(gone)}", file=sys.stderr)
    if not yes and os.environ.get("CI") != "true":
        if not sys.stdin.isatty():
            raise ui.SandboxError("nothing was removed: there is no terminal to ask on; `--yes` answers")
        print("Remove them? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise ui.SandboxError("nothing was removed")
    packages.remove(gone)
