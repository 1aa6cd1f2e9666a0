"""The sandbox's foundation: which cluster and engine are chosen, why, and by which commands they are made."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from sandbox import cluster
from sandbox.cluster import choice, kind, layout, ports
from sandbox.cluster.choice import Choice
from sandbox.toolchain import engine
from sandbox.ui import SandboxError


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder, a PATH without programs, and nothing in the environment."""
    folder = tmp_path / "state"
    folder.mkdir()
    for name, path in (("STATE", folder), ("KUBECONFIG", folder / "kubeconfig"), ("PORTS", folder / "ports.json")):
        monkeypatch.setattr(layout, name, path)
    monkeypatch.setattr(kind, "_MARK", folder / "kind")
    monkeypatch.setattr(cluster, "STATE", folder)
    for name in ("KUBECONFIG", "SANDBOX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    choice.choose.cache_clear()
    return folder


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str, str], None]:
    """Makes programs that note how they are called, and then do what they are given."""

    def make(name: str, body: str = "") -> None:
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        note = f'echo "{name} $*" >>{tmp_path}/calls\n'
        file.write_text(f"#!/bin/sh\nPATH={os.defpath}\n{note}{textwrap.dedent(body)}")
        file.chmod(0o755)

    return make


def chosen() -> Choice:
    choice.choose.cache_clear()
    return choice.choose()


# --- the cluster ---


def test_a_bare_machine_builds_its_node_and_says_why(state: Path, program: Callable[..., None]) -> None:
    assert chosen() == Choice("build", "KUBECONFIG is not set and no docker on PATH")
    program("docker")
    assert chosen().why.endswith("no kind on PATH")
    program("k3d")
    assert "k3d is here: with a cluster of it, set KUBECONFIG" in chosen().why


def test_kind_is_used_where_docker_answers(state: Path, program: Callable[..., None]) -> None:
    for name in ("docker", "kind", "kubectl"):
        program(name)
    assert chosen().kind == "kind"
    program("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    assert chosen() == Choice(
        "build", "KUBECONFIG is not set and Docker does not answer: Cannot connect to the Docker daemon"
    )


