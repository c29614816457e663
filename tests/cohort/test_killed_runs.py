"""The real command, killed, interrupted, refused and shared out, here and on a cluster; each ends as one run does."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from builders.run_folders import contents

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]
CASES = ("a", "b", "c", "d")
OPTIONS = ("-device", "cpu", "--mc_samples", "2", "--disable_tta")
PATIENCE_SECONDS = 600
BIN = Path(sys.executable).parent
SLURM = Path(__file__).parents[2] / "docs" / "examples" / "slurm.sh"


class Command:
    """nnc-cascade-predict on four good CTs and a truncated one, the true tumors being stage 1's masks."""

    def __init__(self, bundle, inputs):
        self.bundle, self.inputs = bundle, inputs
        self.options = ["--stage1_predictions", inputs / "masks", *OPTIONS]

    def start(self, output, *options, room=None):
        limit = "" if room is None else f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room})); "
        begin = f"import os, resource, sys; {limit}os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        program = [sys.executable, "-c", begin, BIN / "nnc-cascade-predict"]
        folders = ["-i", self.inputs / "images", "-o", output, "-m", self.bundle]
        return started([*program, *folders, *self.options, *options])

    def task(self, output, number):
        """Start a task of a Slurm array of two."""
        array = {"SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_MAX": "1"}
        own = {"PATH": f"{BIN}:{os.environ['PATH']}", "SLURM_CPUS_PER_TASK": "1", "SLURM_ARRAY_TASK_ID": str(number)}
        return started([SLURM, self.inputs / "images", output, self.bundle, *self.options], **array, **own)

    def run(self, output, *options, expected=1, room=None):
        process = self.start(output, *options, room=room)
        error = ended(process)
        assert process.returncode == expected, error[-4000:]
        assert "Traceback" not in error
        return error


def started(arguments, **variables):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_ADDRESS": "local", **variables}
    return subprocess.Popen(
        [*map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    )


def ended(process):
    return process.communicate(timeout=PATIENCE_SECONDS)[1]


@pytest.fixture(scope="module")
def command(tiny_cascade, tmp_path_factory):
    inputs = tmp_path_factory.mktemp("inputs")
    for folder in ("images", "masks"):
        (inputs / folder).mkdir()
    for case in (*CASES, "cut"):
        shutil.copyfile(tiny_cascade.test_image, inputs / "images" / f"{case}_0000.nii.gz")
        shutil.copyfile(tiny_cascade.test_truth, inputs / "masks" / f"{case}.nii.gz")
    (inputs / "images" / "cut_0000.nii.gz").write_bytes(tiny_cascade.test_image.read_bytes()[:2000])
    return Command(tiny_cascade.bundle, inputs)


@pytest.fixture(scope="module")
def undisturbed(command, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    assert "cut: " in command.run(output)
    found = contents(output)
    assert found["run.json"]["counts"] == {"done": 4, "failed": 1, "left": 0}
    assert "cut_0000.nii.gz cannot be read" in found["run.json"]["cases"]["cut"]["error"]
    assert any(case.get("tumor_ml") for case in found["run.json"]["cases"].values())
    return found


def varying(output):
    return json.loads((output / "run.json").read_text())["varying"]


def of_cases(found):
    return {name: content for name, content in found.items() if not name.startswith(("run", "summary"))}


def await_files(process, output, count, names="*"):
    """Wait until a run has so many files in its folder, finished or not."""
    end = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < end:
        if len(list(output.glob(names))) >= count:
            return
        time.sleep(0.002)


def workers_of(run, named=b"spawn_main"):
    """Process ids of the workers that descend from a run."""
    parents, found = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if named in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))

    def descends(pid):
        return pid == run or (pid in parents and descends(parents[pid]))

    return [pid for pid in found if descends(pid)]


