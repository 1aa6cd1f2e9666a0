"""What is built, from which folder, under which names; versions come from the go.mod files and the SDKs."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from sandbox import ui
from sandbox.cache import artifact
from sandbox.paths import CACHE
from sandbox.toolchain.gobuild import Part, build, module_path, module_version
from sandbox.toolchain.languages import HERE

PLUGINS = {"kubernetes": "kubernetes/provider-kubernetes", "random": "random", "command": "provider-command"}
"""Providers the program uses → the folder each is built from where the official release cannot be downloaded."""

_SHARED = HERE / "kubernetes"
"""One module, and so one version of each dependency, for what has most of them in common: each is compiled once."""

_KUBERNETES_PROVIDER = "github.com/pulumi/pulumi-kubernetes/provider/v4"
_EMBEDDED = {
    "kubernetes": {
        file: (_KUBERNETES_PROVIDER, f"cmd/pulumi-resource-kubernetes/{file}")
        for file in ("schema.json", "terraform-mapping.json")
    }
}
_REPLACED = {
    "kubernetes": {"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/yaml/v2/kinds.go": "_trimmed/kinds.go"},
    "random": {"github.com/hashicorp/go-getter/get_gcs.go": "_trimmed/get_gcs.go"},
    "prometheus": {"github.com/prometheus/prometheus/plugins/plugins.go": "_trimmed/plugins.go"},
}
ENGINE = "github.com/pulumi/pulumi/pkg/v3"
_NO_CLOUDS = {
    f"{ENGINE}/secrets/cloud": "_trimmed/cloud.go",
    f"{ENGINE}/authhelpers": "_trimmed/authhelpers.go",
    f"{ENGINE}/operations/operations_aws.go": "_trimmed/operations_aws.go",
    f"{ENGINE}/operations/operations_gcp.go": "_trimmed/operations_gcp.go",
    "gocloud.dev/blob/azureblob": "_trimmed/azureblob.go",
    "gocloud.dev/blob/gcsblob": "_trimmed/gcsblob.go",
}
"""The engine keeps its state in files or on S3, and encrypts by passphrase: a fifth of it is for other clouds."""

_KUBERNETES = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
)


def engine_part() -> Part:
    folder = HERE / "pulumi"
    return Part(
        folder=folder,
        programs={"pulumi": f"{ENGINE}/cmd/pulumi"},
        variables={"github.com/pulumi/pulumi/sdk/v3/go/common/version.Version": module_version(folder, ENGINE)},
        replaced=_NO_CLOUDS,
    )


def language_part() -> Part:
    host, sdk = "pulumi-language-python", "github.com/pulumi/pulumi/sdk/v3"
    return Part(
        folder=HERE / "language-python",
        programs={f"{host}-host": f"{sdk}/python/cmd/{host}"},
        copies={f"{host}-program": (sdk, f"python/cmd/{host}-exec")},
        scripts={
            host: "host.sh",
            f"{host}-exec": "exec.py",
            f"{host}-interpreter": "interpreter.sh",
            f"{host}-packages": "packages.py",
        },
    )


def plugin_part(plugin: str) -> Part:
    folder, _, within = PLUGINS[plugin].partition("/")
    return Part(
        folder=HERE / folder,
        within=within,
        programs={f"pulumi-resource-{plugin}": "."},
        variables={"main.version": plugin_version(plugin)},
        embedded=_EMBEDDED.get(plugin, {}),
        replaced=_REPLACED.get(plugin, {}),
    )


def plugin_version(plugin: str) -> str:
    """The version the installed Python SDK asks the engine for: what is built here must answer to it."""
    try:
        return metadata.version(f"pulumi-{plugin}")
    except metadata.PackageNotFoundError as error:
        raise ui.SandboxError(
            f"the Python package pulumi-{plugin} is not installed for this Python; run ./sandbox/bootstrap "
            f"and use .venv/bin/python"
        ) from error


def cluster_part() -> Part:
    version = module_version(_SHARED, "k8s.io/kubernetes")
    major, minor, _ = version.removeprefix("v").split(".")
    stamp = "k8s.io/component-base/version"
    return Part(
        folder=_SHARED,
        within="cluster",
        programs={"kubernetes": "."},
        variables={f"{stamp}.gitVersion": version, f"{stamp}.gitMajor": major, f"{stamp}.gitMinor": minor},
    )


def node_part(name: str) -> Part:
    """One of the node's programs beside Kubernetes."""
    return Part(folder=_SHARED, within=name, programs={name: "."})


def build_cluster_binaries() -> Path:
    """A folder with every program a cluster node runs that Debian does not package."""
    kubernetes = build(cluster_part()) / "kubernetes"
    programs: dict[str, Path] = dict.fromkeys(_KUBERNETES, kubernetes)  # it acts by the name it is called
    for name in ("coredns", "kube-router"):
        programs[name] = build(node_part(name)) / name
    return link_programs("cluster-bin", programs)


def build_helm() -> Path:
    """Helm's program; only the benchmarks compare with it."""
    part = Part(
        folder=_SHARED,
        label="helm",
        programs={"helm": "helm.sh/helm/v3/cmd/helm"},
        variables={"helm.sh/helm/v3/internal/version.version": module_version(_SHARED, "helm.sh/helm/v3")},
    )
    return build(part) / "helm"


def build_kube_score() -> Path:
    """The linter kube-score; only the tests run it."""
    part = Part(folder=HERE / "kube-score", programs={"kube-score": "github.com/zegl/kube-score/cmd/kube-score"})
    return build(part) / "kube-score"


def build_actionlint() -> Path:
    """The linter of workflows; only the tests run it."""
    part = Part(folder=HERE / "actionlint", programs={"actionlint": "github.com/rhysd/actionlint/cmd/actionlint"})
    return build(part) / "actionlint"


PEERS = {
    "flagger": {"flagger": "github.com/fluxcd/flagger/cmd/flagger"},
    "argo-rollouts": {"rollouts-controller": "github.com/argoproj/argo-rollouts/cmd/rollouts-controller"},
    "prometheus-operator": {
        name: f"github.com/prometheus-operator/prometheus-operator/cmd/{name}"
        for name in ("operator", "prometheus-config-reloader", "admission-webhook")
    },
    "prometheus": {"prometheus": "github.com/prometheus/prometheus/cmd/prometheus"},
    "gateway-api": {},
}
"""Folder → programs of controllers that users run beside or instead of ours, by package. Only benchmarks and one test
ask for them. `gateway-api` has no program: its definitions are read from its module."""


def peer_part(name: str) -> Part:
    return Part(folder=HERE / name, programs=PEERS[name], replaced=_REPLACED.get(name, {}))


def build_peer(name: str) -> Path:
    """The folder with a peer's programs."""
    return build(peer_part(name))


def find_peer_file(name: str, module: str, path: str) -> Path:
    """A file or folder of the Go module that a peer's go.mod pins, such as its custom resource definitions."""
    return module_path(peer_part(name), module, path)


def link_programs(name: str, programs: Mapping[str, Path]) -> Path:
    """A folder for PATH with programs that lie elsewhere in the cache or on the machine."""

    def link(target: Path) -> None:
        for program, source in programs.items():
            if source.is_relative_to(CACHE):
                # A hard link: the engine looks for its language host beside the file it really is.
                (target / program).hardlink_to(source)
            else:
                (target / program).symlink_to(source)

    return artifact(name, [f"{program} is {source}" for program, source in sorted(programs.items())], link)
