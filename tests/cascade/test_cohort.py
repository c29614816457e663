"""Which files are which cases, and what a run says of them."""

import csv
import json

import pytest

from nnunet_cascade.cascade.cohort import CaseOutcome, RunFacts, find_cases, part_of, prepare_output, write_run
from nnunet_cascade.cascade.models import roi_seed, tumor_channel
from nnunet_cascade.cascade.spec import CascadeSpec, SamplingSettings
from nnunet_cascade.errors import BundleError, InputImageError
from nnunet_cascade.geometry import Box


def touch(folder, *names):
    for name in names:
        (folder / name).touch()


def test_cases_are_named_as_nnunet_names_them(tmp_path):
    touch(tmp_path, "b_0000.nii.gz", "a.nii.gz", "notes.txt")
    assert list(find_cases(tmp_path)) == ["a", "b"]


def test_one_file_is_one_case(tmp_path):
    touch(tmp_path, "b_0000.nii.gz")
    assert list(find_cases(tmp_path / "b_0000.nii.gz")) == ["b"]


def test_a_second_channel_is_refused(tmp_path):
    touch(tmp_path, "a_0000.nii.gz", "a_0001.nii.gz")
    with pytest.raises(InputImageError, match="second channel"):
        find_cases(tmp_path)


def test_runs_that_share_the_cases_write_files_of_their_own(tmp_path):
    for part in ("_part0", "_part1"):
        write_run([CaseOutcome(part, "failed", "x")], tmp_path, RunFacts(spec=CascadeSpec(), begun=0.0, part=part))
    assert sorted(path.name for path in tmp_path.glob("run*")) == ["run_part0.json", "run_part1.json"]


def test_two_files_of_one_case_are_refused(tmp_path):
    touch(tmp_path, "a_0000.nii.gz", "a.nii.gz")
    with pytest.raises(InputImageError, match="the same case a"):
        find_cases(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_no_images_are_an_error_that_says_what_is_expected(tmp_path, name):
    with pytest.raises(InputImageError, match="<case>_0000"):
        find_cases(tmp_path / name)


def test_parts_share_the_cases_out_without_rest_or_overlap(tmp_path):
    touch(tmp_path, *(f"c{n}_0000.nii.gz" for n in range(7)))
    cases = find_cases(tmp_path)
    parts = [part_of(cases, num_parts=3, part_id=part) for part in range(3)]
    assert sorted(name for part in parts for name in part) == sorted(cases)
    assert sum(len(part) for part in parts) == 7


def test_an_output_below_a_file_cannot_be_written(tmp_path):
    touch(tmp_path, "file")
    with pytest.raises(InputImageError, match="cannot be written"):
        prepare_output(tmp_path / "file" / "out")


def test_a_run_tells_every_outcome(tmp_path):
    outcomes = [CaseOutcome("a", "failed", "it is no CT"), CaseOutcome("b", "failed", "x, y")]
    write_run(outcomes, tmp_path, RunFacts(spec=CascadeSpec(), begun=0.0, command=("-i", "x")))
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["cases"]["a"] == {"status": "failed", "error": "it is no CT"}
    assert run["counts"] == {"done": 0, "skipped": 0, "failed": 2}
    with (tmp_path / "summary.csv").open() as file:
        assert [row["error"] for row in csv.DictReader(file)] == ["it is no CT", "x, y"]


def test_the_seed_of_a_region_depends_on_setting_and_box_alone():
    box, other = Box((0, 0, 0), (3, 3, 3)), Box((0, 0, 0), (3, 3, 4))
    seeds = {roi_seed(SamplingSettings(seed=s), b) for s in (0, 1) for b in (box, other)}
    assert len(seeds) == 4
    assert roi_seed(SamplingSettings(), box) == roi_seed(SamplingSettings(mc_samples=3), box)


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
