"""Values of secrets by period: random ones in two slots that take turns, and those that come from outside."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pulumi
from pulumi import CustomTimeouts, Output, ResourceOptions
from pulumi_command.local import Command as LocalCommand
from pulumi_command.local import Logging
from pulumi_random import RandomPassword

from components.base.names import content_hash, logical
from settings import SecretRotation
from settings.rotation import slot
from settings.secret import Secret

_PRINT = 'printf %s "$GIVEN"'
_KEEP = 'printf %s "$PULUMI_COMMAND_STDOUT"'
_PAIR = ("accessKeyId", "secretAccessKey")
# The command line comes in a variable and not as an argument, which other processes could read. What it prints reaches
# the provider only when it succeeded: the provider puts the output of a failed command into its error message.
_ISSUE = """out=$(eval "$RUNBOOK_ISSUE" 2>/dev/null)
why="exit code $?"
if [ "$why" = "exit code 0" ]; then
  [ -n "$out" ] && printf %s "$out" && exit
  why="it printed nothing on stdout"
fi
echo "the issue command of $RUNBOOK_SECRET failed: $why. $RUNBOOK_ADVICE" >&2
exit 1"""
_REVOKE = """(eval "$RUNBOOK_REVOKE") >/dev/null 2>&1
why="exit code $?"
[ "$why" = "exit code 0" ] && exit
echo "the revoke command of $RUNBOOK_SECRET failed: $why. $RUNBOOK_ADVICE" >&2
exit 1"""
_ADVICE = (
    "What it prints may contain the secret and is not kept. To see it, run the command in a terminal: "
    "it is in the stack file, under runbook:rotation"
)


def generate_password(parent: pulumi.Resource, name: str, period: int, length: int = 40) -> Output[str]:
    """A random value. The first has a name of its own: a stack from before rotation keeps it."""
    first = period == 0
    made = RandomPassword(
        name if first else f"{name}-{slot(period)}",
        length=length,
        special=False,
        # Another period in the same slot is another value.
        keepers=None if first else {"period": str(period)},
        opts=ResourceOptions(parent=parent),
    )
    return Output.secret(made.result)


def register_external_secret(
    parent: pulumi.Resource, rotating: SecretRotation, secrets: Mapping[str, Secret]
) -> Mapping[int, tuple[Secret, ...]]:
    """The valid values of a secret from outside; two at a time where it is a pair.

    A value that was issued is revoked by leaving it out: the engine does so when nothing uses it any more.
    """
    return {period: _register_period(parent, rotating, period, secrets) for period in sorted(rotating.periods)}


def _register_period(
    parent: pulumi.Resource, rotating: SecretRotation, period: int, secrets: Mapping[str, Secret]
) -> tuple[Secret, ...]:
    policy, name = rotating.policy, f"{logical(rotating.name)}-{period}"
    if keys := rotating.given_by(period):
        values = tuple(secrets[key] for key in keys)
        if policy.revoke and rotating.state.previous is not None and rotating.state.phase != "retired":
            known = [value.value for value in values]
            printed = known[0] if len(known) == 1 else Output.json_dumps(dict(zip(_PAIR, known, strict=True)))
            # Nothing is issued here, but once its successor is in use, it is revoked like an issued value.
            _command(parent, name, rotating, create=_PRINT, environment={"GIVEN": printed})
        return values
    issued = _command(parent, name, rotating, create=_ISSUE, update=_KEEP)
    printed = Output.secret(issued.stdout).apply(str.strip)
    identity = content_hash(rotating.name, period)
    if rotating.kind != "s3":
        return (Secret(printed, identity),)
    return tuple(Secret(printed.apply(lambda text, key=key: _member(text, key)), identity) for key in _PAIR)


def _command(
    parent: pulumi.Resource,
    name: str,
    rotating: SecretRotation,
    *,
    create: str,
    update: str | None = None,
    environment: Mapping[str, Output[str]] | None = None,
) -> LocalCommand:
    policy = rotating.policy
    seconds = f"{policy.issue_seconds}s"
    lines = {"RUNBOOK_ISSUE": policy.issue or "", "RUNBOOK_REVOKE": policy.revoke or ""}
    return LocalCommand(
        name,
        create=create,
        update=update,
        delete=_REVOKE,
        environment={
            # Their arguments may be secret, as what they print.
            **{variable: Output.secret(line) for variable, line in lines.items()},
            "RUNBOOK_SECRET": rotating.name,
            "RUNBOOK_ADVICE": _ADVICE,
            **(environment or {}),
        },
        logging=Logging.NONE,
        add_previous_output_in_env=True,
        opts=ResourceOptions(
            parent=parent,
            additional_secret_outputs=["stdout", "stderr"],
            custom_timeouts=CustomTimeouts(create=seconds, update=seconds, delete=seconds),
        ),
    )


def _member(text: str, key: str) -> str:
    try:
        return str(json.loads(text)[key])
    except (ValueError, KeyError, TypeError):
        # The output is not shown: it may contain the secret.
        raise ValueError(f'the issue command has to print {{"{_PAIR[0]}": "…", "{_PAIR[1]}": "…"}}') from None
