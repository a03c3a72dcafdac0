#!/usr/bin/env bash
# Runs a command of a build with CUDA on an imitated NVIDIA GPU, on any x86-64 machine with gcc and python3:
#
#   tests/cuda/imitated.sh target/release/upstill bench agree --device cuda --precision bf16
#   IMITATED_GPUS=2 tests/cuda/imitated.sh target/release/upstill bench agree --device cuda --workers 2
#   IMITATED_KERNELS=none IMITATED_MIB=81920 tests/cuda/imitated.sh target/release/upstill bench step --paper --device cuda --against nothing
#
# The first shows whether the PTX that this build emits computes what the CPU does, tensor cores included; the second goes through
# NCCL's calls; the third runs no kernel, and so shows what the host takes for a step, and the memory that is asked for. NVIDIA's
# assembler, from a CUDA toolkit or the Python package nvidia-cuda-nvcc-cu12, refuses what a card would: IMITATED_PTXAS names it.
# It shows nothing of a card's speed, of its scheduling, or of races between blocks. A first run translates hundreds of kernels:
# minutes. driver.c has the other settings.
set -euo pipefail
IMITATED_TOOLS=$(cd "$(dirname "$0")" && pwd)
IMITATED_FOLDER=${IMITATED_FOLDER:-${XDG_CACHE_HOME:-$HOME/.cache}/upstill/imitated}
IMITATED_PTXAS=${IMITATED_PTXAS-$(command -v ptxas || true)}
export IMITATED_TOOLS IMITATED_FOLDER IMITATED_PTXAS
mkdir -p "$IMITATED_FOLDER"
for library in cuda.so.1:driver nccl.so.2:nccl; do
  gcc -O2 -w -shared -fPIC -o "$IMITATED_FOLDER/lib${library%:*}.$$.part" "$IMITATED_TOOLS/${library#*:}.c" -ldl -lm -lpthread
  mv "$IMITATED_FOLDER/lib${library%:*}.$$.part" "$IMITATED_FOLDER/lib${library%:*}"
  ln -sf "lib${library%:*}" "$IMITATED_FOLDER/lib${library%%.*}.so"
done
# What was tuned here is no use to a card.
export UPSTILL_KERNEL_CACHE=${UPSTILL_KERNEL_CACHE:-$IMITATED_FOLDER/kernels}
export LD_LIBRARY_PATH=$IMITATED_FOLDER${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
exec "$@"
