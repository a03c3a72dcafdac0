#!/usr/bin/env bash
# Makes `--features cuda` build where tracel-llvm-bundler cannot download its LLVM 23.1 bundle:
# lays out Debian's LLVM 22 static libraries (X86 and NVPTX) under the folder that the bundler looks in, with its sentinel file.
# burn 0.22.1 builds with it, and what it emits runs on the imitated GPU; no card has run it yet.
# Needs apt with bookworm's packages, root not needed. Takes a minute and about 1.5 GB of disk.
set -euo pipefail
data=${XDG_DATA_HOME:-$HOME/.local/share}
prefix=$data/tracel/tracel-llvm-23.1.0-4
if [[ -e $prefix/.tracel-llvm-installed ]]; then echo "already there: the bundler's folder has an LLVM"; exit 0; fi
work=$data/tracel/debian-llvm-22
mkdir -p "$work"; cd "$work"
if [[ ! -d root/usr/lib/llvm-22 ]]; then
  apt-get download llvm-22-dev llvm-22 libllvm22 llvm-22-linker-tools libzstd-dev zlib1g-dev
  for deb in *.deb; do dpkg -x "$deb" root; done
  rm -f ./*.deb
fi
real=$work/root/usr/lib/llvm-22
mkdir -p "$prefix/bin" "$prefix/lib"
cp -rL "$real/include" "$prefix/"
defs=$prefix/include/llvm/Config
def() { # def NAME MACRO TARGET...: an LLVM target list of just these targets
  local name=$1 macro=$2; shift 2
  { printf '#ifndef %s\n#error\n#endif\n' "$macro"; for t in "$@"; do printf '%s(%s)\n' "$macro" "$t"; done; printf '#undef %s\n' "$macro"; } > "$defs/$name.def"
}
def Targets LLVM_TARGET X86 NVPTX
def AsmPrinters LLVM_ASM_PRINTER X86 NVPTX
def AsmParsers LLVM_ASM_PARSER X86
def Disassemblers LLVM_DISASSEMBLER X86
def TargetMCAs LLVM_TARGETMCA X86
def TargetExegesis LLVM_EXEGESIS X86
ln -sf "$real"/lib/libLLVM*.a "$prefix/lib/"; rm -f "$prefix"/lib/libLLVM-*.a
ln -sf "$work/root/usr/lib/x86_64-linux-gnu/libzstd.a" "$work/root/usr/lib/x86_64-linux-gnu/libz.a" "$prefix/lib/"
export LD_LIBRARY_PATH=$work/root/usr/lib/x86_64-linux-gnu:$real/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
libs=$("$real/bin/llvm-config" --link-static --libs core analysis passes irreader bitreader bitwriter linker ipo target mc mcdisassembler \
  executionengine mcjit orcjit debuginfodwarf x86 nvptx support transformutils)
cat > "$prefix/bin/llvm-config" <<EOS
#!/usr/bin/env bash
for a in "\$@"; do case "\$a" in
  --libdir) echo "$prefix/lib";;
  --includedir) echo "$prefix/include";;
  --version) echo 23.1.0;;
  --cxxflags|--cflags) echo "-I$prefix/include -std=c++17 -D_GNU_SOURCE -D__STDC_CONSTANT_MACROS -D__STDC_FORMAT_MACROS -D__STDC_LIMIT_MACROS -fno-exceptions -fno-rtti";;
  --libs|--libnames) echo "$libs -lzstd -lz";;
  --system-libs) echo "-lrt -ldl -lm";;
esac; done
EOS
chmod +x "$prefix/bin/llvm-config"
touch "$prefix/.tracel-llvm-installed"
echo "laid out; now: cargo build --release --features cuda"
