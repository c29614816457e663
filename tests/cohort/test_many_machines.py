"""The tiny cascade on several "machines": as parts of a Slurm array, and as Ray actors that are killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from builders.run_folders import contents

SLURM = Path(__file__).parents[2] / "docs" / "examples" / "slurm.sh"
OPTIONS = ["--mc_samples", "4", "-device", "cpu"]
pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def cases(tiny_cascade, tmp_path_factory):
    """Four cases of the same phantom, with its true tumors as stage 1's masks: stage 2 has work."""
    folder = tmp_path_factory.mktemp("cases")
    for name in "abcd":
        for kind, source, ending in (
            ("images", tiny_cascade.test_image, "_0000.nii.gz"),
            ("masks", tiny_cascade.test_truth, ".nii.gz"),
        ):
            (folder / kind).mkdir(exist_ok=True)
            shutil.copyfile(source, folder / kind / f"{name}{ending}")
    return folder


@pytest.fixture(scope="module")
def predict(tiny_cascade, cases):
    """Give the arguments of a run over the cases."""

    def arguments(output, *options):
        program = [sys.executable, str(Path(sys.executable).with_name("nnc-cascade-predict"))]
        folders = ["-i", cases / "images", "-o", output, "-m", tiny_cascade.bundle]
        masks = ["--stage1_predictions", cases / "masks"]
        return [*map(str, [*program, *folders, *masks, *OPTIONS, *options])]

    return arguments


@pytest.fixture(scope="module")
def local(predict, tmp_path_factory):
    """What one worker of this machine makes of the cases."""
    output = tmp_path_factory.mktemp("local") / "results"
    subprocess.run(predict(output), check=True, capture_output=True, env=environment())
    found = contents(output)
    assert set(found["run.json"]["cases"]) == set("abcd")
    assert any(case["tumor_ml"] > 0 for case in found["run.json"]["cases"].values())
    return found


def environment(**changes):
    return {**os.environ, "OMP_NUM_THREADS": "1", "RAY_ADDRESS": "local", **changes}


def of_cases(found):
    return {name: content for name, content in found.items() if not name.startswith(("run", "summary"))}


def actors(parent):
    """Process ids of the Ray actors that descend from a process."""
    parents, named = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if (folder / "cmdline").read_bytes().startswith(b"ray::CascadeActor"):
                named.append(int(folder.name))
    return [pid for pid in named if parent in ancestors(pid, parents)]


def ancestors(pid, parents):
    while pid in parents:
        pid = parents[pid]
        yield pid


def test_ray_gives_the_same_files_and_goes_on_where_actors_are_killed(local, predict, tmp_path):
    pytest.importorskip("ray")
    output = tmp_path / "results"
    command = predict(output, "--engine", "ray", "--workers", "2")
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        while not list(output.glob("*.nii.gz")) and process.poll() is None:
            time.sleep(0.01)
        for pid in actors(process.pid):  # one of them is writing a case and holds another
            os.kill(pid, signal.SIGKILL)
        _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    varying = json.loads((output / "run.json").read_text())["varying"]
    assert varying["engine"] == "ray"
    assert varying["lost_workers"]
    assert contents(output) == local


def test_the_tasks_of_a_slurm_array_make_the_whole_together(local, predict, tmp_path):
    output = tmp_path / "results"
    folders = dict(zip(*[iter(predict(output)[2:8])] * 2, strict=True))
    further = predict(output)[8:]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    array = {"SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_MAX": "1"}

    def task(number):
        return subprocess.Popen(
            [str(SLURM), folders["-i"], folders["-o"], folders["-m"], *further],
            env=environment(PATH=path, SLURM_ARRAY_TASK_ID=str(number), SLURM_CPUS_PER_TASK="1", **array),
            stderr=subprocess.PIPE,
            text=True,
        )

    with task(0) as preempted:
        while not (output / "a.json").is_file() and preempted.poll() is None:
            time.sleep(0.01)
        preempted.terminate()
        _, told = preempted.communicate(timeout=60)
    assert "Traceback" not in told
    for process in [task(0), task(1)]:  # side by side, in one folder
        _, told = process.communicate(timeout=300)
        assert process.returncode == 0, told
    found = contents(output)
    assert of_cases(found) == of_cases(local)
    parts = [found[f"run_part{number}.json"]["cases"] for number in (0, 1)]
    assert [sorted(part) for part in parts] == [["a", "c"], ["b", "d"]]
    assert {**parts[0], **parts[1]} == local["run.json"]["cases"]
    assert sorted(set(found) - set(local)) == [
        "run_part0.json",
        "run_part1.json",
        "summary_part0.csv",
        "summary_part1.csv",
    ]
