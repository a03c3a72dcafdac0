#!/usr/bin/env bash
# The whole CUDA measurement, unattended, in under 10 minutes: does it train, do losses agree with the CPU's, and how fast beside
# PyTorch and beside Vulkan. Needs the NVIDIA driver and a binary built with --features cuda; python3 with PyTorch is used where it is.
#
#   examples/cuda.sh [UPSTILL] [FOLDER]        the binary (upstill), and where results go (cuda-results)
#   DATA=data/wiki-books GLUE=glue/ examples/cuda.sh ...    with a real run: examples/paper.toml on this data, the teacher, the student
#                                              alone and distilled for REAL_S seconds each (30), and GLUE's scores of the two students
#
# Each stage has a limit of its own, and one that fails does not stop the next: FOLDER/summary.txt says how each went, with its
# seconds; every stage has NAME.json or NAME.txt, and NAME.log with what it said.
set -uo pipefail
upstill=${1:-upstill}
out=${2:-cuda-results}
python=${UPSTILL_PYTHON:-python3}
device=${UPSTILL_DEVICE:-cuda}
budget=${BUDGET_S:-570} # seconds for everything
examples=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out/profile"
out=$(realpath "$out")
upstill=$(realpath "$(command -v "$upstill" || echo "$upstill")")
# Kernels are tuned once, and what was found is kept for the stages that follow.
export UPSTILL_KERNEL_CACHE=${UPSTILL_KERNEL_CACHE:-$out/kernels}
unset UPSTILL_KERNELS
began=$SECONDS
: > "$out/summary.txt"

# stage NAME LIMIT ENDING COMMAND...
stage() {
  local name=$1 limit=$2 ending=$3 left started code
  shift 3
  left=$((budget - (SECONDS - began)))
  if ((left < 5)); then
    echo "$name: not run, no time left" | tee -a "$out/summary.txt"
    return
  fi
  started=$SECONDS
  timeout --kill-after=5 $((limit < left ? limit : left)) "$@" > "$out/$name.$ending" 2> "$out/$name.log"
  code=$?
  case $code in
    0) echo "$name: ok, $((SECONDS - started)) s" ;;
    124 | 137) echo "$name: stopped at its limit, $((SECONDS - started)) s" ;;
    *) echo "$name: FAILED with $code, $((SECONDS - started)) s: $(grep -v XDG_RUNTIME_DIR "$out/$name.log" | grep -m1 -E 'error|panicked' | cut -c1-160)" ;;
  esac | tee -a "$out/summary.txt"
}

stage machine 20 txt sh -c 'nvidia-smi; nvidia-smi -q -d CLOCK | head -40; uname -a; nproc; free -g; exit 0'
stage python 60 txt "$python" -c 'import torch; print(torch.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU")'

# Does it run at all?
stage doctor 60 json "$upstill" doctor --device "$device" --json
# How fast, the paper's pair, and where a step's time goes. On a first run most of it is compiling and tuning: two minutes here, one each
# later where numbers are new (tests/cuda/warm.sh compiles ahead).
against=(--against pytorch --python "$python" --json)
stage step-bf16 240 json "$upstill" bench step --paper --device "$device" --precision bf16 --form fused --rounds 5 "${against[@]}"
# Is it right?
stage agree-bf16 110 json "$upstill" bench agree --device "$device" --precision bf16 --form fused --json
# A real run: its log, its checkpoints, its held-out loss.
if [ -n "${DATA:-}" ]; then
  # As many steps of 128 rows of 128 tokens as are trained in the time at the speed just seen.
  speed=$(grep -m1 -o '"tokens_per_s": *[0-9]*' "$out/step-bf16.json" | grep -o '[0-9]*$' || true)
  steps=$((${speed:-100000} * ${REAL_S:-30} / 16384 + 1))
  pretrain() { # NAME SETTING...
    local name=$1 set=()
    shift
    for one in "data.shards=$DATA" "train.steps=$steps" "train.evaluate_every=$((steps / 10 + 1))" "$@"; do set+=(--set "$one"); done
    stage "real-$name" 100 txt "$upstill" train "$examples/paper.toml" "${set[@]}" --device "$device" --out "$out/$name"
  }
  pretrain teacher preset=standalone model.layers=4
  pretrain alone preset=standalone
  pretrain distilled "teacher.from=$out/teacher"
  if [ -n "${GLUE:-}" ]; then
    for name in alone distilled; do
      stage "glue-$name" 60 json "$upstill" finetune "$out/$name" --task glue --data "$GLUE" --epochs 1 --length 64 --lr 1e-4 --seeds 1 --device "$device" --json
    done
  fi
else
  stage train 60 txt "$upstill" study --size small --device "$device" --out "$out/study"
fi
stage agree-f32 110 json "$upstill" bench agree --device "$device" --precision f32 --form fused --json
stage loss 60 json "$upstill" bench loss --slots 2560 --width 768 --device "$device" --rounds 5 --no-step --python "$python" --json
stage step-f32 150 json "$upstill" bench step --paper --device "$device" --precision f32 --form fused --rounds 3 "${against[@]}"
# With two GPUs or more: a batch shared by two of them, summed by NCCL, and through the host.
if (($(nvidia-smi -L 2> /dev/null | grep -c '^GPU') > 1)); then
  stage agree-workers 60 json "$upstill" bench agree --device cuda --workers 2 --precision f32 --form fused --json
  UPSTILL_SUM=host stage agree-workers-host 60 json "$upstill" bench agree --device cuda --workers 2 --precision f32 --form fused --json
fi
# Where a step's time goes, kernel by kernel (cubecl waits for each, so the sum is more than a step).
printf '[profiling.logger]\nlevel = "basic"\nfile = "%s"\n' "$out/profile/kernels.log" > "$out/profile/cubecl.toml"
stage profile 45 json env -C "$out/profile" "$upstill" bench step --paper --device "$device" --precision bf16 --form fused --rounds 1 --against nothing --json
# The same card through Vulkan, in f32; and burn's own operations.
stage step-vulkan 60 json "$upstill" bench step --paper --rows 32 --device wgpu --precision f32 --form fused --rounds 1 --against nothing --json
stage step-composed 60 json "$upstill" bench step --paper --rows 32 --device "$device" --precision bf16 --form composed --rounds 1 --against nothing --json
echo "total: $((SECONDS - began)) s" | tee -a "$out/summary.txt"
