"""Who does what, with an engine whose workers die, refuse and finish out of order as a test wants it."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_cascade.cohort.dispatch import Dispatcher
from nnunet_cascade.cohort.engine import Finished, Lost, Ready, Refused
from nnunet_cascade.cohort.jobs import CaseFiles, CaseOutcome
from nnunet_cascade.errors import BundleError, InputImageError, RunError
from nnunet_cascade.scans.scans import Scan


def case(name):
    return CaseFiles(scan=Scan(case=name, path=Path(name)))


def cases(*names):
    return iter([case(name) for name in names])


class FakeEngine:
    """Workers that do one thing per `wait`.

    `fate(worker, held, times)` says what becomes of a worker that holds cases: "done", "failed", "lost", and by
    a second word of which case; `times` counts how often each case was handed out.
    """

    def __init__(self, fate=lambda _worker, held, _times: ("done", held[0]), at_start=Ready):
        self.fate, self.at_start = fate, at_start
        self.starting, self.held, self.log, self.times, self.most = [], {}, [], Counter(), Counter()

    def start(self):
        number = len(self.held) + len([entry for entry in self.log if entry[0] == "lost"])
        self.held[number] = []
        self.starting.append(number)
        return number

    def submit(self, worker, files):
        assert worker not in self.starting, "a case was handed to a worker that is not ready"
        self.held[worker].append(files.case)
        self.times[files.case] += 1
        self.most[worker] = max(self.most[worker], len(self.held[worker]))
        self.log.append(("submit", worker, files.case))

    def wait(self):
        if self.starting:
            number = self.starting.pop(0)
            event = self.at_start(number)
            if isinstance(event, Lost):
                self._lose(number)
            return [event]
        for worker, held in list(self.held.items()):
            if held:
                return [self._end(worker, *self.fate(worker, list(held), self.times))]
        return []

    def _end(self, worker, what, name):
        if what == "lost":
            self._lose(worker)
            return Lost(worker, "ended by signal 9")
        self.held[worker].remove(name)
        return Finished(worker, CaseOutcome(case=name, status=what, error="" if what == "done" else "bad"))

    def _lose(self, worker):
        self.log.append(("lost", worker, tuple(self.held.pop(worker))))


def run(engine, *names, workers=1, capacity=2, check=lambda: None):
    dispatcher = Dispatcher(engine, cases(*names), workers=workers, capacity=capacity, check=check)
    return dispatcher, list(dispatcher.run())


def statuses(outcomes):
    return {outcome.case: outcome.status for outcome in outcomes}


def test_workers_share_the_cases_evenly_from_the_start_and_no_more_are_started():
    engine = FakeEngine()
    run(engine, "a", "b", workers=4, capacity=3)
    assert {worker for what, worker, _ in engine.log if what == "submit"} == {0, 1}
    assert list(engine.held) == [0, 1]


def test_cases_are_asked_for_only_as_workers_have_room():
    asked = []

    def endless():
        for number in range(10**6):
            asked.append(number)
            yield case(str(number))

    outcomes = Dispatcher(FakeEngine(), endless(), workers=2, capacity=3).run()
    for _ in range(5):
        next(outcomes)
    assert len(asked) <= 5 + 2 * 3


@pytest.mark.parametrize("known", [[], [CaseOutcome(case="a", status="done", earlier=True)]])
def test_known_outcomes_pass_through_and_neither_they_nor_no_cases_start_a_worker(known):
    engine = FakeEngine()
    assert list(Dispatcher(engine, iter(known), workers=1, capacity=1).run()) == known
    assert engine.held == {}


def test_a_failed_case_is_tried_once_more_when_all_others_are_through_and_then_reported():
    engine = FakeEngine(lambda _w, held, _t: ("failed" if held[0] == "b" else "done", held[0]))
    dispatcher, outcomes = run(engine, *"abcd", capacity=1)
    assert [entry[2] for entry in engine.log] == ["a", "b", "c", "d", "b"]
    assert statuses(outcomes) == {"a": "done", "b": "failed", "c": "done", "d": "done"}
    assert dispatcher.attempts == {"b": 2}


def test_a_case_that_succeeds_at_the_second_try_is_done():
    engine = FakeEngine(lambda _w, held, times: ("failed" if times[held[0]] < 2 else "done", held[0]))
    assert statuses(run(engine, "a", "b")[1]) == {"a": "done", "b": "done"}


def test_a_case_that_ends_its_worker_does_not_take_its_neighbors_along():
    engine = FakeEngine(lambda _w, held, _t: ("lost", "") if "poison" in held else ("done", held[0]))
    dispatcher, outcomes = run(engine, "a", "poison", "b", "c", capacity=3)
    assert statuses(outcomes) == {"a": "done", "b": "done", "c": "done", "poison": "failed"}
    (told,) = (outcome.error for outcome in outcomes if outcome.case == "poison")
    assert "alone ended by signal 9" in told
    assert [lost["cases"] for lost in dispatcher.lost] == [["a", "poison", "b"], ["poison"]]
    assert dispatcher.attempts == {"a": 2, "poison": 2, "b": 2}


def test_a_suspect_has_a_worker_to_itself_and_is_begun_last():
    lost_once = []

    def fate(_worker, held, _times):
        if not lost_once:
            lost_once.append(held)
            return "lost", ""
        if lost_once[0][0] in held or lost_once[0][-1] in held:
            assert len(held) == 1
        return "done", held[0]

    engine = FakeEngine(fate)
    _, outcomes = run(engine, *"abcdef", workers=2, capacity=2)
    assert set(statuses(outcomes).values()) == {"done"}
    begun = [entry[2] for entry in engine.log if entry[0] == "submit"]
    assert begun[-2:] == lost_once[0]


def test_a_suspect_that_fails_alone_is_reported_with_its_own_error():
    engine = FakeEngine(lambda _w, held, times: ("lost", "") if times[held[0]] == 1 else ("failed", held[0]))
    (outcome,) = run(engine, "a")[1]
    assert (outcome.status, outcome.error) == ("failed", "bad")


def test_cases_promised_to_a_worker_that_dies_at_its_start_are_no_suspects():
    engine = FakeEngine(at_start=lambda number: Ready(number) if number else Lost(number, "ended with exit code 1"))
    dispatcher, outcomes = run(engine, "a", "b")
    assert statuses(outcomes) == {"a": "done", "b": "done"}
    assert dispatcher.attempts == {}


def test_workers_that_die_again_and_again_at_their_start_end_the_run(caplog):
    engine = FakeEngine(at_start=lambda number: Lost(number, "ended by signal 9"))
    with pytest.raises(RunError, match=r"3 workers one after the other were lost.*signal 9.*fewer --workers"):
        run(engine, "a", "b")
    assert "signal 9" not in caplog.text  # the reason is told once


def test_a_worker_that_refuses_the_job_ends_the_run_with_its_error():
    engine = FakeEngine(at_start=lambda number: Refused(number, BundleError("no such fold")))
    with pytest.raises(BundleError, match="no such fold"):
        run(engine, "a")


@pytest.mark.parametrize("what", ["failed", "lost"])
def test_an_output_folder_that_is_gone_ends_the_run_at_the_first_case_it_costs(what):
    def gone():
        raise InputImageError("output folder is gone")

    engine = FakeEngine(lambda _w, held, _t: (what, held[0]))
    with pytest.raises(InputImageError, match="is gone"):
        run(engine, *"abc", check=gone)
    assert max(engine.times.values()) == 1


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_workers_do_each_case_has_one_outcome(data):
    names = [f"c{number}" for number in range(data.draw(st.integers(0, 8), label="cases"))]
    poison = data.draw(st.sets(st.sampled_from(names)) if names else st.just(set()), label="poison")
    bad = data.draw(st.sets(st.sampled_from(names)) if names else st.just(set()), label="bad")

    def fate(_worker, held, _times):
        name = data.draw(st.sampled_from(held))
        if poison & set(held):
            return "lost", ""
        return ("failed" if name in bad else "done"), name

    workers, capacity = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    engine = FakeEngine(fate)
    _, outcomes = run(engine, *names, workers=workers, capacity=capacity)
    assert sorted(o.case for o in outcomes) == names
    assert {o.case for o in outcomes if o.status == "failed"} == poison | bad
    assert max(engine.most.values(), default=0) <= capacity
    assert max(engine.times.values(), default=0) <= 3
