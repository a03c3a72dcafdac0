#!/usr/bin/env bash
# translate.sh MODULE.ptx SM: assembles a module, translates it, and prints the path of the library. Each text is done once by each
# translator, and kept beside the library, for `ptxas -v` and its like.
set -euo pipefail
unset LD_LIBRARY_PATH
here=$(dirname "$0")
done=$IMITATED_FOLDER/modules/$2-$(cat "$1" "$here/ptx_to_c.py" "$here/ptx.h" | md5sum | cut -c1-32)
mkdir -p "$IMITATED_FOLDER/modules"
if [[ ! -e $done.so ]]; then
  if [[ -n ${IMITATED_PTXAS:-} ]]; then "$IMITATED_PTXAS" -arch="sm_$2" -o /dev/null "$1" 1>&2; fi
  # Several processes may be at the same one.
  part=$done.$$
  python3 "$here/ptx_to_c.py" "$1" > "$part.c"
  gcc -O1 -w -mfma -mf16c -mavx2 -ffp-contract=off -fno-strict-aliasing -I "$here" -shared -fPIC -o "$part.so" "$part.c" \
    -L "$IMITATED_FOLDER" -l:libcuda.so.1 -Wl,-rpath,"$IMITATED_FOLDER" -lm
  mv "$part.c" "$done.c"
  mv "$part.so" "$done.so"
fi
mv "$1" "$done.ptx"
echo "$done.so"
