"""Jobs done in several processes."""

import operator
import os
from concurrent.futures import ProcessPoolExecutor
from time import sleep

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_cascade.case_folders.pool import map_in_processes


class Deadly(int):
    """A number that ends the process it is sent to."""

    __slots__ = ()

    def __reduce__(self):
        return os._exit, (9,)


def never(job):
    raise AssertionError(f"job {job} was not killed")


def test_two_processes_find_what_one_finds_each_job_once_though_some_are_the_same():
    jobs = [3, 1, 3, 0]
    assert sorted(map_in_processes(operator.neg, jobs, 2, killed=never)) == [(0, 0), (1, -1), (3, -3), (3, -3)]


@given(st.lists(st.integers()))
def test_one_process_does_them_in_their_order(jobs):
    assert list(map_in_processes(operator.neg, jobs, 1, killed=never)) == [(job, -job) for job in jobs]


@pytest.mark.parametrize("processes", [1, 2])
def test_no_jobs_have_no_results(processes):
    assert list(map_in_processes(operator.neg, [], processes, killed=never)) == []


def test_a_killed_process_costs_its_own_job(caplog):
    made = map_in_processes(operator.neg, [1, Deadly(2), 3], 2, killed=lambda job: f"{int(job)} was killed")
    assert sorted(made, key=lambda done: done[0]) == [(1, -1), (2, "2 was killed"), (3, -3)]
    assert "one by one" in caplog.text


def test_a_process_that_is_killed_while_jobs_are_handed_out_costs_its_own_job(monkeypatch):
    submit = ProcessPoolExecutor.submit

    def slowly(pool, work, job):
        future = submit(pool, work, job)
        if isinstance(job, Deadly):
            future.exception()
        return future

    monkeypatch.setattr(ProcessPoolExecutor, "submit", slowly)
    made = map_in_processes(operator.neg, [Deadly(1), 2, 3], 2, killed=lambda job: f"{int(job)} was killed")
    assert sorted(made, key=lambda done: done[0]) == [(1, "1 was killed"), (2, -2), (3, -3)]


def test_an_error_of_a_job_is_raised():
    with pytest.raises(TypeError):
        list(map_in_processes(operator.neg, [1, "a", 3], 2, killed=never))


def test_closed_it_does_no_more_than_the_jobs_at_hand(tmp_path):
    done = map_in_processes(os.mkdir, [tmp_path / str(number) for number in range(40)], 2, killed=never)
    next(done)
    done.close()
    made = len(list(tmp_path.iterdir()))
    assert 1 <= made < 40
    sleep(0.2)
    assert len(list(tmp_path.iterdir())) == made
