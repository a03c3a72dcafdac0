"""What one step launches on the imitated GPU, kernel by kernel: `step.py LOG`, where IMITATED_LOG named LOG. A step is what lies between
the last two updates of the optimizer.

For each kernel its launches, the bytes that their threads move, and the instructions that they issue; and the least time that these
take on an A100 (1.56 TB/s of copying, 108 multiprocessors that issue 4 warps' instructions at 1.41 GHz). What is served by a cache is
counted as moved, and latency is not counted: the times say what a kernel is bound by and which are worth work, not how long it takes."""

import collections
import re
import sys

BYTES_PER_S, WARPS_PER_S = 1.56e12, 108 * 4 * 1.41e9
LINE = re.compile(r"(\S+) blocks .* moved (\d+) issued (\d+)$")

launches = [match.groups() for match in map(LINE.match, open(sys.argv[1])) if match]
is_update = ["adam_kernel" in name.lower() or "adamkernel" in name.lower() for name, *_ in launches]
ends = [at for at, here in enumerate(is_update) if here and not any(is_update[at + 1 : at + 2])]
if len(ends) < 2:
    sys.exit(f"{sys.argv[1]}: fewer than two updates; take more steps")
step = launches[ends[-2] + 1 : ends[-1] + 1]
kinds = collections.defaultdict(lambda: [0, 0, 0])
for name, *numbers in step:
    # Without what tells one shape's kernel from another's.
    kind = kinds[re.sub(r"_[0-9a-f]{8,}.*|_f_.*|_[ui]\d+.*", "", name)[:44]]
    kind[0] += 1
    for i, number in enumerate(numbers, 1):
        kind[i] += int(number)
print(f"{'kernel':<44} {'launches':>8} {'MB':>9} {'M issued':>9} {'us by bytes':>11} {'by issue':>9}")
total = [0] * 5
for name, (count, moved, issued) in sorted(kinds.items(), key=lambda kind: -max(kind[1][1] / BYTES_PER_S, kind[1][2] / 32 / WARPS_PER_S)):
    row = [count, moved / 1e6, issued / 1e6, moved / BYTES_PER_S * 1e6, issued / 32 / WARPS_PER_S * 1e6]
    total = [sum(pair) for pair in zip(total, row)]
    print(f"{name:<44} {row[0]:>8} {row[1]:>9.1f} {row[2]:>9.1f} {row[3]:>11.1f} {row[4]:>9.1f}")
print(f"{'all':<44} {total[0]:>8} {total[1]:>9.1f} {total[2]:>9.1f} {total[3]:>11.1f} {total[4]:>9.1f}")
