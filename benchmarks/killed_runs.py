"""Kill -9 at random moments of a run over many phantoms, resuming each time, against an undisturbed run.

    python benchmarks/killed_runs.py [--cases 20] [--kills 20] [--seed 0] [--engine ray]

At each moment, drawn from a seed, either the run itself or one of its workers is killed. A run that was killed is
resumed; one that lost a worker goes on by itself. Where all cases are done before the last kill, the folder is
compared and the next run begins with an empty one. At the end the folder must hold what the undisturbed one holds:
images byte for byte, JSON but for `varying`, and no file besides.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from phantom_cohort import (
    bundle,
    chosen,
    command,
    differences,
    environment,
    fresh,
    new_parser,
    phantoms,
    timed,
    verdict,
    workers_of,
)

MOST_RESUMPTIONS = 3
"""After the last kill: one is enough, but for a case that lost two workers, which is reported and then done."""


@dataclass
class Story:
    """What happened to the runs.

    Attributes:
        killed: How often the run itself and workers were killed.
        codes: Exit codes of the runs that ended by themselves.
        differing: Files of finished folders that differ from the undisturbed ones.
        finished: Folders that were finished and compared.
    """

    killed: dict[str, int] = field(default_factory=lambda: {"run": 0, "worker": 0})
    codes: list[int] = field(default_factory=list[int])
    differing: list[str] = field(default_factory=list[str])
    finished: int = 0


def start(arguments: list[str], threads: int, log: Path) -> subprocess.Popen[str]:
    """Start a run that resumes what is there."""
    with log.open("a") as told:
        return subprocess.Popen(arguments, env=environment(threads), stdout=told, stderr=told, text=True)


def kill(process: subprocess.Popen[str], rng: random.Random, story: Story) -> None:
    """Kill the run or one of its workers; where it has none yet, the run."""
    workers = workers_of(process.pid)
    if workers and rng.random() < 0.5:
        story.killed["worker"] += 1
        with suppress(ProcessLookupError):
            os.kill(rng.choice(workers), signal.SIGKILL)
        return
    story.killed["run"] += 1
    process.kill()
    process.wait()


def compare(undisturbed: Path, output: Path, story: Story) -> None:
    """Compare a finished folder with the undisturbed one, and clear it."""
    story.finished += 1
    story.differing += differences(undisturbed, output)
    if not story.differing:
        fresh(output)


def disturb(arguments: list[str], undisturbed: Path, output: Path, args: argparse.Namespace, longest: float) -> Story:
    """Kill as often as asked, then let the last run come to its end."""
    rng, story, log = random.Random(args.seed), Story(), args.folder / "killed_runs" / "log.txt"  # noqa: S311 - moments
    process = start(arguments, args.threads, log)
    while sum(story.killed.values()) < args.kills and not story.differing:
        end = time.monotonic() + rng.uniform(0, longest)
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        if process.poll() is None:
            kill(process, rng, story)
        else:
            story.codes.append(process.returncode)
            if process.returncode == 0:
                compare(undisturbed, output, story)
        if process.poll() is not None:
            process = start(arguments, args.threads, log)
    for _ in range(MOST_RESUMPTIONS):
        story.codes.append(process.wait())
        if story.codes[-1] == 0:
            break
        process = start(arguments, args.threads, log)
    compare(undisturbed, output, story)
    return story


def main() -> None:
    """Print what was killed and what differs; exit 1 where anything does."""
    parser = new_parser(__doc__, cases=20)
    parser.add_argument("--kills", type=int, default=20, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of who is killed; default %(default)s")
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="default %(default)s")
    parser.add_argument("--workers", type=int, default=2, help="default %(default)s")
    args = parser.parse_args()
    images, model = phantoms(args), bundle(args)
    results = args.folder / "killed_runs"
    folder = chosen(images, fresh(results) / "images")
    options = ["--engine", args.engine, "--workers", str(args.workers), "--continue_prediction"]
    undisturbed, output = results / "undisturbed", results / "disturbed"
    longest = timed(command(folder, undisturbed, model, *options), args.threads)
    print(f"undisturbed run, {args.engine} engine: {longest:.1f} s; killed at moments within it, seed {args.seed}")
    story = disturb(command(folder, output, model, *options), undisturbed, output, args, longest)
    differing = story.differing
    killed = sum(story.killed.values())
    print(f"killed the run {story.killed['run']} times and a worker {story.killed['worker']} times")
    print(f"{story.finished} folders finished and compared; exit codes {story.codes}")
    sys.exit(
        verdict(
            {
                f"{killed} kills": killed >= args.kills,
                "the last run ended with 0": story.codes[-1] == 0,
                f"the same files and no others, {len(differing)} differ {differing[:5]}": not differing,
            }
        )
    )


if __name__ == "__main__":
    main()
