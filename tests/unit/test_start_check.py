"""The program's question, whether the update that began it still applies."""

from __future__ import annotations

import pulumi
import pytest

from ops.errors import OpsError
from ops.stack.start_check import StartCheck
from program.start_check import await_start
from settings.start_check import START_CHECK


def ask(check: StartCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    with check.answering() as environment:
        monkeypatch.setenv(START_CHECK, environment[START_CHECK])
        await_start()


def test_an_update_begins_where_the_same_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    check = StartCheck(lambda: None)
    ask(check, monkeypatch)
    assert check.change is None


def test_an_update_does_not_begin_after_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    check = StartCheck(lambda: "maintenance began (by hand)")
    with pytest.raises(pulumi.RunError, match=r"^maintenance began \(by hand\)$"):
        ask(check, monkeypatch)
    assert check.change == "maintenance began (by hand)"


@pytest.mark.parametrize("error", [OpsError("the bucket is away"), ValueError("what the history has")])
def test_an_update_does_not_begin_when_the_history_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail() -> str:
        raise error

    with pytest.raises(pulumi.RunError, match=str(error)):
        ask(StartCheck(fail), monkeypatch)


def test_an_update_does_not_begin_when_the_command_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    with StartCheck(lambda: None).answering() as environment:
        monkeypatch.setenv(START_CHECK, environment[START_CHECK])
    with pytest.raises(pulumi.RunError, match="has ended"):
        await_start()


def test_plain_pulumi_up_asks_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(START_CHECK, raising=False)
    await_start()
