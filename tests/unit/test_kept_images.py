"""R6: a rollback says on how many nodes its image is, before it needs a registry."""

from __future__ import annotations

from typing import Any

import pytest

from ops.commands import status
from ops.decisions.kept_images import count_nodes
from ops.decisions.release_state import read_release_state
from tests.unit.test_environment_checks import node
from tests.unit.test_ops_decisions import entry, history, release

IMAGE = "registry.example.com/shop@sha256:" + "a" * 64
OTHER = "registry.example.com/shop@sha256:" + "b" * 64


def having(*images: str, **more: Any) -> dict[str, Any]:
    found = node(**more)
    found["status"]["images"] = [{"names": [image, "registry.example.com/shop:1"]} for image in images]
    return found


def test_it_counts_the_nodes_that_accept_pods() -> None:
    nodes = [having(IMAGE, OTHER), having(OTHER), having(IMAGE, ready="False"), having(IMAGE, unschedulable=True)]
    kept = count_nodes(nodes, 3, IMAGE)
    assert (kept.on, kept.nodes, kept.unknown) == (1, 2, 0)
    assert str(kept) == (
        "the image of revision 3 is on 1 of 2 nodes: the others pull it, from a registry that has to answer"
    )


def test_where_every_node_has_it_no_registry_is_named() -> None:
    assert str(count_nodes([having(IMAGE)] * 2, 3, IMAGE)) == "the image of revision 3 is on 2 of 2 nodes"


@pytest.mark.parametrize(("listed", "unknown"), [(49, 0), (50, 1)])
def test_a_node_that_lists_only_its_largest_images_may_have_it(listed: int, unknown: int) -> None:
    kept = count_nodes([having(*[OTHER] * listed)], 3, IMAGE)
    assert (kept.on, kept.unknown) == (0, unknown)
    assert ("report only their largest images" in str(kept)) == bool(unknown)
    assert ("registry" in str(kept)) == (not unknown)


def test_a_name_without_a_registry_is_found() -> None:
    short = "shop@sha256:" + "a" * 64
    assert count_nodes([having(f"docker.io/library/{short}")], 1, short).on == 1
    assert count_nodes([having(f"docker.io/library/work{short}")], 1, short).on == 0


def test_status_names_the_release_that_a_rollback_starts() -> None:
    now, past = release(2, "b"), history(entry(release(2, "b")), entry(release(1, "a")))
    state = read_release_state({"runbook:release": now.to_config()}, past.newest)
    found = status.find_rollback(past, state, [having(release(1, "a").image)])
    assert found
    assert (found["revision"], found["kept"]["on"], found["kept"]["nodes"]) == (1, 1, 1)
    unread = status.find_rollback(past, state, None)
    assert unread
    assert unread["kept"] is None
    alone = history(entry(now))
    assert status.find_rollback(alone, read_release_state({}, alone.newest), []) is None
