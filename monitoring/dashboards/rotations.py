"""Rotation of secrets (HerbisVeritas "Rotation Clés Sécurité"): ages, phases, and uses of previous values."""

from __future__ import annotations

from collections.abc import Mapping

from monitoring.dashboards.board import WIDTH, Board, Color, Line, Panel, Query, Row, Word, graph, number

_PHASES: Mapping[str, Color] = {
    "pending": "blue",
    "tested": "blue",
    "dual": "orange",
    "rolled-out": "orange",
    "verified": "green",
    "retired": "green",
    "failed": "red",
}


def rotations() -> Board:
    return Board(
        slug="rotations",
        title="Rotation of secrets",
        about="Age and rotation phase of every secret, and uses of its previous value.",
        since="now-30d",
        domains=("rotations",),
        rows=(Row("Ages", _ages()), Row("Rotations", _rotations()), Row("Values in use", _uses())),
    )


def _ages() -> tuple[Panel, ...]:
    rotated, most = "runbook_secret_rotated_timestamp_seconds{}", "runbook_secret_max_age_seconds{}"
    age = f"(time() - {rotated} and {rotated} > 0)"
    return (
        graph("Age", "s", Query(age, "{{secret}}"), width=12, about="No data for a secret that was never rotated."),
        graph(
            "Age, in percent of the maximum",
            "percent",
            Query(f"100 * {age} / {most}", "{{secret}}"),
            lines=(Line(value=100),),
            width=12,
            about="Above 100, `SecretRotationOverdue` fires. Each secret has its own maximum age.",
        ),
    )


def _rotations() -> tuple[Panel, ...]:
    phase = "runbook_secret_phase"
    overlap, emergency = (f"runbook_secret_{what}_timestamp_seconds{{}}" for what in ("overlap_until", "emergency"))
    numbers = {name: place for place, name in enumerate(_PHASES)}
    each = " or ".join(f'{place} * {phase}{{phase="{name}"}}' for name, place in numbers.items())
    return (
        number(
            "Rolled back",
            "short",
            "sum(runbook_secret_verification_failed{})",
            words={0: Word(text="none", color="green")},
            about="Secrets whose last rotation was rolled back: `SecretVerificationFailed`.",
        ),
        number(
            "Never rotated",
            "short",
            "count(runbook_secret_rotated_timestamp_seconds{} == 0 and on (secret) runbook_secret_max_age_seconds{})"
            " or vector(0)",
            words={0: Word(text="none", color="green")},
        ),
        number(
            "Overlap ends in",
            "s",
            f"min({overlap} - time() and {overlap} > 0)",
            empty="no overlap",
            width=8,
            about="Below 0, retire the previous value: `SecretNotRetired`.",
        ),
        number(
            "Last emergency",
            "s",
            f"min(time() - {emergency} and {emergency} > 0)",
            empty="never",
            width=8,
            about="Time since the last emergency rotation, which logs all customers out.",
        ),
        Panel(
            title="Phases",
            queries=(Query(f"sum by (secret) ({each})", "{{secret}}"),),
            kind="timeline",
            width=WIDTH,
            words={place: Word(text=name, color=_PHASES[name]) for name, place in numbers.items()},
        ),
    )


def _uses() -> tuple[Panel, ...]:
    uses = 'sum by (secret) (increase(shop_secret_uses_total{which="%s"}[5m]))'
    return (
        graph("Uses of the current value within 5 min", "short", Query(uses % "current", "{{secret}}"), width=12),
        graph(
            "Uses of the previous value within 5 min",
            "short",
            Query(uses % "previous", "{{secret}}"),
            width=12,
            about="After the overlap, `SecretPreviousUsedAfterOverlap` fires.",
        ),
    )
