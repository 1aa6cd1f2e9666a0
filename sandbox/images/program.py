"""Images of programs that were built here: one layer on top of another image, one name per entry point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sandbox.cache import artifact
from sandbox.images import oci
from sandbox.images.registry import push
from sandbox.paths import LOGS

HERE = Path(__file__).resolve().parent
PROGRAMS = "/usr/bin"
"""Where the Prometheus Operator expects its reloader, too."""
_LOG = LOGS / "images.log"


def layout(programs: Sequence[Path], below: Path, entry_points: Mapping[str, str]) -> Path:
    """OCI layout of one image for each of `entry_points` (name → program), on top of the image of layout `below`."""

    def build(target: Path) -> None:
        images = oci.Layout(target / "layout")
        layers = images.layers_of(below)
        layers.append(
            images.layer(oci.pack(target / "programs.tar", [(folder, PROGRAMS.lstrip("/")) for folder in programs]))
        )
        for name, program in entry_points.items():
            images.image(name, layers, {"User": "10001:10001", "Entrypoint": [program]})

    made_of = [f"{folder.parent.name}/{folder.name}" for folder in (*programs, below.parent)]
    inputs = [HERE / "program.py", HERE / "oci.py", *made_of, repr(sorted(entry_points.items()))]
    return artifact("image-programs", inputs, build) / "layout"


def push_all(registry: str, made: Path) -> dict[str, str]:
    """Name → reference by digest of each image of a layout; `registry` has them afterwards."""
    return {name: push(made, name, registry, repository=name, name="latest", log=_LOG) for name in oci.digests(made)}
