"""The real command, killed and resumed, interrupted, refused and shared out; compared with an undisturbed run."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from builders.run_folders import contents

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]
CASES = ("a", "b", "c", "d")
OPTIONS = ("-device", "cpu", "--mc_samples", "2", "--disable_tta")
PATIENCE_SECONDS = 600


class Command:
    """nnc-cascade-predict on four good CTs and a truncated one, the true tumors being stage 1's masks."""

    def __init__(self, bundle, inputs):
        self.bundle, self.inputs = bundle, inputs

    def start(self, output, *options, room=None):
        limit = "" if room is None else f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room})); "
        begin = f"import os, resource, sys; {limit}os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        program = [sys.executable, "-c", begin, str(Path(sys.executable).with_name("nnc-cascade-predict"))]
        folders = ["-i", self.inputs / "images", "-o", output, "-m", self.bundle]
        folders += ["--stage1_predictions", self.inputs / "masks"]
        return subprocess.Popen(
            [*map(str, [*program, *folders, *OPTIONS, *options])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def run(self, output, *options, expected=1, room=None):
        process = self.start(output, *options, room=room)
        out, error = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == expected, f"{out[-2000:]}\n{error[-4000:]}"
        assert "Traceback" not in error
        return error


@pytest.fixture(scope="module")
def command(tiny_cascade, tmp_path_factory):
    inputs = tmp_path_factory.mktemp("inputs")
    for folder in ("images", "masks"):
        (inputs / folder).mkdir()
    for case in CASES:
        shutil.copyfile(tiny_cascade.test_image, inputs / "images" / f"{case}_0000.nii.gz")
        shutil.copyfile(tiny_cascade.test_truth, inputs / "masks" / f"{case}.nii.gz")
    cut = tiny_cascade.test_image.read_bytes()[:2000]
    (inputs / "images" / "cut_0000.nii.gz").write_bytes(cut)
    shutil.copyfile(tiny_cascade.test_truth, inputs / "masks" / "cut.nii.gz")
    return Command(tiny_cascade.bundle, inputs)


@pytest.fixture(scope="module")
def undisturbed(command, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    error = command.run(output)
    assert "cut: " in error
    found = contents(output)
    assert found["run.json"]["counts"] == {"done": 4, "failed": 1, "left": 0}
    assert "cut_0000.nii.gz cannot be read" in found["run.json"]["cases"]["cut"]["error"]
    return found


def varying(output):
    return json.loads((output / "run.json").read_text())["varying"]


def await_files(process, output, count):
    """Wait until a run has so many files in its folder, finished or not."""
    end = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < end:
        if output.is_dir() and len(list(output.iterdir())) >= count:
            return
        time.sleep(0.002)


def workers_of(parent):
    """Process ids of the workers that a run has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            of = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            name = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if of == parent and b"spawn_main" in name:
            found.append(int(folder.name))
    return found


@pytest.mark.long
def test_a_run_killed_again_and_again_ends_as_an_undisturbed_one(command, undisturbed, tmp_path):
    draw = np.random.default_rng(7)
    output = tmp_path / "out"
    for moment in sorted(draw.choice(len(undisturbed), 3, replace=False)):
        process = command.start(output, "--continue_prediction")
        await_files(process, output, int(moment) + 1)
        process.kill()
        process.communicate()
    command.run(output, "--continue_prediction")
    assert contents(output) == undisturbed
    assert varying(output)["skipped"]


def test_a_killed_worker_is_replaced_and_costs_no_case(command, undisturbed, tmp_path):
    output = tmp_path / "out"
    process = command.start(output)
    await_files(process, output, 12)
    (worker,) = workers_of(process.pid)
    os.kill(worker, signal.SIGKILL)
    _, error = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert "ended by signal 9; the system may have run out of memory" in error
    assert contents(output) == undisturbed
    (lost,) = varying(output)["lost_workers"]
    assert set(lost["cases"]) <= {*CASES, "cut"}


@pytest.mark.long
def test_two_workers_leave_what_one_does(command, undisturbed, tmp_path):
    command.run(tmp_path / "out", "--workers", "2", "-npp", "0", "-nps", "2")
    assert contents(tmp_path / "out") == undisturbed


def test_an_interrupted_run_tells_so_keeps_what_is_done_and_leaves_no_worker(command, undisturbed, tmp_path):
    output = tmp_path / "out"
    process = command.start(output)
    await_files(process, output, 9)
    workers = workers_of(process.pid)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, len(workers)) == (130, 1)
    assert "run it again with --continue_prediction to resume" in error
    assert "Traceback" not in error
    assert not Path(f"/proc/{workers[0]}").exists()
    assert set(contents(output)) < set(undisturbed)
    told = json.loads((output / "run.json").read_text())
    assert told["counts"]["left"] + told["counts"]["done"] + told["counts"]["failed"] == 5


def test_a_second_run_on_the_folder_is_refused_while_the_first_is_at_work(command, undisturbed, tmp_path):
    output = tmp_path / "out"
    first = command.start(output)
    await_files(first, output, 3)
    refused = command.run(output, "--continue_prediction").splitlines()[-1]
    assert f"is in use by a run on {os.uname().nodename}, process {first.pid}, since" in refused
    first.communicate(timeout=PATIENCE_SECONDS)
    assert contents(output) == undisturbed


@pytest.mark.long
def test_parts_side_by_side_leave_what_one_run_does(command, undisturbed, tmp_path):
    output = tmp_path / "out"
    parts = [command.start(output, "-num_parts", "2", "-part_id", str(part)) for part in range(2)]
    await_files(parts[0], output, 2)
    assert sorted(part.communicate(timeout=PATIENCE_SECONDS) and part.returncode for part in parts) == [0, 1]
    found = contents(output)
    own = ("run", "summary")
    assert {n: c for n, c in found.items() if not n.startswith(own)} == {
        n: c for n, c in undisturbed.items() if not n.startswith(own)
    }
    assert "must have the same number" in command.run(output, "-num_parts", "3", "-part_id", "2")
    assert contents(output) == found


@pytest.mark.long
def test_a_run_that_finds_no_room_for_images_says_so_and_leaves_none_half_written(command, undisturbed, tmp_path):
    size = max(len(content) for name, content in undisturbed.items() if name.startswith("a") and name != "a.json")
    error = command.run(tmp_path / "out", room=size - 1)
    assert "cannot be written (" in error
    assert "check the folder and the space left" in error
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["run.json", "summary.csv"]
    assert varying(tmp_path / "out")["attempts"] == dict.fromkeys((*CASES[:3], "cut", "d"), 2)


@pytest.mark.long
def test_a_folder_that_is_done_needs_no_model(command, undisturbed, tmp_path):
    output = tmp_path / "out"
    command.run(output)
    (command.inputs / "images" / "cut_0000.nii.gz").rename(command.inputs / "images" / "cut_0000.aside")
    try:
        error = command.run(output, "--continue_prediction", expected=0)
    finally:
        (command.inputs / "images" / "cut_0000.aside").rename(command.inputs / "images" / "cut_0000.nii.gz")
    assert "loading" not in error
    assert varying(output)["skipped"] == list(CASES)
    assert {n: c for n, c in contents(output).items() if not n.startswith(("run", "summary"))} == {
        n: c for n, c in undisturbed.items() if not n.startswith(("run", "summary"))
    }
