"""Image of what watches: the distribution's Prometheus, Alertmanager and exporters; built when a test asks for it."""

from __future__ import annotations

from pathlib import Path

from sandbox.cache import artifact
from sandbox.images.buildah import BASE, Builder
from sandbox.images.registry import push
from sandbox.paths import LOGS, ROOT

HERE = Path(__file__).resolve().parent
RECIPE = ROOT / "images" / "monitoring"
_LOG = LOGS / "images.log"
_TAG = "monitoring"


def layout(stand: Path) -> Path:
    """OCI layout of the one image `monitoring`; `stand` is the layout of the base."""

    def build(target: Path) -> None:
        builder = Builder(target, stand, _LOG)
        builder.build(_TAG, RECIPE, f"--build-arg=BASE={BASE}")
        builder.close()

    inputs = [RECIPE, HERE / "buildah.py", stand.parent.name]
    return artifact("image-monitoring", inputs, build) / "layout"


def pushed(registry: str, stand: Path) -> str:
    """Reference by digest of the image in `registry`, which has it afterwards."""
    return push(layout(stand), _TAG, registry, repository=_TAG, name="latest", log=_LOG)
