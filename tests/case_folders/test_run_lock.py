"""Two runs on one folder refuse each other; parts of one number do not; a killed run holds nobody up."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from nnunet_cascade.case_folders import lock as run_lock
from nnunet_cascade.case_folders.lock import Part, hold_as_worker, hold_file, hold_folder
from nnunet_cascade.errors import RunError, SettingsError

fcntl = pytest.importorskip("fcntl")

WHOLE = Part()
HOLD = """
import sys; from pathlib import Path
from nnunet_cascade.case_folders.lock import Part, hold_as_worker, hold_folder
folder, parts, part, how = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
share = Part(num_parts=parts, part_id=part)
with hold_folder(folder, share) if how == "run" else hold_as_worker(share.worker_lock(folder)):
    print("holds", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Start processes that hold the folder as a run or as a worker."""
    started = []

    def hold(share=WHOLE, how="run"):
        arguments = [sys.executable, "-c", HOLD, str(tmp_path), str(share.num_parts), str(share.part_id), how]
        process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "holds\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(run_lock, "_PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(run_lock, "_PROBES_SECONDS", 0.2)


def try_to_hold(folder, share=WHOLE):
    with hold_folder(folder, share):
        return sorted(path.name for path in folder.iterdir())


def part(part_id, num_parts=2):
    return Part(num_parts=num_parts, part_id=part_id)


def test_nothing_is_left_of_a_lock(tmp_path):
    assert try_to_hold(tmp_path) == [".run.lock"]
    assert try_to_hold(tmp_path, part(1)) == [".run_part1.lock"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("first", "second"), [(Part(), Part()), (part(0), part(0)), (Part(), part(0)), (part(0), Part()),
                          (part(0), part(1, 3))],
)  # fmt: skip
def test_a_second_run_is_refused_and_told_who_is_at_work(holder, tmp_path, first, second):
    process = holder(first)
    with pytest.raises(RunError, match=f"in use by a run on .*, process {process.pid}, since 20") as refused:
        try_to_hold(tmp_path, second)
    assert "\n" not in str(refused.value)
    assert process.poll() is None


def test_parts_of_the_same_number_work_side_by_side(holder, tmp_path):
    holder(part(0))
    assert ".run_part1.lock" in try_to_hold(tmp_path, part(1))
    assert [path.name for path in tmp_path.iterdir()] == [".run_part0.lock"]


def test_the_folder_is_free_when_a_run_has_ended(holder, tmp_path):
    process = holder()
    process.communicate()
    assert try_to_hold(tmp_path) == [".run.lock"]


@pytest.mark.parametrize("share", [Part(), part(0, 3)])
def test_a_killed_run_holds_nobody_up_and_what_it_left_is_removed(holder, tmp_path, share):
    process = holder(share)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert try_to_hold(tmp_path) == [".run.lock"]
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_outlives_its_run_holds_the_next_run_up(holder, tmp_path):
    process = holder(how="worker")
    for _ in range(2):  # what a refused run leaves must still refuse the next one
        with pytest.raises(RunError, match="workers of an earlier run are still at work"):
            try_to_hold(tmp_path)
    process.kill()
    process.wait()
    assert try_to_hold(tmp_path) == [".run.lock"]
    assert list(tmp_path.iterdir()) == []


def test_workers_of_another_number_of_parts_hold_a_run_up(holder, tmp_path):
    run = holder(part(0, 3))
    holder(part(0, 3), how="worker")
    run.kill()
    run.wait()
    with pytest.raises(RunError, match="workers of an earlier run"):
        try_to_hold(tmp_path, part(0, 2))


def test_a_run_that_ends_leaves_the_lock_of_a_worker_that_does_not(holder, tmp_path):
    with hold_folder(tmp_path, WHOLE):
        holder(how="worker")
    with pytest.raises(RunError, match="workers of an earlier run"):
        try_to_hold(tmp_path)


def test_a_worker_opens_its_lock_for_reading_too_as_nfs_demands(tmp_path, monkeypatch):
    modes = []
    flock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", lambda file, how: (modes.append(file.mode), flock(file, how)))
    with hold_as_worker(WHOLE.worker_lock(tmp_path)):
        assert modes == ["ab+"]


def test_a_worker_waits_for_a_run_that_only_looks(tmp_path, monkeypatch):
    answers = [BlockingIOError(errno.EAGAIN, "held"), None]

    def busy_at_first(_file, _how):
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    monkeypatch.setattr(fcntl, "flock", busy_at_first)
    with hold_as_worker(WHOLE.worker_lock(tmp_path)):
        assert answers == []


def test_a_worker_that_gets_no_lock_says_so_and_goes_on(tmp_path, caplog):
    with hold_as_worker(tmp_path / "nowhere" / ".run.workers"):
        pass
    assert "nowhere/.run.workers cannot be locked (No such file or directory)" in caplog.text


class TestAnotherUsersFiles:
    """A lock file that may be read and not written: who has it cannot be known."""

    @pytest.fixture
    def of_another_user(self, tmp_path, monkeypatch):
        opened = os.open

        def build(name, content="{}"):
            path = tmp_path / name
            path.write_text(content)

            def refuse(asked, flags, *mode, **named):
                if asked == str(path) and flags & os.O_RDWR:
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), asked)
                return opened(asked, flags, *mode, **named)

            monkeypatch.setattr(os, "open", refuse)
            monkeypatch.setattr(os, "access", lambda asked, _how: asked != path)
            return path

        return build

    HOLDER = json.dumps({"host": "there", "process": 7, "since": "2026", "num_parts": 1, "part_id": 0})

    @pytest.mark.parametrize("share", [WHOLE, part(0)])
    def test_the_run_is_refused_with_a_way_out(self, of_another_user, tmp_path, share):
        path = of_another_user(".run.lock", self.HOLDER)
        with pytest.raises(RunError, match=r"a run on there, process 7, since 2026 \(another user's.*remove .run.lock"):
            try_to_hold(tmp_path, share)
        assert path.is_file()

    def test_workers_hold_a_run_up_as_well(self, of_another_user, tmp_path):
        of_another_user(".run.workers")
        with pytest.raises(RunError, match=r"workers of an earlier run.*remove .run.workers there"):
            try_to_hold(tmp_path)


def test_several_workers_share_their_lock(tmp_path):
    path = Part().worker_lock(tmp_path)
    with hold_as_worker(path), hold_as_worker(path), hold_as_worker(None):
        pass


def test_an_error_of_a_worker_comes_through(tmp_path):
    with pytest.raises(OSError, match="its own"), hold_as_worker(Part().worker_lock(tmp_path)):
        raise OSError("its own")


class TestParts:
    @pytest.fixture
    def finished(self, tmp_path):
        (tmp_path / "run_part0.json").write_text(json.dumps({"num_parts": 3}))
        return tmp_path

    def test_another_number_of_parts_than_those_that_finished_is_refused_with_a_way_out(self, finished):
        with pytest.raises(RunError, match=r"-num_parts 3; found -num_parts 2.*remove the folder's run_part"):
            try_to_hold(finished, part(1))

    def test_one_run_may_follow_parts(self, finished):
        assert ".run.lock" in try_to_hold(finished)

    def test_the_same_number_goes_on(self, finished):
        assert ".run_part2.lock" in try_to_hold(finished, part(2, 3))

    @pytest.mark.parametrize(("num_parts", "part_id"), [(0, 0), (2, 2), (2, -1)])
    def test_parts_count_from_zero(self, num_parts, part_id):
        with pytest.raises(SettingsError, match="part_id counts from 0"):
            Part(num_parts=num_parts, part_id=part_id)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, caplog, number):
    def refused(_file, _how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    try_to_hold(tmp_path)
    assert os.strerror(number) in caplog.text


def test_any_other_error_of_a_lock_ends_the_run(tmp_path, monkeypatch, caplog):
    def broken(_file, _how):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="Input/output error"):
        try_to_hold(tmp_path)
    assert caplog.text == ""


def test_a_run_that_opened_the_lock_before_its_holder_removed_it_still_keeps_others_off(holder, tmp_path, monkeypatch):
    first, flock = holder(), fcntl.flock
    monkeypatch.setattr(run_lock, "_PROBES_SECONDS", 60.0)

    def end_the_first_run_before(file, how):
        if first.poll() is None:
            first.communicate()
        return flock(file, how)

    monkeypatch.setattr(fcntl, "flock", end_the_first_run_before)
    with hold_folder(tmp_path, WHOLE):
        assert first.returncode == 0
        command = [sys.executable, "-c", HOLD, str(tmp_path), "1", "0", "run"]
        third = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert f"in use by a run on {socket.gethostname()}, process {os.getpid()}" in third.stderr
        assert third.stdout == ""


def test_a_process_cannot_hold_a_folder_twice(tmp_path):
    with hold_folder(tmp_path, WHOLE), pytest.raises(RunError, match=f"process {os.getpid()}"):
        try_to_hold(tmp_path)


def test_a_file_is_held_by_one_at_a_time_and_nothing_is_left_of_the_lock(tmp_path):
    with hold_file(tmp_path / "a.json"), pytest.raises(RunError, match=r"another process is writing .*a.json"):  # noqa: SIM117
        with hold_file(tmp_path / "a.json", patience_s=0):
            pass
    with hold_file(tmp_path / "a.json"):
        assert [path.name for path in tmp_path.iterdir()] == [".a.lock"]
    assert list(tmp_path.iterdir()) == []
