#!/usr/bin/env bash
# Ranks on hosts of their own, whose links send so much a second and no more: network namespaces on a bridge, and the kernel's token
# buckets. It runs whatever it is given on each of them by OpenMPI over TCP. Needs root, `iproute2` and a kernel with sch_tbf.
#   tests/mpi/shaped_link.sh RANKS MBIT COMMAND ...
# as in, beside what the plan says of it:
#   tests/mpi/shaped_link.sh 4 100 upstill train student.toml --out runs/student
#   upstill plan student.toml --ranks 4 --link 0.0125
set -euo pipefail
ranks=$1 mbit=$2
shift 2

work=$(mktemp -d)
end() {
  for host in $(seq "$ranks"); do ip netns del "upstill-$host" 2>/dev/null || true; done
  ip netns del upstill-switch 2>/dev/null || true
  rm -rf "$work"
}
trap end EXIT

ip netns add upstill-switch
ip -n upstill-switch link add bridge type bridge
ip -n upstill-switch link set bridge up
for host in $(seq "$ranks"); do
  ip netns add "upstill-$host"
  ip -n "upstill-$host" link add eth0 type veth peer name "to-$host" netns upstill-switch
  ip -n upstill-switch link set "to-$host" master bridge up
  ip -n "upstill-$host" addr add "10.99.0.$host/24" dev eth0
  ip -n "upstill-$host" link set lo up
  ip -n "upstill-$host" link set eth0 up
  # What a host sends; it receives what the others send.
  tc -n "upstill-$host" qdisc add dev eth0 root tbf rate "${mbit}mbit" burst 128kb latency 100ms
done

# mpirun's daemons are started in the other namespaces in the place of ssh.
cat >"$work/agent" <<'AGENT'
#!/bin/sh
host=upstill-${1##*.}
shift
exec ip netns exec "$host" sh -c "$*"
AGENT
chmod +x "$work/agent"
hosts=$(seq -s, -f '10.99.0.%.0f:1' "$ranks")
# Daemons on one machine would share a description of it in memory (rtc_hwloc), in which they run into each other.
ip netns exec upstill-1 mpirun --allow-run-as-root --bind-to none --host "$hosts" --mca plm_rsh_agent "$work/agent" --mca pml ob1 --mca rtc ^hwloc \
  --mca btl tcp,self --mca btl_tcp_if_include 10.99.0.0/24 --mca oob_tcp_if_include 10.99.0.0/24 "$@"
