"""Workers as processes: what they say, how they end, and that none is left."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from builders.fake_workers import ct_folder, make

from nnunet_cascade.cohort.engine import Finished, Lost, Ready, Refused
from nnunet_cascade.cohort.jobs import CaseFiles, CohortJob
from nnunet_cascade.cohort.local_engine import LocalEngine, case_worker
from nnunet_cascade.errors import SettingsError
from nnunet_cascade.prediction.spec import CascadeSpec

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture
def job(tmp_path):
    (tmp_path / "out").mkdir()
    return CohortJob(bundle=tmp_path, spec=CascadeSpec(), output=tmp_path / "out", threads=1)


def files(tmp_path, *cases):
    """Cases whose names say what becomes of them."""
    return [CaseFiles(scan=scan) for scan in ct_folder(tmp_path / "in", *cases).values()]


def events(engine, kind, count=1):
    """Wait until something was heard so often; gives all that was heard."""
    heard = []
    while sum(isinstance(event, kind) for event in heard) < count:
        heard += engine.wait()
    return heard


def is_alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def gone(pid, seconds=20.0):
    end = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not is_alive(pid)


def test_a_worker_does_several_cases_side_by_side(job, tmp_path):
    with closing(LocalEngine(job, ["cpu"], make=make)) as engine:
        number = engine.start()
        assert engine.wait() == [Ready(number)]
        for each in files(tmp_path, "a", "bad", "b"):
            engine.submit(number, each)
        outcomes = {event.outcome.case: event.outcome for event in events(engine, Finished, 3)}
    assert [outcomes[case].status for case in ("a", "bad", "b")] == ["done", "failed", "done"]
    assert outcomes["bad"].error == "it is bad"


def test_a_killed_worker_is_lost_with_the_reason_in_words_and_costs_nobody_else(job, tmp_path):
    with closing(LocalEngine(job, ["cpu"], workers=2, make=make)) as engine:
        first, second = engine.start(), engine.start()
        events(engine, Ready, 2)
        poison, good = files(tmp_path, "poison", "a")
        engine.submit(first, poison)
        (lost,) = [event for event in events(engine, Lost) if isinstance(event, Lost)]
        assert lost == Lost(first, "ended by signal 9; the system may have run out of memory")
        engine.submit(first, good)  # too late, and no error
        engine.submit(second, good)
        assert engine.wait()[0].outcome.status == "done"


def test_a_worker_that_cannot_load_refuses_or_is_lost_with_its_reason_in_a_line_and_prints_nothing(job, capfd):
    with closing(LocalEngine(job, ["mps", "cuda:8", "cuda:9"], workers=3, make=make)) as engine:
        numbers = [engine.start() for _ in range(3)]
        heard = {number: [] for number in numbers}
        while engine._workers:
            for event in engine.wait():
                heard[event.worker].append(event)
    refused, _ = heard[0]
    assert (type(refused), str(refused.error)) == (Refused, "no models for this device")
    assert heard[1] == [Lost(1, "cannot load the models: RuntimeError: CUDA error: out of memory")]
    assert heard[2] == [Lost(2, "ended by signal 9; the system may have run out of memory")]
    assert capfd.readouterr() == ("", "")


def test_a_replaced_worker_takes_the_device_of_the_one_that_was_lost(job, monkeypatch):
    devices = []

    def process(args, **_):
        devices.append(args[2])
        return SimpleNamespace(start=lambda: None, kill=lambda: None, join=lambda: None)

    engine = LocalEngine(job, ["cuda:0", "cuda:1"], workers=4)
    monkeypatch.setattr(engine._context, "Process", process, raising=False)
    with closing(engine):
        numbers = [engine.start() for _ in range(4)]
        engine._workers.pop(numbers[1])
        engine.start()
    assert devices == ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:1"]


def test_closing_does_not_wait_for_cases_under_way(job, tmp_path):
    begun = time.monotonic()
    with closing(LocalEngine(job, ["cpu"], make=make)) as engine:
        number = engine.start()
        events(engine, Ready)
        engine.submit(number, files(tmp_path, "slow")[0])
        pid = engine._workers[number].process.pid
    assert gone(pid)
    assert time.monotonic() - begun < 40
    assert engine.wait() == []


PARENT = """
import sys
from contextlib import closing
from pathlib import Path
from tqdm import tqdm
from nnunet_cascade.cohort.jobs import CaseFiles, CohortJob
from nnunet_cascade.cohort.local_engine import LocalEngine
from nnunet_cascade.scans.scans import Scan
from nnunet_cascade.prediction.spec import CascadeSpec

def make(job, device):
    sys.path.insert(0, sys.argv[1])
    from builders.fake_workers import FakeWorker
    list(tqdm(range(2), disable=True))  # as nnU-Net's bars
    return FakeWorker(job, device)

if __name__ == "__main__":
    job = CohortJob(bundle=Path(), spec=CascadeSpec(), output=Path(sys.argv[2]), threads=1)
    with closing(LocalEngine(job, ["cpu"], make=make)) as engine:
        number = engine.start()
        engine.wait()
        for case in sys.argv[3:]:
            engine.submit(number, CaseFiles(scan=Scan(case=case, path=Path("x"))))
            engine.wait()
"""


@pytest.fixture
def parent(job, tmp_path):
    """Give the command of a process that starts a worker and hands it cases."""
    (tmp_path / "parent.py").write_text(PARENT)
    return [*map(str, [sys.executable, tmp_path / "parent.py", Path(__file__).parents[1], job.output])]


def test_a_worker_with_progress_bars_leaves_nothing_for_the_system_to_clear(parent):
    done = subprocess.run(parent, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_workers_end_with_a_parent_that_is_killed(parent, job):
    parent = subprocess.Popen([*parent, "slow"])
    started = job.output / "slow.started"
    end = time.monotonic() + 60
    while not started.is_file() and time.monotonic() < end:
        time.sleep(0.05)
    worker = int(started.read_text())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert gone(worker)


@pytest.mark.filterwarnings("ignore")
def test_a_device_that_is_not_there_is_refused_in_one_line(job):
    with pytest.raises(SettingsError, match=r"found \d CUDA devices, counted from 0"):
        case_worker(job, "cuda:7")
