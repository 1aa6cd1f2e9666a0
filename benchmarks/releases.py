"""The same change three ways: one changed variable over two replicas, and back.

The objects are identical: kubectl and Helm get the manifests that our program wrote, in namespaces of their own.
"""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.stack import Bench, bench, image
from benchmarks.timing import Series, in_turn, ratios, run
from sandbox import toolchain

Manifests = list[dict[str, Any]]


def moved(manifests: Manifests, namespace: str) -> Manifests:
    """The same objects in another namespace (and on another host, for the ingress)."""
    text = json.dumps(copy.deepcopy(manifests)).replace("bench-pulumi", namespace)
    return json.loads(text)


def write_chart(folder: Path, manifests: Manifests) -> Path:
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text("apiVersion: v2\nname: bench\nversion: 1.0.0\n")
    for number, manifest in enumerate(manifests):
        (folder / "templates" / f"{number}.yaml").write_text(json.dumps(manifest))
    return folder


def write_list(file: Path, manifests: Manifests) -> Path:
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))
    return file


def rendered(stack: Bench, variable: str) -> Manifests:
    configure(stack, variable)
    stack.up()
    return stack.manifests()


def configure(stack: Bench, variable: str) -> None:
    stack.set(namespace="bench-pulumi", image=image(), services=1, replicas=2, variable=variable)


def prepare_namespace(name: str) -> None:
    run(["kubectl", "create", "namespace", name])
    run(["kubectl", "create", "secret", "generic", "secrets", "--namespace", name])


def measure(runs: int) -> dict[str, Any]:
    helm = str(toolchain.build_helm())
    with bench("releases") as stack, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        versions = [rendered(stack, "one"), rendered(stack, "two")]
        try:
            for name in ("bench-helm", "bench-kubectl"):
                prepare_namespace(name)
            charts = [
                write_chart(folder / f"chart-{number}", moved(manifests, "bench-helm"))
                for number, manifests in enumerate(versions)
            ]
            lists = [
                write_list(folder / f"list-{number}.json", moved(manifests, "bench-kubectl"))
                for number, manifests in enumerate(versions)
            ]
            run([helm, "install", "bench", str(charts[1]), "--namespace", "bench-helm", "--wait"])
            kubectl_apply(lists[1])

            def helm_upgrade(turn: int) -> None:
                run([helm, "upgrade", "bench", str(charts[turn % 2]), "--namespace", "bench-helm", "--wait"])

            def pulumi_up(turn: int) -> None:
                configure(stack, ["one", "two"][turn % 2])
                stack.up()

            update = in_turn(
                {
                    "pulumi up": pulumi_up,
                    "helm upgrade": helm_upgrade,
                    "kubectl": lambda turn: kubectl_apply(lists[turn % 2]),
                },
                runs,
            )

            def helm_rollback(_turn: int) -> None:
                run([helm, "rollback", "bench", "--namespace", "bench-helm", "--wait"])

            back = in_turn({"pulumi up": lambda turn: pulumi_up(turn + runs + 1), "helm rollback": helm_rollback}, runs)
        finally:
            for name in ("bench-helm", "bench-kubectl"):
                run(["kubectl", "delete", "namespace", name, "--ignore-not-found"])
    return {"update_vs_helm": result(update), "rollback_vs_helm": result(back)}


def kubectl_apply(manifests: Path) -> None:
    run(["kubectl", "apply", "--server-side", "--filename", str(manifests)])
    run(["kubectl", "rollout", "status", "deployment/web-0", "--namespace", "bench-kubectl"])


def result(taken: dict[str, Series]) -> dict[str, Any]:
    return {
        "what": "one changed variable, two replicas, identical objects; wall time of the whole command",
        "seconds": {name: series.to_json() for name, series in taken.items()},
        "ratios": ratios(taken, "pulumi up"),
    }
