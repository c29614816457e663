"""What this package costs every interpreter start, and what the first import of its front door costs.

    python startup.py            # prints a table and the verdict; NNC_NO_PLUGIN must not be set

The line of `startup/pth.txt` is timed in bare interpreters (`-S`) with the site-packages of this one on the path. Whole
starts are `python -c pass` with and without `NNC_NO_PLUGIN=1`, in turns; the least of many runs counts, since all else
is other programs' work. `-X importtime` says what the front door imports.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

LINE = (Path(__file__).parents[1] / "startup" / "pth.txt").read_text().splitlines()[-1]
MOST_MS = 1.0
_TIMED = (
    "import os, sys, time; sys.path = {path}; begun = time.perf_counter(); {line}; print(time.perf_counter() - begun)"
)
_IMPORTED = re.compile(r"import time:\s+\d+ \|\s+(\d+) \| (\S+)")


def line_ms(runs: int) -> float:
    """Time the line of the .pth, in milliseconds."""
    code = _TIMED.format(path=[entry for entry in sys.path if entry], line=LINE.removeprefix("import os, sys; "))
    return 1e3 * min(float(_python("-S", "-E", "-c", code).stdout) for _ in range(runs))


def start_ms(runs: int) -> tuple[float, float]:
    """Time a whole start with the registration and with it turned off, in milliseconds."""
    least = [float("inf"), float("inf")]
    for _ in range(runs):
        for place, variables in enumerate(({}, {"NNC_NO_PLUGIN": "1"})):
            begun = time.perf_counter()
            _python("-c", "pass", variables=variables)
            least[place] = min(least[place], 1e3 * (time.perf_counter() - begun))
    return least[0], least[1]


def imported(code: str) -> dict[str, float]:
    """Return the modules of this package and the large libraries that a piece of code imports, in milliseconds."""
    lines = _python("-X", "importtime", "-c", code).stderr.splitlines()
    found = {match[2]: int(match[1]) / 1e3 for match in map(_IMPORTED.match, lines) if match}
    return {name: ms for name, ms in found.items() if name.partition(".")[0] in {"nnunet_cascade", "numpy", "torch"}}


def _python(*arguments: str, variables: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **(variables or {})})


def main() -> None:
    """Print the figures; exit with 1 where the line takes too long or a start imports anything of ours."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=40)
    runs = parser.parse_args().runs
    ours, (with_us, without) = line_ms(runs), start_ms(runs)
    at_start, at_import = imported("pass"), imported("import nnunet_cascade")
    print(f"the line of the .pth          {ours:8.3f} ms (at most {MOST_MS:g})")
    print(f"python -c pass                {with_us:8.3f} ms, {with_us / without:.3f} of one without registration")
    print(f"imported at start             {at_start or 'nothing'}")
    print(f"import nnunet_cascade         {at_import}")
    sys.exit(ours > MOST_MS or bool(at_start) or set(at_import) != {"nnunet_cascade"})


if __name__ == "__main__":
    main()
