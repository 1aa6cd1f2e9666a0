"""`python -m tasks evidence verify`."""

from __future__ import annotations

import argparse

from tasks.environment import Environment
from tasks.restore import evidence
from tasks.result import Result
from tasks.store import open_store


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="verb")
    verbs.add_parser("verify", help="walk the chain of restore test records from the first to the last").set_defaults(
        run=_verify
    )


def _verify(_arguments: argparse.Namespace, environment: Environment) -> Result:
    found = evidence.verify(open_store(environment))
    passed = sum(record["result"] == "passed" for record in found)
    head = found[-1]["sha256"] if found else None
    return Result(
        {"records": len(found), "passed": passed, "failed": len(found) - passed, "head": head},
        f"{len(found)} records, {passed} passed, unbroken; the last one's sha256 is {head}" if found else "no records",
    )
