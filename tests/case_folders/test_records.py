"""What a record holds, and when it is trusted."""

import hashlib
import json
from dataclasses import replace

import pytest

from nnunet_cascade.bundles.checksums import files_checksum, model_checksums
from nnunet_cascade.case_folders import records
from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.case_folders.record_parts import VaryingRecord
from nnunet_cascade.case_folders.records import CaseFingerprint, read_finished, remove_recorded, write_record
from nnunet_cascade.errors import BundleError, InputImageError
from nnunet_cascade.files import input_checksums
from nnunet_cascade.postprocessing.lungs.inputs import IGNORED_SETTINGS
from nnunet_cascade.postprocessing.lungs.source import LungSource
from nnunet_cascade.prediction.spec import CascadeSpec

RECORD = CaseRecord(case="x", files={"x.nii.gz": None}, varying=VaryingRecord(seconds=1))
MADE = CaseFingerprint(settings={"a": (1, 2)}, inputs=[["ct", "f0"]], model={"stage2": "aa"}, precision="float32")


@pytest.fixture
def written(tmp_path):
    (tmp_path / "x.nii.gz").write_bytes(b"12345")
    return tmp_path, write_record(tmp_path, RECORD, MADE)


def test_a_record_names_its_files_with_their_sizes_and_all_that_decided_them(written):
    folder, record = written
    assert record.to_json() == json.loads((folder / "x.json").read_text())
    assert record.files == {"x.nii.gz": 5}
    assert (record.inputs, record.model, record.precision) == ((("ct", "f0"),), {"stage2": "aa"}, "float32")
    assert record.settings == {"a": [1, 2]}


@pytest.mark.parametrize(
    ("changed", "trusted"),
    [
        ({}, True),
        ({"inputs": None}, True),
        ({"settings": {"a": [1, 3]}}, False),
        ({"inputs": [["ct", "f1"]]}, False),
        ({"model": {"stage2": "ab"}}, False),
        ({"precision": "bfloat16"}, False),
    ],
)
def test_a_record_of_the_same_is_trusted_and_of_anything_else_not(written, changed, trusted):
    folder, record = written
    assert read_finished(folder, "x", replace(MADE, **changed)) == (record if trusted else None)


def of_lungs(source):
    settings = replace(CascadeSpec(), lungs=source).to_json()
    return CaseFingerprint(settings=settings, ignored_settings=IGNORED_SETTINGS)


MASKS, NETWORK = LungSource(kind="folder", path="lungs"), LungSource(kind="lungmask", weights="w.pth")


@pytest.mark.parametrize(
    ("made", "asked", "trusted"),
    [
        (MASKS, replace(MASKS, path="/data/lungs"), True),
        (MASKS, replace(MASKS, right_labels=(1,)), False),
        (NETWORK, replace(NETWORK, weights="/data/w.pth", device="cpu", batch_size=3), True),
        (NETWORK, replace(NETWORK, model="R231CovidWeb"), False),
        (NETWORK, LungSource(), False),
    ],
)
def test_of_the_lungs_what_decides_the_mask_counts(tmp_path, made, asked, trusted):
    write_record(tmp_path, CaseRecord(case="x"), of_lungs(made))
    assert (read_finished(tmp_path, "x", of_lungs(asked)) is not None) == trusted


def test_a_record_of_another_version_of_this_package_is_not_trusted(written, monkeypatch):
    folder, _ = written
    monkeypatch.setattr(records, "_version", lambda: "99")
    assert read_finished(folder, "x", MADE) is None


@pytest.mark.parametrize("content", [b"1234", b"123456", None])
def test_a_record_beside_a_file_of_another_size_is_not_trusted(written, content):
    folder, _ = written
    (folder / "x.nii.gz").unlink()
    if content is not None:
        (folder / "x.nii.gz").write_bytes(content)
    assert read_finished(folder, "x", MADE) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": ["x.nii.gz"]}', '{"set', "null"])
def test_what_is_no_record_is_not_trusted(written, text):
    folder, _ = written
    (folder / "x.json").write_text(text)
    assert read_finished(folder, "x", MADE) is None


def test_a_record_whose_file_is_not_there_is_not_written(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_record(tmp_path, RECORD, MADE)
    assert list(tmp_path.iterdir()) == []


def test_removing_a_case_takes_its_files_and_none_outside_the_folder(written):
    folder, record = written
    (folder / "below").mkdir()
    (folder / "safe").touch()
    (folder / "below" / "x.json").write_text(json.dumps({**record.to_json(), "files": {"../safe": 1}}))
    remove_recorded(folder / "below", "x")
    remove_recorded(folder, "x")
    assert sorted(path.name for path in folder.iterdir()) == ["below", "safe"]


def test_fingerprints_are_of_files_and_empty_where_one_is_missing(tmp_path):
    (tmp_path / "ct").write_bytes(b"one")
    assert input_checksums([tmp_path / "ct", tmp_path / "none"]) == [
        ["ct", hashlib.sha256(b"one").hexdigest()],
        ["none", ""],
    ]
    with pytest.raises(InputImageError, match="cannot be read"):
        input_checksums([tmp_path])


class TestModels:
    @pytest.fixture
    def bundle(self, tmp_path):
        for stage in ("stage1", "stage2"):
            (tmp_path / stage / "fold_0").mkdir(parents=True)
            for name in ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth", "fold_0/progress.png"):
                (tmp_path / stage / name).write_text(f"{stage} {name}")
        spec = CascadeSpec()
        return tmp_path, replace(spec, stage1=replace(spec.stage1, folds=(0,)), stage2=replace(spec.stage2, folds=(0,)))

    @pytest.mark.parametrize(
        ("name", "counts"),
        [
            ("plans.json", True),
            ("dataset.json", True),
            ("fold_0/checkpoint_final.pth", True),
            ("fold_0/progress.png", False),
        ],
    )
    def test_a_stage_has_another_checksum_with_any_other_file_that_prediction_uses(self, bundle, name, counts):
        folder, spec = bundle
        before = model_checksums(folder, spec)
        (folder / "stage2" / name).write_text("other")
        after = model_checksums(folder, spec)
        assert (before["stage1"] != after["stage1"], before["stage2"] != after["stage2"]) == (False, counts)

    def test_weights_that_are_given_for_lungmask_count_by_what_they_hold(self, bundle):
        folder, spec = bundle
        (folder / "w.pth").write_text("one")
        spec = replace(spec, lungs=LungSource(kind="lungmask", weights=folder / "w.pth"))
        assert model_checksums(folder, spec)["lungs"] == hashlib.sha256(b"one").hexdigest()

    def test_one_checksum_is_of_names_and_contents_in_whatever_order(self, bundle):
        folder, _ = bundle
        names = ["stage1/plans.json", "stage2/plans.json"]
        assert files_checksum(folder, names) == files_checksum(folder, names[::-1])
        assert files_checksum(folder / "stage1", ["plans.json"]) != files_checksum(folder / "stage2", ["plans.json"])

    def test_a_stage_that_is_given_is_not_asked_for(self, bundle):
        folder, spec = bundle
        (folder / "stage1" / "plans.json").unlink()
        assert list(model_checksums(folder, spec, with_stage1=False)) == ["stage2"]
        with pytest.raises(BundleError, match=r"stage1/plans.json cannot be read"):
            model_checksums(folder, spec)
