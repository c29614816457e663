"""Two runs on one folder refuse each other; parts of one number do not; a killed run holds nobody up."""

import errno
import json
import os
import subprocess
import sys
from contextlib import ExitStack, nullcontext

import pytest
from filelock import FileLock

from nnunet_cascade.case_folders import lock as run_lock
from nnunet_cascade.case_folders.lock import Part, hold_as_worker, hold_file, hold_folder
from nnunet_cascade.errors import RunError, SettingsError

fcntl = pytest.importorskip("fcntl")

WHOLE = Part()
HOLD = """
import os, signal, sys; from pathlib import Path
from nnunet_cascade.case_folders.lock import Part, hold_folder
with hold_folder(Path(sys.argv[1]), Part(num_parts=int(sys.argv[2]))):
    os.kill(os.getpid(), signal.SIGKILL)
"""


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
def test_a_second_run_is_refused_and_told_who_is_at_work(tmp_path, first, second):
    at_work = f"in use by a run on .*, process {os.getpid()}, since 20"
    with hold_folder(tmp_path, first), pytest.raises(RunError, match=at_work) as refused:
        try_to_hold(tmp_path, second)
    assert "\n" not in str(refused.value)


def test_parts_of_the_same_number_work_side_by_side(tmp_path):
    with hold_folder(tmp_path, part(0)):
        assert ".run_part1.lock" in try_to_hold(tmp_path, part(1))
        assert [path.name for path in tmp_path.iterdir()] == [".run_part0.lock"]


@pytest.mark.parametrize("num_parts", [1, 3])
def test_a_killed_run_holds_nobody_up_and_what_it_left_is_removed(tmp_path, num_parts):
    assert subprocess.run([sys.executable, "-c", HOLD, str(tmp_path), str(num_parts)], check=False).returncode == -9
    assert len(list(tmp_path.iterdir())) == 1
    assert try_to_hold(tmp_path) == [".run.lock"]
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_outlives_its_run_holds_the_next_run_up(tmp_path):
    with ExitStack() as worker:
        with hold_folder(tmp_path, WHOLE):
            worker.enter_context(hold_as_worker(WHOLE.worker_lock(tmp_path)))
        for _ in range(2):  # what a refused run leaves must still refuse the next one
            with pytest.raises(RunError, match="workers of an earlier run are still at work"):
                try_to_hold(tmp_path)
    assert try_to_hold(tmp_path) == [".run.lock"]
    assert list(tmp_path.iterdir()) == []


def test_workers_of_another_number_of_parts_hold_a_run_up(tmp_path):
    part(0, 3).lock(tmp_path).write_text(json.dumps({"num_parts": 3}))  # of a killed run
    with hold_as_worker(part(0, 3).worker_lock(tmp_path)), pytest.raises(RunError, match="workers of an earlier run"):
        try_to_hold(tmp_path, part(0, 2))


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


@pytest.mark.parametrize(
    ("name", "share", "message"),
    [
        (".run.lock", WHOLE, r"a run on there, process 7, since 2026 \(another user's.*remove .run.lock"),
        (".run.lock", part(0), r"a run on there, process 7, since 2026 \(another user's.*remove .run.lock"),
        (".run.workers", WHOLE, r"workers of an earlier run.*remove .run.workers there"),
    ],
)
def test_a_lock_that_another_user_may_hold_refuses_a_run_with_a_way_out(tmp_path, monkeypatch, name, share, message):
    path, opened = tmp_path / name, os.open
    path.write_text(json.dumps({"host": "there", "process": 7, "since": "2026", "num_parts": 1, "part_id": 0}))

    def refuse(asked, flags, *mode, **named):
        if asked == str(path) and flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), asked)
        return opened(asked, flags, *mode, **named)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "access", lambda asked, _how: asked != path)
    with pytest.raises(RunError, match=message):
        try_to_hold(tmp_path, share)
    assert path.is_file()


def test_several_workers_share_their_lock_and_their_errors_come_through(tmp_path):
    path = WHOLE.worker_lock(tmp_path)
    with pytest.raises(OSError, match="its own"), hold_as_worker(path), hold_as_worker(path), hold_as_worker(None):
        raise OSError("its own")


def test_a_folder_goes_on_with_the_number_of_parts_of_those_that_finished_or_whole(tmp_path):
    (tmp_path / "run_part0.json").write_text(json.dumps({"num_parts": 3}))
    with pytest.raises(RunError, match=r"-num_parts 3; found -num_parts 2.*remove the folder's run_part"):
        try_to_hold(tmp_path, part(1))
    assert ".run_part2.lock" in try_to_hold(tmp_path, part(2, 3))
    assert ".run.lock" in try_to_hold(tmp_path)


@pytest.mark.parametrize(("num_parts", "part_id"), [(0, 0), (2, 2), (2, -1)])
def test_parts_count_from_zero(num_parts, part_id):
    with pytest.raises(SettingsError, match="part_id counts from 0"):
        Part(num_parts=num_parts, part_id=part_id)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO])
def test_a_file_system_without_locks_is_a_warning_and_any_other_error_ends_the_run(
    tmp_path, monkeypatch, caplog, number
):
    def refused(_file, _how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    broken = number == errno.EIO
    with pytest.raises(OSError, match="Input/output error") if broken else nullcontext():
        try_to_hold(tmp_path)
    assert (os.strerror(number) in caplog.text) != broken


def test_a_run_that_opened_the_lock_before_its_holder_removed_it_still_keeps_others_off(tmp_path, monkeypatch):
    first, flock = ExitStack(), fcntl.flock
    first.enter_context(hold_folder(tmp_path, WHOLE))

    def end_the_first_run_before(file, how):
        first.pop_all().close()
        return flock(file, how)

    monkeypatch.setattr(fcntl, "flock", end_the_first_run_before)
    with hold_folder(tmp_path, WHOLE), pytest.raises(RunError, match="in use by a run on"):
        try_to_hold(tmp_path)


def test_a_run_that_begins_as_another_lets_go_keeps_others_off_to_its_end(tmp_path, monkeypatch):
    first, second, let_go = ExitStack(), ExitStack(), FileLock.release
    first.enter_context(hold_folder(tmp_path, WHOLE))

    def let_go_and_begin(lock, **how):
        let_go(lock, **how)
        monkeypatch.setattr(FileLock, "release", let_go)
        second.enter_context(hold_folder(tmp_path, WHOLE))

    monkeypatch.setattr(FileLock, "release", let_go_and_begin)
    first.close()
    with second, pytest.raises(RunError, match="in use by a run on"):
        try_to_hold(tmp_path)


def test_a_file_is_held_by_one_at_a_time_and_nothing_is_left_of_the_lock(tmp_path):
    with hold_file(tmp_path / "a.json"), pytest.raises(RunError, match=r"another process is writing .*a.json"):  # noqa: SIM117
        with hold_file(tmp_path / "a.json", patience_s=0):
            pass
    with hold_file(tmp_path / "a.json"):
        assert [path.name for path in tmp_path.iterdir()] == [".a.lock"]
    assert list(tmp_path.iterdir()) == []
