"""`python -m tests.bench [NAME...]`: run the benchmarks, each in a process of its own. They measure and assert nothing.

A benchmark is a file bench_NAME.py beside this one whose docstring says what its rows are. One that needs
what is not here prints why and ends with 0.
"""

import ast
import subprocess
import sys
from pathlib import Path

from leaderboard.errors import unknown_name

BENCHES = {path.stem.removeprefix("bench_"): path for path in sorted(Path(__file__).parent.glob("bench_*.py"))}


def main(names: list[str]) -> int:
    """Run those named, or all; the highest exit code."""
    for name in names:
        if name not in BENCHES:
            print(unknown_name("benchmark", name, BENCHES, "tests.bench"), file=sys.stderr)
            return 2
    codes = []
    for name in names or BENCHES:
        claim = ast.get_docstring(ast.parse(BENCHES[name].read_text(encoding="utf-8"))) or ""
        print(f"\n== {name}: {claim.splitlines()[0]}", flush=True)
        codes.append(subprocess.run([sys.executable, BENCHES[name]], check=False).returncode)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
