"""What a program exposes to Prometheus, as samples."""

from __future__ import annotations

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector


def expose(source: Collector) -> str:
    """The text that a scrape of the source gets."""
    return generate_latest(source).decode()


def parse_samples(text: str) -> dict[str, float]:
    """Value by series (`name{a="1",b="2"}`, labels by name)."""
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {_series(sample.name, sample.labels): sample.value for sample in samples}


def read_samples(source: Collector) -> dict[str, float]:
    return parse_samples(expose(source))


def _series(name: str, labels: dict[str, str]) -> str:
    inner = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{inner}}}" if inner else name