def test_a_cluster_that_is_there_comes_first(
    state: Path, program: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("docker", "kind", "kubectl"):
        program(name)
    path = os.environ["PATH"]
    layout.KUBECONFIG.touch()
    assert chosen() == Choice("build", "this sandbox is one already"), "a sandbox stays what it is"
    kind._MARK.touch()
    monkeypatch.setenv("PATH", "")
    assert chosen() == Choice("kind", "this sandbox is one already"), "also while Docker is away"
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("KUBECONFIG", "/elsewhere")
    assert chosen() == Choice("existing", "KUBECONFIG=/elsewhere is set")
    monkeypatch.setenv("SANDBOX", "build")
    assert chosen().kind == "build"
    monkeypatch.setenv("SANDBOX", "kind")
    assert chosen().kind == "kind"


@pytest.mark.parametrize(
    ("wanted", "refused"),
    [
        ("existing", "KUBECONFIG names no cluster"),
        ("kind", "SANDBOX=kind, but no docker on PATH"),
        ("k8s", "build, kind or existing"),
    ],
)
def test_what_cannot_be_is_refused(state: Path, wanted: str, refused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX", wanted)
    with pytest.raises(SandboxError, match=refused):
        chosen()


@pytest.fixture
def with_kind(state: Path, program: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fakes of Docker, kind and kubectl that remember what was made; ports as they are on a quiet machine."""
    monkeypatch.setattr(ports, "_is_free", lambda port: True)
    program(
        "kind",
        f"""
        case "$1 $2" in
        "get clusters") cat {state}/made 2>/dev/null || true ;;
        "get nodes") echo {kind.NAME}-control-plane ;;
        "create cluster") echo {kind.NAME} >{state}/made ;;
        esac
        """,
    )
    program(
        "docker",
        f"""
        case "$1" in
        ps) cat {state}/registries 2>/dev/null || true ;;
        run) echo {kind.NAME}-registry >{state}/registries ;;
        exec) if [ "$2" = --interactive ]; then cat >{state}/hosts.toml; fi ;;
        esac
        """,
    )
    program("kubectl")
    monkeypatch.setenv("SANDBOX", "kind")
    return state


def calls(tmp_path: Path) -> list[str]:
    lines = (tmp_path / "calls").read_text().splitlines()
    (tmp_path / "calls").unlink()
    return [line for line in lines if line != "docker info"]


def test_the_commands_that_make_a_cluster_of_kinds_and_end_it(with_kind: Path, tmp_path: Path) -> None:
    made = cluster.up()
    assert (made.registry, made.http, made.https) == (
        "localhost:15000",
        "http://localhost:18080",
        "https://localhost:18443",
    )
    assert made.kubeconfig == layout.KUBECONFIG
    assert made.s3 is None
    name, kubectl = kind.NAME, f"kubectl --kubeconfig={layout.KUBECONFIG}"
    folder = "/etc/containerd/certs.d/localhost:15000"
    assert calls(tmp_path) == [
        "kind get clusters",
        f"kind create cluster --name={name} --config={with_kind}/kind.yaml --wait=120s "
        f"--kubeconfig={layout.KUBECONFIG}",
        "docker ps --format={{.Names}}",
        f"docker run --detach --restart=always --name={name}-registry --network=kind "
        "--publish=127.0.0.1:15000:5000 registry:2",
        f"kind get nodes --name={name}",
        f"docker exec {name}-control-plane mkdir --parents {folder}",
        f"docker exec --interactive {name}-control-plane cp /dev/stdin {folder}/hosts.toml",
        f"{kubectl} apply --server-side --force-conflicts --filename={with_kind}/kind-ingress.yaml",
        f"{kubectl} --namespace=traefik rollout status deployment/traefik --timeout=180s",
    ]
    assert (with_kind / "hosts.toml").read_text() == f'[host."http://{name}-registry:5000"]\n'

    cluster.up()
    assert not [line for line in calls(tmp_path) if " create " in line or " run " in line], "what is there stays"

    kind.down()
    assert calls(tmp_path) == [f"kind delete cluster --name={name}", f"docker rm --force --volumes {name}-registry"]


def test_a_cluster_of_kinds_answers_where_our_own_node_does(with_kind: Path) -> None:
    cluster.up()
    config = yaml.safe_load((with_kind / "kind.yaml").read_text())
    forwarded = {entry["containerPort"]: entry["hostPort"] for entry in config["nodes"][0]["extraPortMappings"]}
    objects = list(yaml.safe_load_all((with_kind / "kind-ingress.yaml").read_text()))
    (service,) = [item for item in objects if item["kind"] == "Service" and item["spec"].get("clusterIP") != "None"]
    outside = {port["name"]: forwarded[port["nodePort"]] for port in service["spec"]["ports"]}
    assert outside == {"web": 18080, "websecure": 18443}
    (deployment,) = [item for item in objects if item["kind"] == "Deployment"]
    spec = deployment["spec"]["template"]["spec"]
    assert {mount["name"] for mount in spec["containers"][0]["volumeMounts"]} == {
        item["name"] for item in spec["volumes"]
    }
    assert "$" not in (with_kind / "kind-ingress.yaml").read_text(), "nothing of the node's template is left unfilled"


def test_a_cluster_that_kind_cannot_make_is_reported_with_a_remedy(
    with_kind: Path, program: Callable[..., None]
) -> None:
    program("kind", 'if [ "$1" = create ]; then echo "no image" >&2; exit 1; fi')
    with pytest.raises(SandboxError, match=r"(?s)no image.*SANDBOX=build"):
        cluster.up()


# --- the engine ---


@pytest.fixture
def installer(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Automation API's own installer, with a script of ours in the place of the one it downloads."""
    script = tmp_path / "install.sh"
    script.write_text(
        textwrap.dedent(f"""\
        #!/bin/sh
        PATH={os.defpath}
        echo "$*" >>{tmp_path}/installs
        mkdir -p "$3/bin"
        [ -e {tmp_path}/broken ] && exit 1
        for name in pulumi pulumi-language-python pulumi-language-python-exec; do
            printf '#!/bin/sh\\necho v%s\\n' "$5" >"$3/bin/$name" && chmod +x "$3/bin/$name"
        done
        """)
    )
    (tmp_path / "sitecustomize.py").write_text(
        f"import urllib.request\nurllib.request.urlopen = lambda url: open({str(script)!r}, 'rb')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(engine, "_DOWNLOADED", tmp_path / "official-engine")
    monkeypatch.setattr(engine, "_reachable", lambda host: True)
    monkeypatch.setattr(engine, "is_built", lambda part: False)
    return tmp_path


def test_the_official_engine_is_installed_by_automation_api_once(installer: Path) -> None:
    found, why = engine.choose_engine()
    assert found is not None
    assert [file.name for file in found] == ["pulumi", "pulumi-language-python", "pulumi-language-python-exec"]
    assert all(file.exists() for file in found)
    assert "no pulumi on PATH; using the official one" in why
    (line,) = (installer / "installs").read_text().splitlines()
    assert line.startswith("--no-edit-path --install-root ")
    assert line.endswith(" --version 3.256.0")
    engine.choose_engine()
    assert len((installer / "installs").read_text().splitlines()) == 1
    assert engine.list_unbuilt() == []


def test_an_engine_that_cannot_be_downloaded_is_built_and_half_of_it_is_not_left(installer: Path) -> None:
    (installer / "broken").touch()
    assert engine.choose_engine() == (
        None,
        "no pulumi on PATH; the official one cannot be downloaded, so it is built here",
    )
    assert (installer / "installs").exists()
    assert not (installer / "official-engine").exists() or not list((installer / "official-engine").iterdir())
    assert "pulumi" in engine.list_unbuilt()


def test_nothing_is_downloaded_where_it_was_built_or_is_to_be(installer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX", "build")
    assert engine.choose_engine() == (None, "no pulumi on PATH; SANDBOX=build has it compiled")
    monkeypatch.delenv("SANDBOX")
    monkeypatch.setattr(engine, "is_built", lambda part: True)
    assert engine.choose_engine()[0] is None
    assert not (installer / "installs").exists()


def test_a_host_that_refuses_is_not_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: tuple[str, int], timeout: float) -> None:
        raise OSError(f"{address}: no route")

    monkeypatch.setattr(engine.socket, "create_connection", refuse)
    assert not engine._reachable("example.invalid")
