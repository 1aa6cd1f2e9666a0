"""`python -m tasks evidence verify`."""

from __future__ import annotations

import argparse

from tasks.backup.evidence_head import check_end, newest_seen
from tasks.environment import Environment
from tasks.restore import evidence
from tasks.result import Result
from tasks.store import open_store


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="verb")
    verbs.add_parser("verify", help="walk the chain of restore test records from the first to the last").set_defaults(
        run=_verify
    )
    anew = verbs.add_parser("begin-anew", help="after a break that is explained: count only records from now on")
    anew.add_argument("--reason", required=True, help="why; it is recorded")
    anew.set_defaults(run=_begin_anew)


def _begin_anew(arguments: argparse.Namespace, environment: Environment) -> Result:
    store = open_store(environment)
    seen = newest_seen(environment, store)
    record = evidence.begin_anew(store, arguments.reason, seen[0] if seen else 0)
    return Result(record, f"evidence begins anew with record {record['sequence']}; run a restore test")


def _verify(_arguments: argparse.Namespace, environment: Environment) -> Result:
    store = open_store(environment)
    chain = evidence.chain(store)
    check_end(environment, store, chain)
    found = chain.records
    passed = sum(record["result"] == "passed" for record in found)
    head = found[-1]["sha256"] if found else None
    return Result(
        {"records": len(found), "passed": passed, "failed": len(found) - passed, "head": head},
        f"{len(found)} records, {passed} passed, unbroken; the last one's sha256 is {head}" if found else "no records",
    )
