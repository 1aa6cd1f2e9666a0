"""The programs of the node and how the supervisor keeps them running."""

from __future__ import annotations

import configparser
import io
import resource
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

from sandbox import packages
from sandbox.cluster import layout
from sandbox.cluster.config import Inputs, find_beside_python
from sandbox.paths import LOGS

CONTROL_SOCKET = "/run/supervisor.sock"
"""Inside the node, whose /run is its own."""


@dataclass(frozen=True)
class Program:
    name: str
    command: list[str]
    needs_api: bool = False
    """Started once the API server answers; before that it would only fail and back off."""
    environment: dict[str, str] = field(default_factory=dict)


def table(inputs: Inputs) -> list[Program]:
    pki, conf, ports = layout.PKI, layout.CONF, inputs.ports

    def kubernetes(name: str, *arguments: str) -> list[str]:
        return [str(inputs.binaries / name), *arguments]

    def kubeconfig(name: str) -> str:
        return f"--kubeconfig={layout.KUBECONFIGS / name}"

    def manager(name: str) -> list[str]:
        file = layout.KUBECONFIGS / name
        return [
            kubeconfig(name),
            f"--authentication-kubeconfig={file}",
            f"--authorization-kubeconfig={file}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
        ]

    routes = {
        ports.api: f"{layout.NODE_IP}:{ports.api}",
        ports.registry: f"127.0.0.1:{ports.registry}",
        ports.http: f"{layout.INGRESS_IP}:80",
        ports.https: f"{layout.INGRESS_IP}:443",
        ports.s3: f"{layout.NODE_IP}:{layout.S3_PORT}",
        # Network policies never block the node.
        ports.prometheus: f"prometheus.{layout.NAMESPACE}.svc.cluster.local.:9090",
        ports.alertmanager: f"alertmanager.{layout.NAMESPACE}.svc.cluster.local.:9093",
    }
    return [
        Program(
            "etcd",
            [
                str(inputs.helpers.etcd),
                "--data-dir=/var/lib/etcd",
                "--listen-client-urls=http://127.0.0.1:2379",
                "--advertise-client-urls=http://127.0.0.1:2379",
                "--listen-peer-urls=http://127.0.0.1:2380",
                "--unsafe-no-fsync",  # what a power cut spoils here is made again
                "--log-level=warn",
            ],
        ),
        Program("containerd", [packages.require("containerd"), f"--config={conf / 'containerd.toml'}"]),
        Program("registry", [packages.require("docker-registry"), "serve", str(conf / "registry.yaml")]),
        Program(
            "s3",
            _s3(),
            environment={
                "HOME": "/run/s3",
                # Without it, it cannot encrypt at rest, and refuses what is sent into a bucket that wants that.
                "WEED_S3_SSE_KEK": (layout.PKI / "s3-encryption.key").read_text(),
            },
        ),
        Program(
            "slack",
            [sys.executable, str(Path(__file__).with_name("slack.py")), layout.NODE_IP, str(layout.SLACK_PORT)],
        ),
        Program(
            "forwarder",
            [
                str(inputs.helpers.forwarder),
                "--listen-netns=/run/host-netns",
                f"--dns={layout.DNS_IP}:53",
                *(f"127.0.0.1:{port}={target}" for port, target in routes.items()),
            ],
        ),
        Program(
            "kube-apiserver",
            kubernetes(
                "kube-apiserver",
                "--etcd-servers=http://127.0.0.1:2379",
                "--bind-address=0.0.0.0",
                f"--secure-port={ports.api}",
                f"--advertise-address={layout.NODE_IP}",
                f"--service-cluster-ip-range={layout.SERVICE_CIDR}",
                f"--tls-cert-file={pki}/apiserver.crt",
                f"--tls-private-key-file={pki}/apiserver.key",
                f"--client-ca-file={pki}/cluster-ca.crt",
                "--authorization-mode=Node,RBAC",
                "--allow-privileged",  # as everywhere: it is for Pod Security to refuse, per namespace
                "--enable-admission-plugins=NodeRestriction",
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                f"--service-account-key-file={pki}/service-accounts.pub",
                f"--service-account-signing-key-file={pki}/service-accounts.key",
                f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
                f"--kubelet-client-key={pki}/apiserver-kubelet.key",
                f"--kubelet-certificate-authority={pki}/cluster-ca.crt",
                "--kubelet-preferred-address-types=InternalIP",
                f"--encryption-provider-config={conf}/encryption.yaml",
                f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
                "--requestheader-allowed-names=front-proxy-client",
                "--requestheader-username-headers=X-Remote-User",
                "--requestheader-group-headers=X-Remote-Group",
                "--requestheader-extra-headers-prefix=X-Remote-Extra-",
                f"--proxy-client-cert-file={pki}/front-proxy.crt",
                f"--proxy-client-key-file={pki}/front-proxy.key",
                "--profiling=false",
            ),
        ),
        Program(
            "kube-controller-manager",
            kubernetes(
                "kube-controller-manager",
                *manager("kube-controller-manager"),
                "--use-service-account-credentials",
                f"--root-ca-file={pki}/cluster-ca.crt",
                f"--service-account-private-key-file={pki}/service-accounts.key",
                f"--cluster-signing-cert-file={pki}/cluster-ca.crt",
                f"--cluster-signing-key-file={pki}/cluster-ca.key",
                f"--cluster-cidr={layout.POD_CIDR}",
                "--allocate-node-cidrs",
                # The default concurrency makes the updates of two stacks wait for each other.
                "--kube-api-qps=200",
                "--kube-api-burst=400",
                "--profiling=false",
            ),
            needs_api=True,
        ),
        Program(
            "kube-scheduler",
            kubernetes("kube-scheduler", *manager("kube-scheduler"), "--profiling=false"),
            needs_api=True,
        ),
        Program(
            "kubelet",
            kubernetes(
                "kubelet",
                kubeconfig("kubelet"),
                f"--config={conf / 'kubelet.yaml'}",
                f"--hostname-override={layout.NODE}",
                f"--node-ip={layout.NODE_IP}",
                f"--pod-infra-container-image={layout.PAUSE_IMAGE}",
            ),
            needs_api=True,
        ),
        Program("kube-proxy", kubernetes("kube-proxy", f"--config={conf / 'kube-proxy.yaml'}"), needs_api=True),
        Program(
            "kube-router",
            [
                str(inputs.binaries / "kube-router"),
                kubeconfig("kube-router"),
                f"--hostname-override={layout.NODE}",
                f"--service-cluster-ip-range={layout.SERVICE_CIDR}",
                "--run-firewall=true",
                "--run-router=false",
                "--run-service-proxy=false",
            ],
            needs_api=True,
            environment={"NODE_NAME": layout.NODE},
        ),
        Program(
            "provisioner",
            [str(inputs.helpers.provisioner), kubeconfig("provisioner"), "--root=/var/lib/volumes"],
            needs_api=True,
        ),
    ]


