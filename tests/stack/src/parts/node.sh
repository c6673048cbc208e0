#!/bin/sh
# Makes a node: namespaces of its own for processes, mounts and the network, which is joined to the machine's by a pair of
# interfaces. All that runs on the node, and all that is mounted there, ends with the node's first process; the
# interfaces go with its network.
#
#     node.sh FOLDER FIRST-PROGRAM HOST-ADDRESS NODE-ADDRESS HEALTH-PORT PODS INTERFACE
set -eu
folder=$1 first=$2 host=$3 node=$4 port=$5 pods=$6 interface=$7

if [ -z "${INSIDE:-}" ]; then
    # The machine's network, for the far end of the pair.
    exec 9</proc/self/ns/net
    export INSIDE=yes
    exec unshare --net --mount --pid --fork --kill-child -- "$0" "$@"
fi

mount -t proc proc /proc

# Places that programs do not let one choose.
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir /run/lock
mkdir -p "$folder/lib" "$folder/log"
mount --bind "$folder/lib" /var/lib
mount --bind "$folder/log" /var/log

# The kubelet sets these, for the whole machine, where they are not so. Here it finds them so.
mkdir -p "$folder/sysctl"
set_for_kubelet() {
    file="$folder/sysctl/$(basename "$1")"
    echo "$2" >"$file"
    mount --bind "$file" "/proc/sys/$1"
}
set_for_kubelet vm/overcommit_memory 1
set_for_kubelet vm/panic_on_oom 0
set_for_kubelet kernel/panic 10
set_for_kubelet kernel/panic_on_oops 1
set_for_kubelet kernel/keys/root_maxkeys 1000000
set_for_kubelet kernel/keys/root_maxbytes 25000000

# No address is translated: the machine knows the way to the pods.
ip link set lo up
ip link add eth0 type veth peer name "$interface" netns /proc/self/fd/9
ip address add "$node/30" dev eth0
ip link set eth0 up
nsenter --net=/proc/self/fd/9 sh -euc '
    ip address add "$1/30" dev "$2"
    ip link set "$2" up
    ip route add "$3" via "$4"
' sh "$host" "$interface" "$pods" "$node"
ip route add default via "$host"
echo 1 >/proc/sys/net/ipv4/ip_forward

exec 9<&-
unset INSIDE
exec "$first" "$node:$port"
