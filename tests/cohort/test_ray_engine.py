"""Workers as Ray actors, first with models that are none, then the tiny cascade."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from nnunet_cascade.cohort.engine import Finished, Lost, Ready
from nnunet_cascade.cohort.jobs import CaseFiles, CaseOutcome, CohortJob
from nnunet_cascade.cohort.ray_connection import RayConnection
from nnunet_cascade.cohort.ray_engine import CascadeActor, RayEngine, _absolute
from nnunet_cascade.errors import BundleError, SettingsError
from nnunet_cascade.prediction.spec import CascadeSpec
from nnunet_cascade.scans.scans import Scan

pytest.importorskip("ray")
pytestmark = pytest.mark.timeout(180)


def make_fake():
    """A function that Ray carries whole, for a test's module is not on the actors' path."""

    def make(job, device):
        together, both = [], asyncio.Event()

        class Fake:
            async def predict(self, files):
                if files.case == "kill":
                    await asyncio.sleep(0.2)
                    os.kill(os.getpid(), signal.SIGKILL)
                if files.case == "raise":
                    raise ValueError("no such thing")
                if files.case.startswith("pair"):
                    together.append(files.case)
                    both.set() if len(together) == 2 else await both.wait()
                facts = [os.getpid(), os.environ["OMP_NUM_THREADS"], job.threads, device, Path.cwd(), files.scan.path]
                return CaseOutcome(case=files.case, status="done", error=" ".join(map(str, facts)))

        if "refuse" in job.notes:
            raise BundleError("the bundle is not what it was")
        if "stumble" in job.notes:
            raise KeyError("something nobody thought of")
        return Fake()

    return make


@pytest.fixture
def job(tmp_path):
    for name in ("bundle", "output"):
        (tmp_path / name).mkdir()

    def make(threads=1, **changes):
        folders = {"bundle": tmp_path / "bundle", "output": tmp_path / "output"}
        return CohortJob(**folders, spec=CascadeSpec(), threads=threads, **changes)

    return make


@pytest.fixture(scope="module")
def running_ray():
    """A Ray that is there already, for most of these tests."""
    connection = RayConnection(cpus=4)
    yield connection.ray
    connection.close()


@pytest.fixture
def engine(running_ray):  # noqa: ARG001 - it runs
    """Give engines, ended with the test."""
    engines = []

    def start(job, **changes):
        settings = {"device": "cpu", "workers": 1, "make": make_fake(), **changes}
        engines.append(RayEngine(job, **settings))
        return engines[-1]

    yield start
    for one in engines:
        one.close()


def case(name, folder=Path("images")):
    return CaseFiles(scan=Scan(case=name, path=folder / f"{name}_0000.nii.gz"))


def test_paths_mean_the_same_in_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    series = Scan(case="a", path=Path("a"), series_uid="1.2", slices=(Path("a/1"), Path("a/2")))
    files = CaseFiles(scan=series, lungs=(Path("l/a"), Path("l/b")))
    expected = replace(series, path=tmp_path / "a", slices=(tmp_path / "a/1", tmp_path / "a/2"))
    assert _absolute(files) == CaseFiles(scan=expected, lungs=(tmp_path / "l/a", tmp_path / "l/b"))


def events_of(engine, count):
    """Wait for so many events."""
    events = []
    while len(events) < count:
        events += engine.wait()
    assert len(events) == count, events
    return events


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_cases_go_to_the_actor_and_their_outcomes_come_back(engine, job, running_ray, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ray = engine(job(threads=2))
    assert ray.wait() == []
    worker = ray.start()
    assert events_of(ray, 1) == [Ready(worker)]
    ray.submit(worker, case("raise"))
    [finished] = events_of(ray, 1)
    assert (finished.outcome.status, finished.outcome.error) == ("failed", "ValueError: no such thing")
    ray.submit(worker, case("a"))
    [finished] = events_of(ray, 1)
    pid, omp, threads, device, folder, image = finished.outcome.error.split()
    assert (finished.worker, finished.outcome.case, device) == (worker, "a", "cpu")
    assert int(pid) != os.getpid()
    assert (omp, threads) == ("2", "2")  # whatever Ray sets for one CPU
    assert Path(folder) == tmp_path
    assert Path(image) == tmp_path / "images/a_0000.nii.gz"
    ray.close()
    assert not is_alive(int(pid))
    assert running_ray.is_initialized()  # whose Ray it is ends it


@pytest.mark.long
def test_an_actor_holds_several_cases_at_a_time_and_its_end_costs_them_alone(engine, job):
    ray = engine(job(), workers=2)
    first, second = ray.start(), ray.start()
    assert sorted(map(repr, events_of(ray, 2))) == sorted(map(repr, [Ready(first), Ready(second)]))
    for name in ("pair1", "pair2"):  # each waits for the other
        ray.submit(first, case(name))
    assert {event.outcome.case for event in events_of(ray, 2)} == {"pair1", "pair2"}
    ray.submit(first, case("kill"))
    ray.submit(first, case("behind"))
    ray.submit(second, case("elsewhere"))
    events = events_of(ray, 3)
    assert {e.outcome.case for e in events if isinstance(e, Finished)} == {"behind", "elsewhere"}
    [lost] = [event for event in events if isinstance(event, Lost)]
    assert lost.worker == first
    assert lost.reason.startswith("was lost (ActorDiedError: its worker process has died")
    assert "\n" not in lost.reason
    ray.submit(first, case("late"))
    third = ray.start()
    assert third not in {first, second}
    assert events_of(ray, 1) == [Ready(third)]


@pytest.mark.long
def test_models_that_no_worker_can_load_refuse_the_run(engine, job):
    ray = engine(job(notes=("refuse",)))
    worker = ray.start()
    [refused] = events_of(ray, 1)
    assert (refused.worker, str(refused.error)) == (worker, "the bundle is not what it was")
    assert isinstance(refused.error, BundleError)


@pytest.mark.long
def test_a_worker_that_stumbles_while_it_loads_is_lost(engine, job):
    ray = engine(job(notes=("stumble",)))
    worker = ray.start()
    [lost] = events_of(ray, 1)
    assert (lost.worker, lost.reason) == (worker, "was lost (KeyError: 'something nobody thought of')")


def test_a_machine_that_does_not_see_the_folders_is_named(job, tmp_path):
    (tmp_path / "bundle").rmdir()
    refused = asyncio.run(CascadeActor(job(), "cpu", str(tmp_path), make_fake()).load())
    assert isinstance(refused, SettingsError)
    assert f"has no folder {tmp_path / 'bundle'}" in str(refused)


def test_a_device_that_no_machine_has_is_refused(engine, job):
    with pytest.raises(SettingsError, match=r"no machine.*1 CPUs and 1 GPU"):
        engine(job(), device="cuda")


def test_a_numbered_gpu_is_refused_before_ray_starts(job):
    with pytest.raises(SettingsError, match="a GPU of its own"):
        RayEngine(job(), "cuda:1", 1)


def test_without_ray_the_extra_is_named(job, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingsError, match=r"nnunet-cascade\[ray\]"):
        RayEngine(job(), "cpu", 1)


OWN_RAY = """
import sys
import tempfile
import time
from pathlib import Path
from nnunet_cascade.cohort.jobs import CaseFiles, CohortJob
from nnunet_cascade.cohort.ray_engine import RayEngine
from nnunet_cascade.scans.scans import Scan
from nnunet_cascade.prediction.spec import CascadeSpec