def test_an_interrupted_run_tells_so_keeps_what_is_done_and_leaves_no_worker(command, tmp_path):
    output = tmp_path / "out"
    process = command.start(output)
    await_files(process, output, 9)
    workers = workers_of(process.pid)
    process.send_signal(signal.SIGTERM)
    error = ended(process)
    assert (process.returncode, len(workers)) == (130, 1)
    assert "run it again with --continue_prediction to resume" in error
    assert "Traceback" not in error
    assert not Path(f"/proc/{workers[0]}").exists()
    assert not list(output.glob(".*"))
    told = json.loads((output / "run.json").read_text())
    assert told["counts"]["left"] > 0
    assert sum(told["counts"].values()) == 5


@pytest.mark.long
class TestEndsAsAnUndisturbedRun:
    def test_killed_again_and_again(self, command, undisturbed, tmp_path):
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

    def test_with_a_worker_that_is_killed(self, command, undisturbed, tmp_path):
        output = tmp_path / "out"
        process = command.start(output)
        await_files(process, output, 12)
        (worker,) = workers_of(process.pid)
        os.kill(worker, signal.SIGKILL)
        error = ended(process)
        assert process.returncode == 1
        assert "ended by signal 9; the system may have run out of memory" in error
        assert contents(output) == undisturbed
        (lost,) = varying(output)["lost_workers"]
        assert set(lost["cases"]) <= {*CASES, "cut"}

    def test_with_ray_actors_that_are_killed(self, command, undisturbed, tmp_path):
        pytest.importorskip("ray")
        output = tmp_path / "out"
        process = command.start(output, "--engine", "ray", "--workers", "2")
        await_files(process, output, 1, "*.nii.gz")
        for pid in workers_of(process.pid, b"ray::CascadeActor"):  # one is writing a case and holds another
            os.kill(pid, signal.SIGKILL)
        error = ended(process)
        assert process.returncode == 1, error
        assert varying(output)["engine"] == "ray"
        assert varying(output)["lost_workers"]
        assert contents(output) == undisturbed

    def test_with_two_workers(self, command, undisturbed, tmp_path):
        command.run(tmp_path / "out", "--workers", "2", "-npp", "0", "-nps", "2")
        assert contents(tmp_path / "out") == undisturbed

    def test_while_a_second_one_on_its_folder_is_refused(self, command, undisturbed, tmp_path):
        output = tmp_path / "out"
        first = command.start(output)
        await_files(first, output, 3)
        refused = command.run(output, "--continue_prediction").splitlines()[-1]
        assert f"is in use by a run on {os.uname().nodename}, process {first.pid}, since" in refused
        ended(first)
        assert contents(output) == undisturbed

    def test_as_tasks_of_a_slurm_array_one_of_which_was_preempted(self, command, undisturbed, tmp_path):
        output = tmp_path / "out"
        with command.task(output, 0) as preempted:
            await_files(preempted, output, 1, "a.json")
            preempted.terminate()
            assert "Traceback" not in ended(preempted)
        tasks = [command.task(output, number) for number in (0, 1)]  # side by side, in one folder
        for task, code in zip(tasks, (0, 1), strict=True):
            error = ended(task)
            assert task.returncode == code, error
        found = contents(output)
        assert of_cases(found) == of_cases(undisturbed)
        parts = [found[f"run_part{number}.json"]["cases"] for number in (0, 1)]
        assert [sorted(part) for part in parts] == [["a", "c", "d"], ["b", "cut"]]
        assert {**parts[0], **parts[1]} == undisturbed["run.json"]["cases"]
        own = {f"{name}_part{number}" for number in (0, 1) for name in ("run", "summary")}
        assert {Path(name).stem for name in set(found) - set(undisturbed)} == own


@pytest.mark.long
def test_a_run_that_finds_no_room_for_images_says_so_and_leaves_none_half_written(command, undisturbed, tmp_path):
    size = max(len(content) for name, content in undisturbed.items() if name.startswith("a") and name != "a.json")
    error = command.run(tmp_path / "out", room=size - 1)
    assert "cannot be written (" in error
    assert "check the folder and the space left" in error
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["run.json", "summary.csv"]
    assert varying(tmp_path / "out")["attempts"] == dict.fromkeys((*CASES[:3], "cut", "d"), 2)
