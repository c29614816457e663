"""Many phantoms in one run: memory against a run of two, time against one call per case.

    python benchmarks/cohort_runs.py [--cases 50] [--calls 10] [--options --workers 2]

Memory is that of all processes together (Pss, what several share counts once), sampled every 50 ms; start and
imports are part of all times. Every separate call must give the files that the one run gave. The results hold for
the phantoms and networks whose sizes are printed: the smaller a case, the more its own start weighs.
"""

from __future__ import annotations

import argparse
import statistics
import sys

from phantom_cohort import (
    bundle,
    case_of,
    chosen,
    command,
    differences,
    files_of,
    fresh,
    new_parser,
    peak_mib,
    phantoms,
    timed,
    verdict,
)

LARGEST_MEMORY, LEAST_THROUGHPUT = 1.10, 1.6


def main() -> None:
    """Print both ratios; exit 1 where one is not reached or a file differs."""
    parser = new_parser(__doc__, cases=50)
    parser.add_argument("--calls", type=int, default=10, help="separate calls that are timed; 0 is all of them")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="of nnc-cascade-predict, for all calls")
    args = parser.parse_args()
    images, model = phantoms(args), bundle(args)
    results = args.folder / "cohort_runs"
    whole, two = chosen(images, results / "all"), chosen(images[:2], results / "two")

    peaks = {
        count: peak_mib(command(folder, fresh(results / f"memory_{count}"), model, *args.options), args.threads)
        for count, folder in ((2, two), (len(images), whole))
    }
    memory = peaks[len(images)] / peaks[2]
    text = ", ".join(f"{count} cases {peak:.0f} MiB" for count, peak in peaks.items())
    print(f"peak of all processes: {text}: {memory:.3f}")

    together = fresh(results / "together")
    one_run = timed(command(whole, together, model, *args.options), args.threads)
    called = images[: args.calls or None]
    seconds: list[float] = []
    differing: list[str] = []
    for image in called:
        apart = fresh(results / "apart")
        seconds.append(timed(command(image, apart, model, *args.options), args.threads))
        differing += differences(together, apart, files_of(together, case_of(image)))
    calls = statistics.mean(seconds) * len(images)
    share = "" if len(called) == len(images) else f" (from the mean of {len(called)})"
    ratio = calls / one_run
    print(f"{len(images)} cases in one run {one_run:.1f} s, in {len(images)} calls{share} {calls:.1f} s: {ratio:.2f}")
    sys.exit(
        verdict(
            {
                f"memory ratio {memory:.3f}, at most {LARGEST_MEMORY}": memory <= LARGEST_MEMORY,
                f"throughput ratio {ratio:.2f}, at least {LEAST_THROUGHPUT}": ratio >= LEAST_THROUGHPUT,
                f"the same files, {len(differing)} differ {differing[:3]}": not differing,
            }
        )
    )


if __name__ == "__main__":
    main()