def make(job, device):
    import asyncio, os
    from nnunet_cascade.cohort.jobs import CaseOutcome
    class Slow:
        async def predict(self, files):
            print("a worker's line, which belongs in no terminal")
            await asyncio.sleep(600 if files.case == "long" else 0)
            return CaseOutcome(case=files.case, status="done", error=str(os.getpid()))
    return Slow()

def wait():
    for event in engine.wait():
        print(getattr(getattr(event, "outcome", None), "error", "ready"), flush=True)

folder = Path(sys.argv[1])
engine = RayEngine(CohortJob(bundle=folder, output=folder, spec=CascadeSpec()), "cpu", 1, make=make)
try:
    worker = engine.start()
    wait()
    for case in ("short", *sys.argv[2:]):
        engine.submit(worker, CaseFiles(scan=Scan(case=case, path=folder / "ct.nii.gz")))
        wait()
except KeyboardInterrupt:
    print("interrupted", flush=True)
finally:
    engine.close()
"""


def own_ray(folder, *cases):
    """Start a run with a Ray of its own; gives the process, once a case is done, and that of the actor."""
    environment = {**os.environ, "RAY_ADDRESS": "local"}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", OWN_RAY, str(folder), *cases],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    lines = [process.stdout.readline().strip() for _ in range(2)]
    if lines[0] != "ready" or not lines[1]:
        pytest.fail(process.stderr.read())
    return process, int(lines[1])


def sessions():
    return set(Path(tempfile.gettempdir(), "ray").glob("session_2*"))


@pytest.mark.long
@pytest.mark.parametrize(("cases", "said"), [((), ""), (("long",), "interrupted\n")], ids=["done", "Ctrl-C"])
def test_a_ray_of_its_own_ends_with_the_engine_and_says_nothing(tmp_path, cases, said):
    before = sessions()
    process, actor = own_ray(tmp_path, *cases)
    if cases:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all
    assert process.communicate(timeout=60) == (said, "")
    assert process.returncode == 0
    assert not is_alive(actor)
    assert sessions() <= before


@pytest.mark.long
def test_nothing_of_it_outlives_a_killed_parent(tmp_path):
    process, actor = own_ray(tmp_path, "long")
    process.kill()
    process.communicate(timeout=60)
    end = time.monotonic() + 30
    while is_alive(actor) and time.monotonic() < end:
        time.sleep(0.1)
    assert not is_alive(actor)


class NoRay:
    """A Ray that is asked where it is to be found."""

    def __init__(self, nodes=()):
        self.asked, self.found = [], list(nodes)

    def is_initialized(self):
        return False

    def init(self, address=None, **_):
        if os.environ.get("RAY_ADDRESS") == "nonsense":
            raise ValueError("Malformed address")
        self.asked.append(address)
        return SimpleNamespace(address_info={"session_dir": "nowhere"})

    def nodes(self):
        return self.found

    def shutdown(self):
        self.asked.append("end")


@pytest.mark.parametrize(
    ("left", "nodes", "asked"),
    [
        ("127.0.0.1:1", [], ["local"]),
        (None, [{"NodeName": "theirs"}], ["auto"]),
        (None, [{"NodeName": "nnunet-cascade"}], ["auto", "end", "local"]),
    ],
    ids=["a killed Ray left its address", "one was started by hand", "one belongs to another run"],
)
def test_a_ray_is_joined_only_where_it_stays(tmp_path, monkeypatch, left, nodes, asked):
    if left is not None:
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(left)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", NoRay(nodes))
    connection = RayConnection(cpus=1)
    assert connection.ray.asked == asked
    connection.close()
    assert connection.ray.asked == [*asked, "end"]


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:1"])
def test_an_address_where_nobody_answers_is_named(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setitem(sys.modules, "ray", NoRay())
    with pytest.raises(SettingsError, match=r"Ray cannot be reached or started .* check RAY_ADDRESS"):
        RayConnection(cpus=1)
    assert sys.modules["ray"].asked == ["end"]
