"""Many cases: what is done again and what not, what a run tells, and that faults cost no more than they must."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from builders.fake_workers import FakeWorker, ct_folder
from builders.run_folders import contents

from nnunet_cascade.case_folders import records
from nnunet_cascade.case_folders.lock import Part
from nnunet_cascade.case_folders.run_report import RunContext
from nnunet_cascade.cohort import cohort
from nnunet_cascade.cohort.cohort import CohortRequest, Workers, predict_cohort
from nnunet_cascade.cohort.engine import Finished, Lost, Ready
from nnunet_cascade.cohort.jobs import CaseFiles, CaseOutcome, CohortJob
from nnunet_cascade.errors import BundleError, InputImageError, RunError
from nnunet_cascade.geometry import Box
from nnunet_cascade.postprocessing.lungs.source import LungSource
from nnunet_cascade.prediction.spec import CascadeSpec, SamplingSettings
from nnunet_cascade.prediction.stage_model import roi_seed
from nnunet_cascade.scans.scans import Scan

WHOLE = Part()


class InlineEngine:
    """A worker in this process that ends a case as soon as it has it; "poison" loses it."""

    made = 0

    def __init__(self, job, _workers):
        type(self).made += 1
        self.worker, self.events, self.started = FakeWorker(job, "cpu"), [], 0

    def start(self):
        self.started += 1
        self.events.append(Ready(self.started))
        return self.started

    def submit(self, worker, files):
        if "poison" in files.case:
            (self.worker.job.output / f"{files.case}_roi.nii.gz").write_text("written before the end")
            self.events.append(Lost(worker, "ended by signal 9"))
            return
        try:
            outcome = self.worker.written(files)
        except (BundleError, OSError) as error:
            outcome = CaseOutcome(case=files.case, status="failed", error=str(error))
        self.events.append(Finished(worker, outcome))

    def wait(self):
        events, self.events = self.events, []
        return events

    def close(self):
        pass


@pytest.fixture(autouse=True)
def _threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def bundle(tmp_path):
    for stage in ("stage1", "stage2"):
        folder = tmp_path / "bundle" / stage
        (folder / "fold_0").mkdir(parents=True)
        for name in ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth"):
            (folder / name).write_text(name)
    return tmp_path / "bundle"


@pytest.fixture
def request_of(tmp_path, bundle):
    def build(*cases, share=WHOLE, job=(), **changed):
        spec = CascadeSpec()
        spec = replace(spec, stage1=replace(spec.stage1, folds=(0,)), stage2=replace(spec.stage2, folds=(0,)))
        settings = {"bundle": bundle, "spec": spec, "output": tmp_path / "out", **dict(job)}
        return CohortRequest(
            **{
                "cases": ct_folder(tmp_path / "in", *cases),
                "job": CohortJob(**settings),
                "workers": Workers(make=InlineEngine),
                "context": RunContext(begun=0.0, share=share),
                **changed,
            }
        )

    return build


def done(request):
    return {outcome.case: outcome for outcome in predict_cohort(request)}


def run_json(request):
    return json.loads((request.job.output / "run.json").read_text())


class TestResume:
    def test_a_case_that_is_done_is_not_done_again_and_no_worker_is_started_for_it(self, request_of, monkeypatch):
        first = request_of("a", "b")
        done(first)
        before = contents(first.job.output)
        monkeypatch.setattr(InlineEngine, "made", 0)
        outcomes = done(replace(first, resume=True))
        assert [(o.status, o.earlier) for o in outcomes.values()] == [("done", True)] * 2
        assert InlineEngine.made == 0
        assert contents(first.job.output) == before
        assert run_json(first)["varying"]["skipped"] == ["a", "b"]

    def test_a_run_that_goes_on_ends_as_one_that_was_never_disturbed(self, request_of, tmp_path):
        whole = request_of(*"abcd", "bad")
        done(whole)
        expected = contents(whole.job.output)
        part = request_of(*"abcd", "bad", job={"output": tmp_path / "disturbed"})
        for number in range(1, 5):
            outcomes = predict_cohort(replace(part, resume=True))
            for _ in range(number):
                next(outcomes, None)
            outcomes.close()
        done(replace(part, resume=True))
        assert contents(part.job.output) == expected

    @pytest.mark.parametrize(
        "what",
        ["settings", "ct", "model", "version", "precision", "stage 1 given", "file cut", "file gone", "not asked"],
    )
    def test_else_it_is_done_again(self, request_of, tmp_path, bundle, monkeypatch, what):
        first = request_of("a", "b")
        done(first)
        again = replace(first, resume=what != "not asked")
        job = again.job
        if what == "settings":
            job = replace(job, spec=replace(job.spec, sampling=SamplingSettings(seed=1)))
        elif what == "precision":
            job = replace(job, precision="bfloat16")
        elif what == "version":
            monkeypatch.setattr(records, "_version", lambda: "99")
        elif what == "stage 1 given":
            (tmp_path / "masks").mkdir()
            again, job = replace(again, stage1_masks=tmp_path / "masks"), replace(job, with_stage1=False)
        elif what == "model":
            (bundle / "stage1" / "fold_0" / "checkpoint_final.pth").write_text("trained further")
        elif what == "ct":
            again.cases["a"].path.write_text("another ct")
            again.cases["b"].path.write_text("another ct")
        elif what.startswith("file"):
            for case in "ab":
                path = job.output / f"{case}.nii.gz"
                path.unlink() if what == "file gone" else path.write_text("made")
        outcomes = done(replace(again, job=job))
        assert [(o.status, o.earlier) for o in outcomes.values()] == [("done", False)] * 2

    def test_the_lung_masks_in_use_count_wherever_they_lie(self, request_of, tmp_path, monkeypatch):
        lobes = tmp_path / "lungs" / "a"
        lobes.mkdir(parents=True)
        (lobes / "lung.nii.gz").write_text("mask")
        first = request_of("a")

        def with_lungs(path):
            spec = replace(first.job.spec, lungs=LungSource(kind="folder", path=path))
            return replace(first, resume=True, job=replace(first.job, spec=spec))

        done(with_lungs(tmp_path / "lungs"))
        (lobes / "statistics.json").write_text("{}")
        (lobes / ".snapshot").mkdir()
        monkeypatch.chdir(tmp_path)
        assert done(with_lungs(Path("lungs")))["a"].earlier
        (lobes / "lung.nii.gz").write_text("another mask")
        assert not done(with_lungs(Path("lungs")))["a"].earlier

    def test_weights_of_lungmask_count_by_what_they_hold(self, request_of, tmp_path):
        weights = tmp_path / "w.pth"
        weights.write_text("one")
        first = request_of("a")
        spec = replace(first.job.spec, lungs=LungSource(kind="lungmask", weights=weights))
        first = replace(first, resume=True, job=replace(first.job, spec=spec))
        done(first)
        assert done(first)["a"].earlier
        weights.write_text("retrained")
        assert not done(first)["a"].earlier

    def test_models_that_are_not_used_do_not_matter(self, request_of, tmp_path, bundle):
        (tmp_path / "masks").mkdir()
        first = replace(request_of("a", job={"with_stage1": False}), stage1_masks=tmp_path / "masks")
        done(first)
        (bundle / "stage1" / "plans.json").write_text("other")
        assert done(replace(first, resume=True))["a"].earlier

    def test_inputs_are_read_shortly_before_their_turn_not_all_before_the_first(self, request_of, monkeypatch):
        names = [f"c{number:02}" for number in range(40)]
        request = request_of(*names)
        done(request)
        read = []
        monkeypatch.setattr(CaseFiles, "checksums", lambda files: read.append(files) or [])
        outcomes = predict_cohort(replace(request, resume=True))
        next(outcomes)
        assert len(read) < 20
        outcomes.close()


class TestFaults:
    def test_a_bad_case_is_tried_twice_reported_and_costs_a_case_and_the_run_tells_who_predicted(self, request_of):
        request = request_of("a", "bad", "c")
        outcomes = done(request)
        assert {case: o.status for case, o in outcomes.items()} == {"a": "done", "bad": "failed", "c": "done"}
        told = run_json(request)
        assert (told["precision"], list(told["model"])) == ("float32", ["stage1", "stage2"])
        who = {name: told["varying"][name] for name in ("engine", "workers", "devices", "threads")}
        assert who == {"engine": "local", "workers": 1, "devices": ["cpu"], "threads": 1}
        assert told["cases"]["bad"] == {"status": "failed", "error": "it is bad"}
        assert told["counts"] == {"done": 2, "failed": 1, "left": 0}
        assert told["varying"]["attempts"] == {"bad": 2}

    def test_a_case_that_took_its_worker_along_twice_is_told_and_leaves_no_file(self, request_of):
        request = request_of("a", "poison")
        assert done(request)["poison"].status == "failed"
        lost = run_json(request)["varying"]["lost_workers"]
        assert [entry["reason"] for entry in lost] == ["ended by signal 9"] * 2
        assert lost[1]["cases"] == ["poison"]
        assert lost[1]["time"].endswith("Z")
        left = ["a.json", "a.nii.gz", "run.json", "summary.csv"]
        assert sorted(path.name for path in request.job.output.iterdir()) == left

    def test_a_case_that_no_worker_had_loses_nothing_by_it(self, request_of, monkeypatch):
        request = request_of("a", "b")
        done(request)

        def unreadable(_source, case):
            if case == "a":
                raise PermissionError(13, "Permission denied", "lungs/a")
            return []

        monkeypatch.setattr(cohort, "lung_files", unreadable)
        outcomes = done(replace(request, resume=True))
        assert (outcomes["a"].status, outcomes["b"].status) == ("failed", "done")
        assert "Permission denied" in outcomes["a"].error
        assert (request.job.output / "a.json").is_file()

    def test_a_folder_that_vanishes_ends_the_run_in_one_line_and_is_not_made_again(self, request_of):
        request = request_of(*"abcdef")
        outcomes = predict_cohort(request)
        next(outcomes)
        shutil.rmtree(request.job.output)
        with pytest.raises(InputImageError, match="is gone"):
            list(outcomes)
        assert not request.job.output.exists()

    def test_a_case_whose_record_is_not_there_is_not_done_whoever_says_so(self, request_of, monkeypatch):
        monkeypatch.setattr(FakeWorker, "written", lambda _self, files: CaseOutcome(case=files.case, status="done"))
        outcome = done(request_of("a"))["a"]
        assert outcome.status == "failed"
        assert "a.json cannot be read" in outcome.error

    def test_the_story_is_renewed_now_and_then_and_when_a_run_is_interrupted(self, request_of, monkeypatch):
        request = request_of(*"abcd")
        outcomes = predict_cohort(request)
        next(outcomes)
        monkeypatch.setattr(cohort, "_STORY_SECONDS", 0.0)
        next(outcomes)
        assert run_json(request)["counts"] == {"done": 2, "failed": 0, "left": 2}
        monkeypatch.setattr(cohort, "_STORY_SECONDS", 60.0)
        next(outcomes)
        with pytest.raises(KeyboardInterrupt):
            outcomes.throw(KeyboardInterrupt)
        assert run_json(request)["counts"] == {"done": 3, "failed": 0, "left": 1}
        assert [path.name for path in request.job.output.glob(".*")] == []

    def test_what_a_killed_run_left_unfinished_is_removed(self, request_of):
        request = request_of("a")
        request.job.output.mkdir()
        for case in ("a_probability", "other"):
            (request.job.output / f".7.{case}.nii.gz").touch()
        done(request)
        assert [path.name for path in request.job.output.glob(".*")] == [".7.other.nii.gz"]

    def test_a_case_called_as_the_runs_own_file_is_refused(self, request_of):
        outcomes = done(request_of("run", "a"))
        assert (outcomes["run"].status, outcomes["a"].status) == ("failed", "done")
        assert "rename its files" in outcomes["run"].error


class TestSharing:
    def test_parts_leave_together_what_one_run_leaves(self, request_of, tmp_path):
        whole = request_of(*"abcde")
        done(whole)
        for number in range(2):
            part = request_of(
                *"abcde"[number::2], share=Part(num_parts=2, part_id=number), job={"output": tmp_path / "parts"}
            )
            done(part)
        own = {"run.json", "summary.csv"}
        expected = {name: text for name, text in contents(whole.job.output).items() if name not in own}
        found = {name: text for name, text in contents(tmp_path / "parts").items() if "_part" not in name}
        assert found == expected

    def test_a_second_run_on_the_same_folder_is_refused_and_the_first_goes_on(self, request_of):
        pytest.importorskip("fcntl")
        request = request_of("a", "b")
        first = predict_cohort(request)
        next(first)
        with pytest.raises(RunError, match="in use by a run on"):
            done(request)
        assert [outcome.status for outcome in first] == ["done"]
        assert run_json(request)["counts"]["done"] == 2


def test_the_summary_has_the_volume_that_the_samples_make_of_a_case(request_of, monkeypatch):
    volume = {"mean_in_tumor": 0.02, "volume": {"p5_ml": 1.5, "p95_ml": 2.5}}
    uncertainties = {"sampled": volume, "empty": {"mean_in_tumor": None, "volume": None}, "plain": None}
    written = FakeWorker.written

    def sampled(self, files):
        outcome = written(self, files)
        path = self.job.output / f"{files.case}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "uncertainty": uncertainties[files.case]}))
        return outcome

    monkeypatch.setattr(FakeWorker, "written", sampled)
    request = request_of(*uncertainties)
    done(request)
    columns = ("tumor_ml_p5", "tumor_ml_p95", "mean_uncertainty_in_tumor")
    with (request.job.output / "summary.csv").open() as file:
        rows = [tuple(row[name] for name in columns) for row in csv.DictReader(file)]
    assert rows == [("1.5", "2.5", "0.02"), ("", "", ""), ("", "", "")]


def test_the_seed_of_a_region_depends_on_setting_and_box_alone():
    box, other = Box((0, 0, 0), (3, 3, 3)), Box((0, 0, 0), (3, 3, 4))
    assert len({roi_seed(SamplingSettings(seed=s), b) for s in (0, 1) for b in (box, other)}) == 4
    assert roi_seed(SamplingSettings(), box) == roi_seed(
        SamplingSettings(mc_samples=3, sources=("mc_dropout", "tta")), box
    )


class Exports:
    """Stands for what writes DICOM: tells what it is asked for, and that it cannot do "b"."""

    def __init__(self):
        self.begun, self.finished, self.failed, self.closed = [], [], {}, 0

    def begin(self, scan):
        self.begun.append(scan.case)

    def finish(self, scans):
        self.finished.append(list(scans))
        self.failed = {case: "no" for case in scans if case == "b"}

    def close(self):
        self.closed += 1

    def to_json(self):
        return {"failed": self.failed}


class TestDicom:
    def test_cases_are_exported_when_they_are_done_and_those_of_earlier_runs_at_the_end(self, request_of):
        done(request_of("a", "bad"))
        exports = Exports()
        request = request_of("a", "b", "bad", "c", resume=True, exports=exports)
        assert done(request)["b"].status == "done"
        assert (exports.begun, exports.finished, exports.closed) == (["b", "c"], [["a", "b", "c"]], 1)
        assert run_json(request)["varying"]["dicom"] == {"failed": {"b": "no"}}
        assert run_json(request)["cases"]["b"]["status"] == "done"

    def test_without_a_case_that_is_done_and_of_an_interrupted_run_nothing_is_exported(self, request_of):
        exports = Exports()
        done(request_of("bad", exports=exports))
        assert (exports.begun, exports.finished, exports.closed) == ([], [], 1)
        outcomes = predict_cohort(request_of("a", "b", exports=exports))
        next(outcomes)
        outcomes.close()
        assert (exports.finished, exports.closed) == ([], 2)

    def test_a_case_that_fails_leaves_no_dicom_of_before(self, request_of):
        request = request_of("bad")
        for name in ("seg.dcm", "summary.json", "notes.txt"):
            path = request.job.output / "dicom" / "bad" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        done(request)
        assert [path.name for path in path.parent.iterdir()] == ["notes.txt"]


class TestSeries:
    def test_trouble_that_is_known_before_asks_no_worker(self, request_of, monkeypatch):
        monkeypatch.setattr(InlineEngine, "made", 0)
        request = request_of(told={"unreadable_files": 2})
        scan = Scan(case="a", path=Path(), series_uid="1.2", slices=(Path("x"),), trouble="a file is broken")
        request.job.output.mkdir()
        (request.job.output / "a.nii.gz").touch()
        outcomes = done(replace(request, cases={"a": scan}))
        assert (outcomes["a"].status, outcomes["a"].error) == ("failed", "a file is broken")
        assert InlineEngine.made == 0
        assert run_json(request)["cases"]["a"] == {"status": "failed", "error": "a file is broken"}
        assert run_json(request)["varying"]["unreadable_files"] == 2
        assert not (request.job.output / "a.nii.gz").exists()
