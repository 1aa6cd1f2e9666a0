"""The parts of the sandbox's cluster that need no cluster: certificates, ports, packages, refusals, helpers."""

from __future__ import annotations

import datetime
import json
import socket
import ssl
import tarfile
from pathlib import Path

import pytest
from cryptography import x509

from sandbox import packages
from sandbox.cluster import config, helpers, host, layout, pki, ports, programs
from sandbox.ui import SandboxError


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own."""
    for name in ("CONF", "PKI", "KUBECONFIGS", "MANIFESTS", "NODE_DATA", "PORTS", "KUBECONFIG", "CA"):
        monkeypatch.setattr(layout, name, tmp_path / getattr(layout, name).name)
    return tmp_path


def certificate(name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((layout.PKI / f"{name}.crt").read_bytes())


def test_certificates_are_made_once_and_fit_their_authority(state: Path) -> None:
    pki.ensure()
    made = {path.name: path.read_bytes() for path in layout.PKI.iterdir()}
    for leaf in pki.LEAVES:
        certificate(leaf.name).verify_directly_issued_by(certificate(leaf.authority))
    assert layout.CA.read_bytes() == made["ingress-ca.crt"]
    assert not [name for name in made if name.endswith(".key") and (layout.PKI / name).stat().st_mode & 0o077]
    pki.ensure()
    assert {path.name: path.read_bytes() for path in layout.PKI.iterdir()} == made


def test_openssl_accepts_the_ingress_certificate_by_its_name(state: Path) -> None:
    pki.ensure()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(layout.PKI / "ingress.crt", layout.PKI / "ingress.key")
    client = ssl.create_default_context(cafile=str(layout.CA))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(incoming, outgoing, server_hostname="shop.localhost")
    far = server.wrap_bio(outgoing, incoming, server_side=True)
    for side in (near, far, near):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert near.getpeercert()


def test_a_certificate_is_made_anew_before_it_expires(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pki, "_LEAF_LIFE", datetime.timedelta(days=29))
    pki.ensure()
    old = {leaf.name: certificate(leaf.name).serial_number for leaf in pki.LEAVES}
    authority = certificate("cluster-ca").serial_number
    monkeypatch.setattr(pki, "_LEAF_LIFE", datetime.timedelta(days=365))
    pki.ensure()
    assert all(certificate(name).serial_number != serial for name, serial in old.items())
    assert certificate("cluster-ca").serial_number == authority


def test_a_certificate_cut_off_half_way_is_made_anew(state: Path) -> None:
    pki.ensure()
    file = layout.PKI / "admin.crt"
    file.write_bytes(file.read_bytes()[:100])
    pki.ensure()
    certificate("admin").verify_directly_issued_by(certificate("cluster-ca"))


def test_ports_that_something_else_took_are_replaced_and_then_stay(state: Path) -> None:
    first = ports.choose()
    assert ports.choose() == first == ports.read_recorded()
    with socket.socket() as other:
        other.bind(("127.0.0.1", first.api))
        other.listen()
        second = ports.choose()
        assert second.api != first.api
        assert (second.registry, second.http, second.https) == (first.registry, first.http, first.https)
        assert ports.read_recorded() == second
    assert ports.choose() == second, "what was chosen once stays, so that addresses do too"


def test_a_broken_ports_file_is_named(state: Path) -> None:
    layout.PORTS.write_text('{"api": 1, "nonsense": 2}')
    with pytest.raises(SandboxError, match=r"ports\.json.*nonsense"):
        ports.choose()


def test_missing_packages_are_named_where_they_cannot_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    present = {"there-already": "sh"}
    missing = {"libexample": "no-such-program", "other-package": "nor-this-one"}
    packages.ensure(present)
    monkeypatch.setattr(packages.os, "geteuid", lambda: 1000)
    with pytest.raises(SandboxError, match="libexample other-package"):
        packages.ensure(present, missing)


@pytest.mark.parametrize(
    ("platform", "user", "said"),
    [("darwin", 0, "needs Linux; this is darwin"), ("linux", 1000, "needs root")],
)
def test_a_machine_that_cannot_host_a_node_names_what_to_use(
    platform: str, user: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host.sys, "platform", platform)
    monkeypatch.setattr(host.os, "geteuid", lambda: user)
    with pytest.raises(SandboxError, match=rf"{said}.*KUBECONFIG"):
        host.check()


def test_only_a_kubeconfig_of_the_users_own_is_found(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert host.find_kubeconfig() is None
    monkeypatch.setenv("KUBECONFIG", str(layout.KUBECONFIG))
    assert host.find_kubeconfig() is None
    monkeypatch.setenv("KUBECONFIG", str(state / "elsewhere"))
    assert host.find_kubeconfig() == state / "elsewhere"


def test_every_template_is_filled_and_nothing_changes_without_cause(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "require", lambda name: f"/usr/bin/{name}")
    pki.ensure()
    built = helpers.Helpers(*(state / name for name in ("etcd", "forwarder", "provisioner", "pause.tar")))
    inputs = config.Inputs(binaries=state, helpers=built, ports=ports.Ports())
    supervisor = programs.supervisor_config(programs.table(inputs))
    assert config.write(inputs, supervisor)
    assert not config.write(inputs, supervisor), "the second time nothing is new"
    written = [path for folder in (layout.CONF, layout.MANIFESTS) for path in folder.rglob("*") if path.is_file()]
    for path in written:
        assert "$" not in path.read_text(), f"{path.name} has a placeholder left"
    conf = [layout.CONF / name for name in ("encryption.yaml", "s3.json", "supervisord.conf")]
    for key in (*conf, layout.KUBECONFIG, layout.MANIFESTS / "ingress.yaml"):
        assert key.stat().st_mode & 0o077 == 0, f"{key.name} holds a key"
    assert json.loads(layout.KUBECONFIG.read_text())["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:16443"


def test_the_s3_server_keeps_its_keys_secret_and_listens_where_it_must(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are in files and variables, not in a command line; its inner parts stay on the loopback."""
    monkeypatch.setattr(packages, "require", lambda name: f"/usr/bin/{name}")
    built = helpers.Helpers(*(state / name for name in ("etcd", "forwarder", "provisioner", "pause.tar")))
    pki.ensure()
    inputs = config.Inputs(binaries=state, helpers=built, ports=ports.Ports())
    (server,) = [program for program in programs.table(inputs) if program.name == "s3"]
    line = " ".join(server.command)
    for name in ("s3-access", "s3-secret", "s3-encryption"):
        key = (layout.PKI / f"{name}.key").read_text()
        assert key.isalnum(), f"{name}: a slash would end the key's name in a signed request"
        assert key not in line
    assert server.environment["WEED_S3_SSE_KEK"] == (layout.PKI / "s3-encryption.key").read_text()
    assert {"-ip.bind=127.0.0.1", f"-s3.ip.bind={layout.NODE_IP}"} <= set(server.command)
    assert "-master.telemetry=false" in server.command


def test_the_pause_image_is_an_oci_image(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"program")
    helpers._pack(program, tmp_path / "image.tar")
    with tarfile.open(tmp_path / "image.tar") as archive:

        def blob(descriptor: dict[str, str]) -> bytes:
            file = archive.extractfile(f"blobs/{descriptor['digest'].replace(':', '/')}")
            assert file is not None
            return file.read()

        index = archive.extractfile("index.json")
        assert index is not None
        (entry,) = json.load(index)["manifests"]
        manifest = json.loads(blob(entry))
        assert json.loads(blob(manifest["config"]))["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]
        assert b"program" in blob(manifest["layers"][0])
