"""Image of monitoring: the distribution's Prometheus, Alertmanager and exporters."""

from __future__ import annotations

from pathlib import Path

from sandbox.cache import artifact
from sandbox.images.buildah import BASE, Builder
from sandbox.paths import ROOT

HERE = Path(__file__).resolve().parent
RECIPE = ROOT / "images" / "monitoring"


def layout(stand: Path, log: Path) -> Path:
    """OCI layout of the one image `monitoring`; `stand` is the layout of the base."""

    def build(target: Path) -> None:
        builder = Builder(target, stand, log)
        builder.build("monitoring", RECIPE, f"--build-arg=BASE={BASE}")
        builder.close()

    inputs = [RECIPE, HERE / "buildah.py", stand.parent.name]
    return artifact("image-monitoring", inputs, build) / "layout"
