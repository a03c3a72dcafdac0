#!/usr/bin/env bash
# Two ranks of MPI on two imitated GPUs: a tiny run whose ranks sum through NCCL beside one whose ranks sum on their hosts, and beside one
# GPU; what rules NCCL out; and the end of all when a rank dies in a sum. For a build with --features cuda,mpi:
#
#   tests/cuda/ranks.sh target/release/upstill
#
# Needs mpirun (OpenMPI's), gcc and python3; imitated.sh has the settings. A first run tunes and translates kernels: minutes.
set -euo pipefail
upstill=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
export CUBECL_AUTOTUNE_LEVEL=${CUBECL_AUTOTUNE_LEVEL:-minimal} RAYON_NUM_THREADS=1 UPSTILL_RANKS_WAIT=${UPSTILL_RANKS_WAIT:-600}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat > tiny.toml <<'END'
method = "standalone"
seed = 7
[model]
layers = 1
hidden = 32
heads = 2
max_positions = 32
[data]
shards = "pocket"
length = 32
[train]
steps = 4
batch = 8
lr = 1e-3
evaluate_rows = 8
[runtime]
device = "cuda"
precision = "f32"
END
several=(mpirun --allow-run-as-root --oversubscribe --bind-to none)

fail() {
  echo "FAILED: $1" >&2
  if [ -e "$2" ]; then cat "$2" >&2; fi
  exit 1
}
# run NAME COMMAND...: a run in a folder of its name, with what it says in NAME.log.
run() {
  local name=$1 began=$SECONDS
  shift
  "$here/imitated.sh" "$@" > "$name.log" 2>&1 || fail "$name ended with $?" "$name.log"
  echo "$name: $((SECONDS - began)) s"
}
# said NAME TEXT: once, by one rank.
said() {
  [ "$(grep -c "ranks sum" "$1.log")" = 1 ] && grep -q "$2" "$1.log" || fail "$1 does not say once: $2" "$1.log"
}
train() { echo "$upstill" train tiny.toml --out "$1"; }

# shellcheck disable=SC2046 # words of commands
{
  run alone $(train alone)
  IMITATED_GPUS=2 UPSTILL_SUM=host run host "${several[@]}" -n 2 $(train host)
  said host "through MPI: UPSTILL_SUM=host asks for it"
  IMITATED_GPUS=2 run nccl "${several[@]}" -n 2 $(train nccl)
  said nccl "through NCCL 2.27.0"
  IMITATED_GPUS=2 run bf16 "${several[@]}" -n 2 $(train bf16) --set runtime.sum_dtype=bf16
  said bf16 "through NCCL 2.27.0"
  IMITATED_GPUS=2 run mixed "${several[@]}" -n 1 $(train mixed) : -n 1 env UPSTILL_SUM=host $(train mixed)
  said mixed "through MPI: rank 1: UPSTILL_SUM=host asks for it"
  run shared "${several[@]}" -n 2 $(train shared)
  said shared "through MPI: ranks 0 and 1 share a GPU"
}
python3 - <<'END'
import json

def losses(name):
    return [json.loads(line)["loss"] for line in open(f"{name}/steps.jsonl")]

one = losses("alone")
assert len(one) == 4, one
# Rounding: of sums in another order; in bf16 of the losses too, which lie 1/32 apart there.
for name, other, most in [("host", "alone", 1e-4), ("nccl", "alone", 1e-4), ("nccl", "host", 1e-4), ("mixed", "host", 1e-4),
                          ("shared", "host", 1e-4), ("bf16", "nccl", 4e-2)]:
    apart = max(abs(a - b) for a, b in zip(losses(name), losses(other), strict=True))
    print(f"{name} and {other}: losses are at most {apart:.1e} apart")
    assert apart <= most, (losses(name), losses(other))
END

# A rank that dies while the other waits for it in the third sum.
: > dies.log
IMITATED_GPUS=2 IMITATED_NCCL_DIES=1:2 "$here/imitated.sh" "${several[@]}" -n 2 "$upstill" train tiny.toml --out dies > dies.log 2>&1 &
mpirun=$!
until grep -q "dies in sum" dies.log || ! kill -0 $mpirun 2>/dev/null; do sleep 0.1; done
grep -q "dies in sum" dies.log || fail "no rank died" dies.log
died=$(date +%s%N) code=0
wait $mpirun || code=$?
took=$((($(date +%s%N) - died) / 1000000))
echo "after a rank's death in a sum all ended within $took ms, with exit code $code: $(grep -m 1 "exited on signal" dies.log || true)"
[ "$code" != 0 ] && ((took < 10000)) || fail "an end with $code after $took ms" dies.log