def _s3() -> list[str]:
    """An S3 server for backups. Its parts talk over the node's loopback; pods reach only its S3 port."""
    return [
        *("unshare", "--mount", str(Path(__file__).with_name("s3.sh"))),
        *(str(find_beside_python("weed")), str(layout.CONF / "s3.json")),
        "-logtostderr=true",
        "server",
        "-dir=/var/lib/s3",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-master.peers=none",  # single master: no election
        "-master.electionTimeout=1s",
        "-master.volumeSizeLimitMB=256",
        "-volume.max=0",  # as many as the disk has room for
        "-s3",
        f"-s3.ip.bind={layout.NODE_IP}",
        f"-s3.port={layout.S3_PORT}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]


def supervisor_config(programs: list[Program]) -> str:
    """The supervisor's own configuration file. It expands %, so that is doubled everywhere."""
    config = configparser.RawConfigParser()
    path = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    config["supervisord"] = {
        "nodaemon": "true",
        "user": "root",
        "logfile": _plain(LOGS / "supervisor.log"),
        "loglevel": "info",
        "pidfile": "/run/supervisord.pid",
        "environment": f'PATH="{_plain(path)}",HOME="/root"',
        "minfds": "65536" if _open_files_allowed() >= 65536 else "1024",
    }
    config["unix_http_server"] = {"file": CONTROL_SOCKET, "chmod": "0600"}
    config["rpcinterface:supervisor"] = {
        "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
    }
    for program in programs:
        log = LOGS / f"{program.name}.log"
        config[f"program:{program.name}"] = {
            "command": _plain(shlex.join(program.command)),
            "autostart": "false" if program.needs_api else "true",
            "autorestart": "true",
            "startsecs": "1",
            "startretries": "1000",
            # Only the program itself is stopped: containerd's pods outlive it.
            "stopasgroup": "false",
            "killasgroup": "false",
            "redirect_stderr": "true",
            "stdout_logfile": _plain(log),
            "stdout_logfile_maxbytes": "20MB",
            "stdout_logfile_backups": "1",
        }
        if program.environment:
            pairs = ",".join(f'{key}="{_plain(value)}"' for key, value in program.environment.items())
            config[f"program:{program.name}"]["environment"] = pairs
    text = io.StringIO()
    config.write(text)
    return text.getvalue()


def _plain(value: object) -> str:
    return str(value).replace("%", "%%")


def _open_files_allowed() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]
