"""What a run says of its cases."""

import csv
import json

import pytest

from nnunet_cascade.cascade.bundles.model_files import tumor_channel
from nnunet_cascade.cascade.models import roi_seed
from nnunet_cascade.cascade.runs.cohort import CaseOutcome, RunFacts, write_run
from nnunet_cascade.cascade.spec import CascadeSpec, SamplingSettings
from nnunet_cascade.errors import BundleError
from nnunet_cascade.geometry import Box


def test_runs_that_share_the_cases_write_files_of_their_own(tmp_path):
    for part in ("_part0", "_part1"):
        write_run([CaseOutcome(part, "failed", "x")], tmp_path, RunFacts(spec=CascadeSpec(), begun=0.0, part=part))
    assert sorted(path.name for path in tmp_path.glob("run*")) == ["run_part0.json", "run_part1.json"]


def test_a_run_tells_every_outcome(tmp_path):
    outcomes = [CaseOutcome("a", "failed", "it is no CT"), CaseOutcome("b", "failed", "x, y")]
    write_run(outcomes, tmp_path, RunFacts(spec=CascadeSpec(), begun=0.0, command=("-i", "x")))
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["cases"]["a"] == {"status": "failed", "error": "it is no CT"}
    assert run["counts"] == {"done": 0, "skipped": 0, "failed": 2}
    with (tmp_path / "summary.csv").open() as file:
        assert [row["error"] for row in csv.DictReader(file)] == ["it is no CT", "x, y"]


def test_the_summary_has_the_volume_that_the_samples_make_of_a_case(tmp_path):
    records = {
        "sampled": {"mean_in_tumor": 0.02, "volume": {"p5_ml": 1.5, "p95_ml": 2.5}},
        "empty": {"mean_in_tumor": None, "volume": None},
        "plain": None,
    }
    for case, uncertainty in records.items():
        rest = {"tumor": {"volume_ml": 2.0}, "candidates": [], "rois": [], "lungs": None, "flags": []}
        (tmp_path / f"{case}.json").write_text(json.dumps({**rest, "uncertainty": uncertainty}))
    write_run([CaseOutcome(case, "done") for case in records], tmp_path, RunFacts(spec=CascadeSpec(), begun=0.0))
    with (tmp_path / "summary.csv").open() as file:
        rows = [
            (row["tumor_ml_p5"], row["tumor_ml_p95"], row["mean_uncertainty_in_tumor"]) for row in csv.DictReader(file)
        ]
    assert rows == [("1.5", "2.5", "0.02"), ("", "", ""), ("", "", "")]


def test_the_seed_of_a_region_depends_on_setting_and_box_alone():
    box, other = Box((0, 0, 0), (3, 3, 3)), Box((0, 0, 0), (3, 3, 4))
    seeds = {roi_seed(SamplingSettings(seed=s), b) for s in (0, 1) for b in (box, other)}
    assert len(seeds) == 4
    assert roi_seed(SamplingSettings(), box) == roi_seed(
        SamplingSettings(mc_samples=3, sources=("mc_dropout", "tta")), box
    )


@pytest.mark.parametrize(
    ("labels", "name", "channel"),
    [
        ({"background": 0, "tumor": 1}, "", 1),
        ({"background": 0, "lung": 1, "tumor": 2}, "tumor", 2),
        ({"background": 0, "both": [1, 2], "tumor": [2], "ignore": 3}, "tumor", 1),
    ],
)
def test_the_tumor_has_an_output_channel(labels, name, channel):
    assert tumor_channel({"labels": labels}, name, where="model") == channel


@pytest.mark.parametrize("name", ["", "tumour"])
def test_a_tumor_that_cannot_be_told_is_refused(name):
    with pytest.raises(BundleError, match="found lung, tumor"):
        tumor_channel({"labels": {"background": 0, "lung": 1, "tumor": 2}}, name, where="model")
