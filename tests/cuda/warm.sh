#!/usr/bin/env bash
# Compiles the kernels of examples/cuda.sh ahead of a card, on any machine that imitated.sh runs on, into FOLDER:
#
#   tests/cuda/warm.sh target/release/upstill FOLDER
#   UPSTILL_KERNEL_CACHE=FOLDER examples/cuda.sh ./upstill results/      there, with the same binary
#
# On a first run kernels take most of the time, and half of that is LLVM's. IMITATED_SM (90: H100, H200; 80: A100), IMITATED_CORES (132)
# and IMITATED_MIB (81559) say for which card; kernels are taken whose PTX is that of the driver's version, IMITATED_DRIVER (13000).
# What was tuned meanwhile is thrown away: no kernel ran.
set -euo pipefail
upstill=$1 folder=$2
here=$(cd "$(dirname "$0")" && pwd)
export IMITATED_SM=${IMITATED_SM:-90} IMITATED_CORES=${IMITATED_CORES:-132} IMITATED_MIB=${IMITATED_MIB:-81559} IMITATED_DRIVER=${IMITATED_DRIVER:-13000}
export IMITATED_KERNELS=none UPSTILL_KERNEL_CACHE=$folder
mkdir -p "$folder"
for precision in bf16 f32; do
  "$here/imitated.sh" "$upstill" bench step --paper --device cuda --precision $precision --form fused --rounds 1 --against nothing
  # With no kernel run its losses are nonsense, which it says, as the bench of the loss does of what it copied.
  "$here/imitated.sh" "$upstill" bench agree --device cuda --precision $precision --form fused || true
done
"$here/imitated.sh" "$upstill" bench loss --slots 2560 --width 768 --device cuda --rounds 1 --no-step --python none || true
python3 - "$folder/default.db" <<'END'
import sqlite3, sys

database = sqlite3.connect(sys.argv[1])
dropped = database.execute("delete from entries where namespace not like 'cuda/%'").rowcount
database.commit()
database.execute("pragma wal_checkpoint(truncate)")
database.execute("vacuum")
print(f"{database.execute('select count(*) from entries').fetchone()[0]} kernels kept, {dropped} other entries dropped")
END
rm -f "$folder"/default.db-*
