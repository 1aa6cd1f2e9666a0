"""Names, addresses and places of the one-machine cluster."""

from __future__ import annotations

import hashlib

from sandbox.paths import STATE

NODE = "sandbox"
NODE_IP = "10.240.0.1"
POD_CIDR = "10.244.0.0/16"
NODE_POD_CIDR = "10.244.0.0/24"
SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE_IP = "10.96.0.1"
DNS_IP = "10.96.0.10"
INGRESS_IP = "10.96.0.80"
S3_PORT = 8333
"""Of the S3 server, on the node's address."""
SLACK_PORT = 8334
"""Of the receiver of Slack messages, on the node's address."""
# All of these exist only inside the node's own network namespace: they cannot collide
# with anything on the host, nor with a second sandbox.

CGROUP = f"runbook-sandbox-{hashlib.sha256(str(STATE).encode()).hexdigest()[:8]}"
NAMESPACE = "shop"
"""Of the sandbox's own stack, whose Prometheus and Alertmanager the host reaches."""
PAUSE_IMAGE = "sandbox.local/pause:1"

CONF = STATE / "conf"
PKI = STATE / "pki"
KUBECONFIGS = STATE / "kubeconfigs"
MANIFESTS = STATE / "manifests"
NODE_DATA = STATE / "node"
NODE_PID = STATE / "node.pid"
PORTS = STATE / "ports.json"
KUBECONFIG = STATE / "kubeconfig"
CA = STATE / "ca.crt"
"""Certificate authority of the ingress: what a browser or `curl --cacert` on the host is given."""
