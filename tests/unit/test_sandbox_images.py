"""Images of the sandbox: which package sources are used, and layouts that any OCI tool can read."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

import pytest

from sandbox.images import base, oci, program
from sandbox.images.registry import push
from sandbox.paths import ROOT
from sandbox.ui import SandboxError

STANZAS = """\
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main

Types: deb-src
URIs: http://mirror.example/debian
Suites: bookworm
Components: main

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""
LINES = """\
# deb http://comment.example bookworm main
deb [signed-by=/etc/keys/x.gpg] http://mirror.example/security bookworm-security main contrib
deb http://vendor.example stable main
deb http://vendor.example bookworm-vendor main
"""


def _etc_apt(tmp_path: Path, stanzas: str, lines: str) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(lines)
    (tmp_path / "sources.list.d" / "debian.sources").write_text(stanzas)
    (tmp_path / "sources.list.d" / "old.list.disabled").write_text("deb http://old.example bookworm main\n")
    return tmp_path


def test_only_the_distributions_own_enabled_sources_are_used(tmp_path: Path) -> None:
    found = base.sources("bookworm", _etc_apt(tmp_path, STANZAS, LINES))
    assert "mirror.example/debian" in found
    assert "mirror.example/security bookworm-security" in found
    for foreign in ("deb-src", "off.example", "comment.example", "vendor.example", "old.example"):
        assert foreign not in found


def test_a_machine_without_sources_for_its_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="no source for trixie"):
        base.sources("trixie", _etc_apt(tmp_path, STANZAS, LINES))


def test_the_same_files_give_the_same_image_wherever_and_whenever(tmp_path: Path) -> None:
    assert _image(tmp_path / "one") == _image(tmp_path / "two")


def test_layers_are_shared_and_described_as_the_format_wants(tmp_path: Path) -> None:
    _image(tmp_path / "below")
    above = oci.Layout(tmp_path / "above")
    layers = above.layers_of(tmp_path / "below" / "layout")
    above.image("app", layers, {"User": "10001:10001"})
    blobs = tmp_path / "above" / "blobs" / "sha256"
    manifest = json.loads((blobs / oci.digests(above.path)["app"].removeprefix("sha256:")).read_text())
    config = json.loads((blobs / manifest["config"]["digest"].removeprefix("sha256:")).read_text())
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    assert config["config"]["User"] == "10001:10001"
    with tarfile.open(blobs / layers[0]["digest"].removeprefix("sha256:")) as layer:
        entries = {entry.name: entry for entry in layer}
    assert set(entries) == {"app/run", "app/deep", "app/deep/link"}
    assert entries["app/run"].mode == 0o755
    assert {(entry.uid, entry.mtime) for entry in entries.values()} == {(0, oci.EPOCH)}


def test_programs_are_one_layer_and_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.cache.CACHE", tmp_path / "cache")
    monkeypatch.setattr("sandbox.cache.install_command", None)  # this test builds
    _image(tmp_path / "below")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("operator", "reloader"):
        (programs / name).write_text("a program")
        (programs / name).chmod(0o755)
    made = program.layout(
        [programs], tmp_path / "below" / "layout", {"a": "/usr/bin/operator", "b": "/usr/bin/reloader"}
    )
    blobs, layers = made / "blobs" / "sha256", list[str]()
    for name, digest in oci.digests(made).items():
        manifest = json.loads((blobs / digest.removeprefix("sha256:")).read_text())
        config = json.loads((blobs / manifest["config"]["digest"].removeprefix("sha256:")).read_text())
        assert config["config"]["Entrypoint"] == [{"a": "/usr/bin/operator", "b": "/usr/bin/reloader"}[name]]
        layers += [layer["digest"] for layer in manifest["layers"]]
    assert layers[:2] == layers[2:]
    with tarfile.open(blobs / layers[1].removeprefix("sha256:")) as layer:
        # A folder among them would take the place of the link that /bin is.
        assert {entry.name: entry.isfile() for entry in layer} == {"usr/bin/operator": True, "usr/bin/reloader": True}


def test_a_registry_that_does_not_answer_is_named(tmp_path: Path) -> None:
    _image(tmp_path)
    with pytest.raises(SandboxError, match=r"no registry answers at 127\.0\.0\.1:1"):
        push(tmp_path / "layout", "app", "127.0.0.1:1", "shop", "v1", tmp_path / "log")


def _image(folder: Path) -> dict[str, str]:
    content = folder / "content"
    (content / "deep").mkdir(parents=True)
    (content / "run").write_text("#!/bin/sh\n")
    (content / "run").chmod(0o700)
    (content / "deep" / "link").symlink_to("../run")
    layout = oci.Layout(folder / "layout")
    layer = layout.layer(oci.pack(folder / "layer.tar", [(content, "app")]))
    layout.image("app", [layer], {"Cmd": ["/app/run"]})
    return oci.digests(layout.path)


def pins(file: str) -> dict[str, str]:
    lines = re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", (ROOT / file).read_text(), re.MULTILINE)
    return dict(lines)


@pytest.mark.parametrize(
    ("image", "needed"),
    [
        ("tasks", {"boto3", "prometheus-client", "psycopg", "pyrage"}),
        ("controller", {"pulumi", "pulumi-kubernetes", "lightkube", "prometheus-client", "pydantic"}),
    ],
)
def test_an_image_has_the_packages_that_were_tested(image: str, needed: set[str]) -> None:
    """Each of its pins is the lock's: what passes the tests is what runs in pods."""

    pinned, tested = pins(f"images/{image}/requirements.txt"), pins("requirements.lock")
    assert needed <= set(pinned)
    assert pinned.items() <= tested.items()


def test_the_controllers_engine_has_the_version_of_its_package() -> None:
    """`make lock` may choose a newer package; the engine of the image follows by hand."""
    dockerfile = (ROOT / "images" / "controller" / "Dockerfile").read_text()
    engine = re.search(r"^ARG ENGINE=\S+:(\S+)$", dockerfile, re.MULTILINE)
    assert engine
    assert engine[1] == pins("images/controller/requirements.txt")["pulumi"]
