"""Two workers as Ray actors against two as processes, on the same phantoms.

    python benchmarks/ray_engine.py [--cases 40] [--rounds 3]

A local Ray is started and ended by each run with --engine ray: that is part of its time, and told apart by starting
and ending one alone. Runs alternate, the median counts, and all files must be the same, JSON but for `varying`.
"""

from __future__ import annotations

import statistics
import sys

from phantom_cohort import bundle, chosen, command, differences, fresh, new_parser, phantoms, timed, verdict

LARGEST_OVERHEAD = 0.15
RAY_ALONE = "from nnunet_cascade.cohort.ray_connection import RayConnection; RayConnection(cpus=2).close()"


def main() -> None:
    """Print the overhead; exit 1 where it is too large or a file differs."""
    parser = new_parser(__doc__, cases=40)
    parser.add_argument("--workers", type=int, default=2, help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=1, help="default %(default)s")
    args = parser.parse_args()
    images, model = phantoms(args), bundle(args)
    results = args.folder / "ray_engine"
    folder = chosen(images, results / "images")
    seconds: dict[str, list[float]] = {"local": [], "ray": [], "Ray alone": []}
    for _ in range(args.rounds):
        seconds["Ray alone"].append(timed([sys.executable, "-c", RAY_ALONE], args.threads))
        for engine in ("local", "ray"):
            options = ("--workers", str(args.workers), "--engine", engine)
            arguments = command(folder, fresh(results / engine), model, *options)
            seconds[engine].append(timed(arguments, args.threads))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    overhead, alone = median["ray"] / median["local"] - 1, median["Ray alone"]
    differing = differences(results / "local", results / "ray")
    print(f"{len(images)} cases, {args.workers} workers of {args.threads} threads, median of {args.rounds}:")
    print(f"local {median['local']:.1f} s, ray {median['ray']:.1f} s, of which its start and end {alone:.1f} s")
    print(f"overhead {overhead:.1%}, without start and end {(median['ray'] - alone) / median['local'] - 1:.1%}")
    sys.exit(
        verdict(
            {
                f"overhead {overhead:.1%}, at most {LARGEST_OVERHEAD:.0%}": overhead <= LARGEST_OVERHEAD,
                f"the same files, {len(differing)} differ {differing[:3]}": not differing,
            }
        )
    )


if __name__ == "__main__":
    main()
