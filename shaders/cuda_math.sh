#!/usr/bin/env bash
# Makes cuda_math.bc from cuda_math.rs: LLVM bitcode for any target, whose functions vanish into the kernels that call them.
# Needs rustc and an llvm-as of at most the bundled LLVM's version (22 or 23); LLVM_AS names another.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rustc --edition 2024 --crate-type lib -C opt-level=3 -C panic=abort -C debuginfo=0 --emit=llvm-ir -o "$work/math.ll" cuda_math.rs
# The machine that compiled it is left out (layout, triple, attributes); the triple is the one by which LLVM knows libdevice.
sed -E '1i target triple = "nvptx64-nvidia-gpulibs"
  /^(target|source_filename|; ModuleID|!)/d; s/^define noundef float/define linkonce_odr float/; s/ unnamed_addr//
  s/^attributes #0 = .*/attributes #0 = { alwaysinline nounwind willreturn memory(none) }/' "$work/math.ll" | "${LLVM_AS:-llvm-as}" - -o cuda_math.bc
