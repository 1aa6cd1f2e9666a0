"""The application component alone: `bench:services` small services, one variable of which the benchmark changes."""

import gc
import sys
from pathlib import Path

gc.disable()  # as in the real program
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import pulumi  # noqa: E402
from pulumi_kubernetes.core.v1 import Namespace, Secret  # noqa: E402

from components.application import Application, ApplicationArgs  # noqa: E402
from settings import Application as ApplicationSettings  # noqa: E402
from settings import Command, Ingress, NetworkPeer, Release  # noqa: E402

SERVER = "require('http').createServer((q, s) => s.end('ok')).listen(process.env.PORT)"

gc.freeze()
config = pulumi.Config("bench")
name = config.require("namespace")
namespace = Namespace("namespace", metadata={"name": name})
secret = Secret(
    "secrets",
    metadata={"name": "secrets", "namespace": name},
    opts=pulumi.ResourceOptions(depends_on=[namespace]),
)
service = {
    "command": f'node -e "{SERVER}"',
    "port": 3000,
    "replicas": config.require_int("replicas"),
    "preStopSeconds": 0,
    "env": {"CHANGED": config.require("variable")},
    "probes": {
        "startup": {"path": "/started", "periodSeconds": 1, "failureThreshold": 30},
        "readiness": {"path": "/ready", "periodSeconds": 1},
        "liveness": {"path": "/alive"},
    },
}
count = config.require_int("services")
Application(
    "application",
    ApplicationArgs(
        namespace=name,
        release=Release.model_validate(
            {
                "revision": 2,
                # The update itself: a deploy would rehearse first, which the others have nothing to set against.
                "action": "rollback",
                "rollbackOf": 1,
                "migrate": False,
                "image": config.require("image"),
                "git": "benchmark",
                "schema": {"min": 0, "max": 0, "level": 0},
            }
        ),
        application=ApplicationSettings.model_validate(
            {"services": [{**service, "name": f"web-{number}", "paths": [f"/{number}"]} for number in range(count)]}
        ),
        ingress=Ingress.model_validate({"host": f"{name}.localhost", "className": "traefik"}),
        ingress_controller=NetworkPeer.model_validate(
            {"namespace": "traefik", "podLabels": {"app.kubernetes.io/name": "traefik"}}
        ),
        secret_name="secrets",  # noqa: S106 (a name)
        rehearsal=Command.model_validate({"run": "true"}),
    ),
    opts=pulumi.ResourceOptions(depends_on=[namespace, secret]),
)
