"""A worker takes several cases at a time, and each as if it were alone."""

import asyncio
import json
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from builders.tiny_cascades import quick_spec

from nnunet_cascade.bundles.bundle import load_cascade
from nnunet_cascade.bundles.checksums import model_checksums
from nnunet_cascade.case_folders.records import read_finished
from nnunet_cascade.cohort.jobs import CaseFiles, CohortJob
from nnunet_cascade.cohort.worker import CaseWorker
from nnunet_cascade.errors import BundleError
from nnunet_cascade.images import read_ct, read_labels, read_volume
from nnunet_cascade.prediction import case as steps
from nnunet_cascade.prediction import outputs
from nnunet_cascade.prediction.case import PrecomputedInputs, predict_case
from nnunet_cascade.scans.search import find_scans

# nnU-Net and torch warn about themselves when trainers are looked up.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def job(tiny_cascade, tmp_path_factory):
    bundle = tiny_cascade.bundle
    spec, threads = quick_spec(bundle), torch.get_num_threads()
    model, output = model_checksums(bundle, spec), tmp_path_factory.mktemp("worker")
    return CohortJob(bundle=bundle, spec=spec, output=output, model=model, threads=threads)


@pytest.fixture(scope="module")
def worker(job):
    before = set(threading.enumerate())
    made = CaseWorker(job, "cpu")
    yield made
    made.close()
    assert set(threading.enumerate()) <= before


@pytest.fixture
def files(tiny_cascade, tmp_path):
    """The test image as several cases, with the truth instead of stage 1, except for "own"."""

    def of(*cases):
        for case in cases:
            shutil.copyfile(tiny_cascade.test_image, tmp_path / f"{case}_0000.nii.gz")
        masks = {case: None if case == "own" else tiny_cascade.test_truth for case in cases}
        found = find_scans(tmp_path)
        return [CaseFiles(scan=found[case], stage1_mask=mask) for case, mask in masks.items()]

    return of


@pytest.fixture(scope="module")
def loop():
    """A worker lives in one event loop."""
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture
def outcomes(loop):
    async def all_of_them(worker, files):
        return await asyncio.gather(*(worker.predict(each) for each in files))

    return lambda worker, files: loop.run_until_complete(all_of_them(worker, files))


def test_models_that_were_changed_since_the_run_began_are_refused(job):
    """A worker that takes a lost one's place must not write records that name other models than it has."""
    changed = {**job.model, "stage2": "0" * 64}
    with pytest.raises(BundleError, match="was changed since the run began"):
        CaseWorker(replace(job, model=changed), "cpu")


def test_cases_at_a_time_are_what_predict_case_gives_alone(tiny_cascade, worker, job, files, outcomes):
    cases = files("a", "b", "c", "own")
    done = outcomes(worker, cases)
    assert [(outcome.case, outcome.status) for outcome in done] == [(each.case, "done") for each in cases]
    assert set(done[0].seconds) >= {"read", "stage1", "lungs", "anatomy", "stage2", "write"}
    image = read_ct(tiny_cascade.test_image)
    truth = read_labels(tiny_cascade.test_truth, image.grid, what="label") > 0
    cascade = load_cascade(job.bundle, device=torch.device("cpu"), spec=job.spec)
    alone = predict_case(image, cascade, PrecomputedInputs(stage1=truth))
    assert alone.tumor.any()
    for each in cases[:-1]:
        for ending, expected in (("", alone.tumor), ("_probability", alone.probability), ("_roi", alone.regions)):
            found = read_volume(job.output / f"{each.case}{ending}.nii.gz").array
            np.testing.assert_array_equal(found, expected)
    assert json.loads((job.output / "own.json").read_text())["stage1"]["given"] is False


def test_a_record_is_trusted_by_the_next_run_until_an_input_changes(worker, job, files, outcomes):
    (each,) = files("kept")
    outcomes(worker, [each])
    made_from = job.made_from(each.checksums())
    record = read_finished(job.output, "kept", made_from)
    assert record is not None
    varying = record.to_json()["varying"]
    assert varying["threads"] == torch.get_num_threads()
    assert varying["results_moved_off_the_device"] == []
    each.scan.path.write_bytes(each.scan.path.read_bytes() + b"\0")
    assert read_finished(job.output, "kept", job.made_from(each.checksums())) is None


@pytest.mark.parametrize(
    ("broken", "error", "said"),
    [
        ("prepare_stage1", MemoryError(), "this computer's memory is too small for the case"),
        ("predict_stage1", RuntimeError("two\nlines"), "two lines"),
        ("find_lungs_or_reason", ZeroDivisionError(), "ZeroDivisionError"),
        ("predict_regions", torch.cuda.OutOfMemoryError("x"), "x"),
        ("write_image", OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_an_error_of_any_step_is_one_line_and_leaves_nothing(
    worker, job, files, outcomes, monkeypatch, broken, error, said
):
    module = outputs if broken == "write_image" else steps
    real = getattr(module, broken)

    def fail(*given, **named):
        if broken == "write_image" and "_candidates" not in given[-1].name:
            return real(*given, **named)  # half of the images are there
        raise error

    monkeypatch.setattr(module, broken, fail)
    (job.output / "bad_probability.nii.gz").write_text("of an earlier run")
    (outcome,) = outcomes(worker, files("bad"))
    assert outcome.status == "failed"
    assert said in outcome.error
    assert "\n" not in outcome.error
    assert not list(job.output.glob("bad*"))


def test_no_more_cases_are_under_way_than_there_is_room_for_and_networks_run_on_one_thread(
    worker, job, files, outcomes, monkeypatch
):
    drive, most, under_way = CaseWorker._drive, [0], [0]
    threads, predict_regions = set(), steps.predict_regions

    async def counted(self, *given):
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        try:
            return await drive(self, *given)
        finally:
            under_way[0] -= 1

    def noted(*given):
        threads.add(threading.current_thread().name)
        return predict_regions(*given)

    monkeypatch.setattr(CaseWorker, "_drive", counted)
    monkeypatch.setattr(steps, "predict_regions", noted)
    assert {o.status for o in outcomes(worker, files(*"pqrs"))} == {"done"}
    assert most[0] == job.capacity
    assert len(threads) == 1
