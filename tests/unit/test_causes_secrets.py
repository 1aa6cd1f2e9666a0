"""What the cause of a failure shows of logs, events and messages: no secret, and no more than can be read."""

from __future__ import annotations

import base64
import html
import json
import re
import time
from collections.abc import Mapping
from urllib.parse import quote, quote_plus

import pytest

from ops.adapters.automation import Failed, Run
from ops.causes.cause import Cause
from ops.causes.text import WIDTH, Masker
from tests.support.failing_objects import CANARY, Kubernetes, cause, container, failing, job, pod, terminated


def masker(**values: str) -> Masker:
    made = Masker()
    made.learn([{"data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}}])
    return made


def forms(value: str) -> Mapping[str, str]:
    return {
        "plain": value,
        "base64": base64.b64encode(value.encode()).decode(),
        "within escapes": f"\x1b[31m{value[:5]}\x1b[0m{value[5:]}\x1b]0;title\x07",
        "with zero bytes": value[:5] + "\0" + value[5:],
    }


@pytest.mark.parametrize("form", forms(CANARY))
def test_a_secret_is_masked_in_every_form(form: str) -> None:
    assert masker(a=CANARY).lines(f"key={forms(CANARY)[form]}.") in (["key=[secret]."], ["key=[secret]==."])


def test_only_the_password_of_a_url_is_masked_known_or_not() -> None:
    known = masker(url="postgresql://shop:p%40ss-word-1@db/shop")
    assert known.line("p%40ss-word-1 p@ss-word-1") == "[secret] [secret]"
    assert known.line("redis://default:unknown@cache:6379/0") == "redis://default:[secret]@cache:6379/0"
    assert known.line("http://backend:3000/api") == "http://backend:3000/api"
    assert known.line("Authorization: Bearer abcdefgh12345") == "Authorization: Bearer [secret]"


def test_a_role_that_is_named_as_the_namespace_leaves_messages_readable() -> None:
    """The tasks' Secret has the role's name beside its passwords."""
    names = {"ROTATE_DATABASE_OWNER": "herbisveritas", "SESSION_KEYS": "session:*", "REDIS_USER": "monitor"}
    made = masker(**names, ROTATE_DATABASE_NEW_URL="x-secret-x")
    said = "Pod herbisveritas/migrate-1 deleted session:* with x-secret-x: no PrometheusRule of runbook:monitoring"
    assert made.text(said) == said.replace("x-secret-x", "[secret]")


def test_a_key_of_many_lines_is_masked_line_by_line() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END PRIVATE KEY-----\n"
    assert masker(tls=key).lines("a\nkqhkiG9w0BAQEF\nb") == ["a", "[secret]", "b"]
    assert masker().lines(f"a\n{key}b") == ["a", "[secret]", "b"]


def test_registry_passwords_within_json_are_masked() -> None:
    auths = {"auths": {"r.example.com": {"username": "puller", "password": "pull-me-1"}}}
    assert masker(config=json.dumps(auths)).line("login with pull-me-1 failed") == "login with [secret] failed"


ODD = 'p\u00e4"ss/w&r<d> (1)\\!'


@pytest.mark.parametrize(
    "shown",
    [
        json.dumps(ODD, ensure_ascii=False)[1:-1],
        json.dumps(json.dumps(ODD))[1:-1],
        json.dumps(ODD)[1:-1].replace("/", r"\/"),
        quote(ODD, safe="!'()*"),
        quote(ODD, safe="").lower(),
        quote_plus(ODD),
        html.escape(ODD),
        repr(f"'{ODD}"),
        re.sub(r"([^\w])", r"\\\1", ODD),
    ],
)
def test_a_secret_is_masked_however_it_is_escaped(shown: str) -> None:
    assert not {"ss", "w", "r"} & set(re.findall("[a-z]+", masker(a=ODD).line(f"={shown}=").replace("[secret]", "")))


@pytest.mark.parametrize(
    "value",
    [
        "jdbc:postgresql://h/shop?user=u&password=hunter2-xyz",
        "host=db user=u password='hunter2-xyz' dbname=shop",
        "DefaultEndpointsProtocol=https;AccountName=u;AccountKey=hunter2-xyz;EndpointSuffix=core",
        "postgresql://u:hunter2-xyz@h/shop?x=a@b",
        "mongodb://u:hunter2-xyz@a:1,b:2/shop",
    ],
)
def test_a_password_within_a_connection_string_is_masked(value: str) -> None:
    assert masker(a=value).line("no login with hunter2-xyz") == "no login with [secret]"


def test_nothing_of_overlapping_secrets_is_left() -> None:
    assert masker(a="abcdefgh", b="fghijklm").line("abcdefghijklm") == "[secret]"


def test_a_line_is_masked_before_it_is_cut() -> None:
    line = "x" * (WIDTH - 5) + CANARY + "y" * 50
    shown = masker(a=CANARY).lines(line)[0]
    assert "canar" not in shown
    assert shown.endswith("characters more)")
    assert len(shown) < WIDTH + 40


@pytest.mark.parametrize("size", [6, 12, len(CANARY) - 1])
def test_a_text_that_was_cut_within_a_secret_shows_nothing_of_it(size: int) -> None:
    known = masker(a=CANARY)
    assert known.text(f"token={CANARY[:size]}", cut_end=True) == "token=[secret]"
    assert known.text(f"{CANARY[-size:]} end", cut_start=True) == "[secret] end"
    assert known.text(f"token={CANARY[:size]}") == f"token={CANARY[:size]}", "an end that was not cut is no secret"


def test_a_log_is_the_last_lines_without_what_moves_a_terminal() -> None:
    text = b"\n".join(
        [*(b"line %d" % n for n in range(30)), b"50%\r100%", b"\xff\x00\x1b[2Jbinary", b"\xe2\x80\xaeevil"]
    )
    lines = masker().lines(text)
    assert len(lines) == 20
    assert lines[-4:] == ["50%", "100%", "\ufffdbinary", "evil"]


def test_logs_events_and_messages_show_no_secret() -> None:
    bad = pod("p", container(terminated(1, message=f"died with {CANARY}")), phase="Failed")
    kubernetes = Kubernetes(job(), bad)
    kubernetes.logs["p", "app", False] = f"STRIPE={CANARY}\n".encode()
    kubernetes.event(bad, "Unhealthy", f"Readiness probe failed: {CANARY}")
    run = failing(kubernetes, "Job", "migrate-1", f"it has {CANARY}")
    assert "[secret]" in run.causes[0].log[0]
    assert CANARY not in "\n".join(run.errors)
    assert CANARY not in json.dumps(run.causes[0].to_dict())


def test_without_the_secrets_no_log_is_shown() -> None:
    bad = pod("p", container(terminated(1, message="last words")), phase="Failed")
    kubernetes = Kubernetes(job(), bad)
    kubernetes.logs["p", "app", False] = b"something\n"
    kubernetes.event(bad, "Unhealthy", "what the probe was answered")
    kubernetes.secrets_readable = False
    found = cause(kubernetes, "Job", "migrate-1")
    assert found.log == []
    assert any("cannot be read" in note for note in found.notes)
    assert "something" not in str(found)
    assert "last words" not in str(found)
    assert "the probe was answered" not in str(found)
    assert found.exit_code == 1


def test_a_line_of_megabytes_is_read_to_its_end() -> None:
    bad = pod("p", container(terminated(1)), phase="Failed")
    kubernetes = Kubernetes(job(), bad)
    kubernetes.logs["p", "app", False] = b"x" * 3_000_000 + CANARY.encode() + b"\nthe reason\n"
    began = time.monotonic()
    found = cause(kubernetes, "Job", "migrate-1")
    assert time.monotonic() - began < 5, "masking takes time in proportion to the line"
    assert found.log[-1] == "the reason"
    assert len(str(found)) < 2 * WIDTH


def test_the_log_of_a_command_that_handles_a_secret_is_not_shown() -> None:
    """It may print one that the namespace's Secrets do not have, such as a key that it has just made."""
    bad = pod("p", container(terminated(1)), phase="Failed", annotations={"runbook/output": "secret"})
    kubernetes = Kubernetes(job(), bad)
    kubernetes.logs["p", "app", False] = b"unknown-to-the-namespace\n"
    found = cause(kubernetes, "Job", "migrate-1")
    assert found.log == []
    assert "unknown-to-the-namespace" not in str(found)
    assert any("kubectl -n shop logs p -c app" in note for note in found.notes)
    assert found.exit_code == 1


URN = "urn:pulumi:prod::runbook::runbook:{parent}$command:local:Command::stripe-secret-key-1"


def message(parent: str, text: str) -> str:
    run = Run()
    run._error(f"error: {text}", URN.format(parent=parent))  # pyright: ignore[reportPrivateUsage]
    return run.why


@pytest.mark.parametrize("parent", ["secrets:Credentials", "release:Migration"])
@pytest.mark.parametrize(
    "text",
    [
        f'exit status 7: running "./issue --token {CANARY}":\nkey {CANARY}',  # the official provider
        f"the delete command ended with exit code 7; the last it printed:\n{CANARY}",
    ],
)
def test_the_output_of_a_local_command_that_handles_a_secret_is_hidden(text: str, parent: str) -> None:
    """A resource of an earlier version runs its command without the shell words that drop the output."""
    said = message(parent, text)
    assert said == "Command stripe-secret-key-1: the command failed (exit code 7); its output is not kept"


def test_our_own_words_about_it_are_shown() -> None:
    own = "the issue command of STRIPE_SECRET_KEY failed: exit code 3. What it prints may contain the secret"
    said = message("data:DataServices", f'exit status 1: running "out=$(eval …)":\n{own}')
    assert said == f"Command stripe-secret-key-1: {own}"


def test_what_is_kept_of_a_failed_update_is_names_and_exit_codes() -> None:
    """The reason of a quarantine is in the stack file, in git, in the history and in records."""
    run = Run(errors=[f"it printed {CANARY}"], failed=[Failed(URN.format(parent="x"), "command:local:Command", {})])
    assert CANARY in run.gist
    assert run.what_failed == "Command stripe-secret-key-1 failed"
    run.causes = [Cause("Job smoke-1", f"Job smoke-1 failed: {CANARY}", exit_code=3)]
    assert run.what_failed == "Job smoke-1 failed: exit code 3"
