"""The images the sandbox runs: data services, tasks, monitoring, the rollback controller and every release of the shop
and of the guestbook, built with no image hub."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sandbox import ui
from sandbox.cache import artifact
from sandbox.images import base, controller, guestbook, lighthouse, monitoring, oci, shop, tasks
from sandbox.images.buildah import Builder
from sandbox.images.registry import push
from sandbox.paths import CACHE, LOGS
from sandbox.toolchain import Toolchain

HERE = Path(__file__).resolve().parent
LOG = LOGS / "images.log"

ALL = (
    "image-base",
    "image-data",
    "image-node",
    "shop-application",
    "image-shop",
    "image-guestbook-python",
    "image-guestbook",
    "image-tasks-programs",
    "image-tasks",
    "image-monitoring",
    "image-controller-python",
    "image-controller-engine",
    "image-controller",
)
"""What `build_all` makes, under its names in the cache."""


def build_all(
    running: Callable[[], str], tools: Callable[[], Toolchain] | None, *, measures_pages: bool = False
) -> dict[str, str]:
    """Build what is not built yet, push what the registry does not have, and return name → reference by digest.

    `running` gives the registry's address, and is asked once everything is built: most of the building waits for
    downloads, and so begins before there is a cluster.

    Names are `postgres`, `redis`, `tasks`, `monitoring`, `controller`, `shop:v1` … `shop:v10-late-unhealthy` and
    `guestbook:v1` ….
    `tools` is asked for the engine that the controller's image contains, once every other image is built; without it,
    there are no images of monitoring and controller. `measures_pages`: also `lighthouse`, of 1.3 GB.
    """
    with ThreadPoolExecutor() as pool:
        # npm and the Debian base do not need each other.
        application = pool.submit(shop.application, LOG)
        stand = build_base()
        watching = pool.submit(monitoring.layout, stand, LOG) if tools else None
        below = pool.submit(controller.python, stand, LOG) if tools else None
        data = build_data(stand)
        layouts = [(data, tag) for tag in oci.digests(data)]
        layouts.append((tasks.layout(stand, LOG), "tasks"))
        if measures_pages:
            layouts.append((lighthouse.layout(stand, LOG), "lighthouse"))
        second = pool.submit(guestbook.layout, stand, LOG)
        releases = {"shop": shop.layout(stand, application.result(), LOG), "guestbook": second.result()}
        if tools and watching and below:
            layouts.append((watching.result(), "monitoring"))
            layouts.append((controller.layout(below.result(), tools(), LOG), "controller"))
    images = {}
    registry = running()
    with ui.step(f"push images to {registry}"):
        for layout, tag in layouts:
            images[tag] = push(layout, tag, registry, repository=tag, name="latest", log=LOG)
        for name, layout in releases.items():
            for tag in oci.digests(layout):
                images[f"{name}:{tag}"] = push(layout, tag, registry, repository=name, name=tag, log=LOG)
    return images


def list_unbuilt() -> list[str]:
    """What of the images was never built on this machine."""
    return [name for name in ALL if not (CACHE / name).is_dir()]


def build_base() -> Path:
    """OCI layout of the base image."""
    inputs = [HERE / "base.py", HERE / "oci.py", base.codename()]
    return artifact("image-base", inputs, lambda target: base.build(target, LOG)) / "layout"


def build_data(stand: Path) -> Path:
    """OCI layout of PostgreSQL and Redis."""
    folders = [HERE / "postgres", HERE / "redis"]

    def build(target: Path) -> None:
        builder = Builder(target, stand, LOG)
        for folder in folders:
            with ui.step(f"build image {folder.name}"):
                builder.build(folder.name, folder)
        builder.close()

    inputs = [*folders, HERE / "buildah.py", stand.parent.name]
    return artifact("image-data", inputs, build) / "layout"
