"""The Slurm script, as far as one can be tried without Slurm: the command it calls writes down what it is given."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "slurm.sh"
FOLDERS = ["images of ours", "results", "bundle"]


@pytest.fixture
def task(tmp_path):
    """Run a task of an array; gives what `nnc-cascade-predict` was called with and what the script said."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    (tmp_path / "nnc-cascade-predict").write_text('#!/bin/sh\necho "$OMP_NUM_THREADS"; printf "%s\\n" "$@"\n')
    (tmp_path / "nnc-cascade-predict").chmod(0o755)
    before = {name: value for name, value in os.environ.items() if not name.startswith("SLURM") and name != "PARTS"}

    def run(*arguments, **variables):
        environment = {**before, "PATH": f"{tmp_path}:{os.environ['PATH']}", **variables}
        return subprocess.run(
            [bash, str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, check=False
        )

    return run


def array(number, *, tasks):
    """What Slurm tells a task of an array."""
    told = {"ID": number, "COUNT": len(tasks), "MIN": min(tasks), "MAX": max(tasks)}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in told.items()}


def test_slurm_options_stand_before_the_first_command():
    lines = SCRIPT.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    options = [number for number, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert options
    assert max(options) < first


def test_each_task_is_a_part_with_its_own_threads_and_goes_on(task):
    done = task(*FOLDERS, "--mc_samples", "5", SLURM_CPUS_PER_TASK="6", **array(3, tasks=range(8)))
    assert done.stdout.splitlines() == [
        "6", "-i", "images of ours", "-o", "results", "-m", "bundle", "--mc_samples", "5",
        "-num_parts", "8", "-part_id", "3", "--continue_prediction",
    ]  # fmt: skip
    assert done.returncode == 0


def test_single_tasks_are_repeated_with_the_number_of_parts_there_were(task):
    done = task(*FOLDERS, PARTS="8", **array(3, tasks=[3, 5]))
    assert done.stdout.splitlines()[-5:] == ["-num_parts", "8", "-part_id", "3", "--continue_prediction"]


@pytest.mark.parametrize("tasks", [[3], [3, 5], [1, 2, 3, 4], [0, 2, 4]])
def test_an_array_that_would_leave_cases_out_is_refused(task, tasks):
    done = task(*FOLDERS, **array(tasks[0], tasks=tasks))
    assert done.returncode == 2
    assert done.stdout == ""
    assert "PARTS=N" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [(FOLDERS[:2], array(0, tasks=[0]), "found 2 arguments"), (FOLDERS, {}, "submit it with sbatch")],
)
def test_wrong_usage_is_said(task, arguments, variables, words):
    done = task(*arguments, **variables)
    assert done.returncode == 2
    assert words in done.stderr
