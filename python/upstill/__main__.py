"""`python -m upstill` is the command."""

import os
import subprocess
import sys

from upstill._command import command


def main() -> int:
    line = [str(command()), *sys.argv[1:]]
    if os.name == "posix":
        # The same process goes on as the command, so that a signal reaches it and its exit code is seen.
        os.execv(line[0], line)
    try:
        return subprocess.run(line).returncode
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FileNotFoundError as error:
        sys.exit(f"error: {error}")
