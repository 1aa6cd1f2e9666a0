#!/bin/bash
# First process of the node: furnishes its private namespaces, then becomes the
# supervisor. Everything made here ends with the namespaces, when that process ends.
#
# Called by sandbox.cluster.node inside `unshare --mount --pid --uts --ipc --fork`,
# with these variables set: STATE, NODE, NODE_IP, SERVICE_CIDR, PYTHON.
set -euo pipefail

# /proc is still the host's here, so this is the pid by which the host knows this process.
read -r host_pid _ </proc/self/stat

mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/netns

# A handle on the host's network: the forwarder's listening sockets are opened there.
touch /run/host-netns
mount --bind /proc/self/ns/net /run/host-netns

# What Kubernetes keeps in fixed places is kept in the state folder.
mkdir -p "$STATE/node/lib" "$STATE/node/log"
mount --bind "$STATE/node/lib" /var/lib
mount --bind "$STATE/node/log" /var/log
mkdir -p /var/lib/{etcd,containerd,kubelet,cni,registry,s3,volumes,supervisor} /var/log/{pods,containers}
chmod 700 /var/lib/etcd

exec unshare --net "$BASH" -euo pipefail -c '
mount -t proc proc /proc

# Kubelet sets these for the whole machine. Here it sets private copies.
while read -r key value; do
	[ -e "/proc/sys/$key" ] || continue # not every kernel is built with all of them
	mkdir -p "/run/sysctl/${key%/*}"
	echo "$value" >"/run/sysctl/$key"
	mount --bind "/run/sysctl/$key" "/proc/sys/$key"
done <<-END
	vm/overcommit_memory 1
	vm/panic_on_oom 0
	kernel/panic 10
	kernel/panic_on_oops 1
	kernel/keys/root_maxkeys 1000000
	kernel/keys/root_maxbytes 25000000
END

# Mounts made for volumes must reach the pods that share them.
mount --make-rshared /
hostname "$NODE"

ip link set lo up
ip link add node0 type bridge # a dummy device would do, but not every kernel has one
ip address add "$NODE_IP/32" dev node0
ip link set node0 up
ip route add "$SERVICE_CIDR" dev node0 src "$NODE_IP" # so that packets live until kube-proxy rewrites them
ip route add unreachable default                      # nothing leaves; saying so beats a timeout
echo 1 >/proc/sys/net/ipv4/ip_forward

echo "$0" >"$STATE/node.pid"
exec "$PYTHON" -m supervisor.supervisord --nodaemon --configuration "$STATE/conf/supervisord.conf"
' "$host_pid"
