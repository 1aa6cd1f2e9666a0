"""Metrics as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One measurement, and its values by label."""

    name: str
    help: str
    values: Sequence[tuple[str, float]]
    kind: Literal["gauge", "counter"] = "gauge"

    @classmethod
    def one(cls, name: str, help: str, value: float | None) -> Metric:
        return cls(name, help, [] if value is None else [("", value)])

    def __str__(self) -> str:
        lines = "".join(f"{self.name}{label} {value!r}\n" for label, value in self.values)
        return f"# HELP {self.name} {self.help}\n# TYPE {self.name} {self.kind}\n{lines}" if lines else ""
