"""Which files are which cases, and what a run over a folder leaves behind."""

import hashlib
import json

import pytest

from nnunet_cascade.case_folders.case_files import find_images, find_masks
from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.case_folders.lock import Part
from nnunet_cascade.case_folders.run import (
    FolderTask,
    open_folder,
    part_of,
    prepare_output,
    remove_case,
    require_writable,
    run_cases,
    write_run_report,
)
from nnunet_cascade.case_folders.run_report import RunContext
from nnunet_cascade.errors import InputImageError


def touch(folder, *names):
    for name in names:
        (folder / name).touch()


@pytest.fixture
def task(tmp_path):
    """A task that writes a text file per case and cannot do the case "bad"."""

    def work(case, path):
        if case == "bad":
            raise InputImageError(f"{path}\nis bad")
        (tmp_path / f"{case}.txt").write_text(path.name)
        return CaseRecord(case=case, files={f"{case}.txt": None})

    def build(**changed):
        return FolderTask(**{"output": tmp_path, "settings": {"radius": (1, 2)}, "work": work, **changed})

    return build


class TestNames:
    @pytest.mark.parametrize(
        ("files", "cases"),
        [
            (["b_0000.nii.gz", "a.nii.gz", "notes.txt", ".7.c.nii.gz"], ["a", "b"]),
            (["lung_0001_0000.nii.gz", "lung_0002_0000.nii.gz"], ["lung_0001", "lung_0002"]),
        ],
    )
    def test_images_have_the_channel_of_nnunet_or_none(self, tmp_path, files, cases):
        touch(tmp_path, *files)
        assert list(find_images(tmp_path)) == cases

    @pytest.mark.parametrize(("other", "message"), [("a_0001.nii.gz", "second channel"), ("a.nii.gz", "same case a")])
    def test_two_files_of_one_case_are_refused(self, tmp_path, other, message):
        touch(tmp_path, "a_0000.nii.gz", other)
        with pytest.raises(InputImageError, match=message):
            find_images(tmp_path)

    @pytest.mark.parametrize(
        ("files", "cases"),
        [
            (["lung_0000.nii.gz", "lung_0001.nii.gz", "dataset.json"], ["lung_0000", "lung_0001"]),
            (
                ["a.nii.gz", "a.json", "a_probability.nii.gz", "a_lungs.nii.gz", "b.nii.gz", "b_roi.nii.gz"],
                ["a", "b", "b_roi"],
            ),
            (["a.nii.gz", "a.json", "a_roi.nii.gz", "a_roi.json", "a_lungs.nii.gz"], ["a", "a_roi"]),
        ],
        ids=["named as they are", "none that a cascade writes beside a mask", "unless it has a record of its own"],
    )
    def test_masks_of_a_folder(self, tmp_path, files, cases):
        touch(tmp_path, *files)
        assert list(find_masks(tmp_path)) == cases

    @pytest.mark.parametrize("ending", ["_roi", "_probability", "_stage1_uncertainty", "_lungs"])
    def test_a_case_called_as_what_is_written_for_another_ends_the_run_in_every_part(self, tmp_path, ending):
        cases = dict.fromkeys(["a", f"a{ending}", "b_roi"], tmp_path)
        for share in (Part(), Part(num_parts=2, part_id=1)):
            with pytest.raises(InputImageError, match=f"case a{ending} has the name .* for the case a; rename"):
                part_of(cases, share)
        with pytest.raises(InputImageError, match=f"case a{ending} "), open_folder(tmp_path / "out", Part(), cases):
            pass
        assert not (tmp_path / "out").exists()
        with pytest.raises(InputImageError, match="and 1 more such cases"):
            part_of({**cases, "b": tmp_path}, Part())

    def test_one_file_is_one_case_and_none_an_error_that_says_what_is_expected(self, tmp_path):
        for name in ("nowhere", "."):
            with pytest.raises(InputImageError, match="<case>_0000"):
                find_images(tmp_path / name)
        touch(tmp_path, "ct-64.nrrd", "a_0000.nii.gz")
        assert [*find_images(tmp_path / "ct-64.nrrd"), *find_images(tmp_path / "a_0000.nii.gz")] == ["ct-64", "a"]

    def test_parts_share_the_cases_out_without_rest_or_overlap(self, tmp_path):
        cases = {f"c{number}": tmp_path for number in range(7)}
        parts = [part_of(cases, Part(num_parts=3, part_id=part)) for part in range(3)]
        assert sorted(name for part in parts for name in part) == sorted(cases)


class TestRunning:
    def test_a_bad_case_costs_a_case(self, task, tmp_path):
        outcomes = list(run_cases({name: tmp_path / name for name in ("a", "bad", "c")}, task()))
        assert [(o.case, o.status) for o in outcomes] == [("a", "done"), ("bad", "failed"), ("c", "done")]
        assert outcomes[1].error == f"{tmp_path / 'bad'} is bad"
        assert not (tmp_path / "bad.json").exists()

    def test_a_case_with_a_whole_record_is_not_done_again(self, task, tmp_path):
        cases = {"a": tmp_path / "first"}
        (first,) = run_cases(cases, task())
        (again,) = run_cases(cases, task(resume=True))
        assert (again.status, again.record) == ("skipped", first.record)
        for change in ({"resume": False}, {"resume": True, "settings": {"radius": (1, 3)}}):
            assert [o.status for o in run_cases(cases, task(**change))] == ["done"]

    def test_a_case_made_from_other_files_is_done_again(self, task, tmp_path):
        (tmp_path / "first").write_text("one")
        (tmp_path / "lobe").write_text("two")
        inputs = {"inputs": lambda _case, path: [path, tmp_path / "lobe", tmp_path / "none"]}
        cases = {"a": tmp_path / "first"}
        (before,) = run_cases(cases, task(**inputs))
        first, lobe = (hashlib.sha256(text).hexdigest() for text in (b"one", b"two"))
        assert before.record.inputs == (("first", first), ("lobe", lobe), ("none", ""))
        assert [o.status for o in run_cases(cases, task(resume=True, **inputs))] == ["skipped"]
        (tmp_path / "lobe").write_text("three")
        assert [o.status for o in run_cases(cases, task(resume=True, **inputs))] == ["done"]

    def test_no_file_of_an_earlier_run_is_left_of_a_case_that_fails(self, task, tmp_path):
        def well(case, _path):
            touch(tmp_path, f"{case}.txt")
            return CaseRecord(case=case, files={f"{case}.txt": None})

        list(run_cases({"bad": tmp_path / "first"}, task(work=well)))
        assert {"bad.txt", "bad.json"} == {path.name for path in tmp_path.iterdir()}
        assert [o.status for o in run_cases({"bad": tmp_path / "first"}, task())] == ["failed"]
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "case", ["run", "Run_part3", "summary", "dataset", "tuning", "anatomy", "lung_masks", "dicom_export"]
    )
    def test_a_case_called_as_a_file_of_the_run_is_refused(self, task, tmp_path, case):
        (outcome,) = run_cases({case: tmp_path / "first"}, task())
        assert "rename its files" in outcome.error
        assert [o.status for o in run_cases({f"{case}s": tmp_path / "first"}, task())] == ["done"]

    def test_a_run_tells_what_was_done_whichever_run_did_it(self, task):
        cases = {name: task().output / name for name in ("bad", "b")}
        told = []
        for resume in (False, True):
            outcomes = list(run_cases(cases, task(resume=resume)))
            path = write_run_report(
                outcomes, task(), RunContext(begun=0.0), lambda record: {"length": len(record.case)}
            )
            told.append(json.loads(path.read_text()))
        assert told[0]["cases"]["b"] == {"status": "done", "length": 1}
        assert told[0]["cases"]["bad"]["status"] == "failed"
        assert [run.pop("varying")["skipped"] for run in told] == [[], ["b"]]
        assert told[0] == told[1]

    def test_an_output_that_cannot_be_written_or_is_gone_is_told(self, tmp_path):
        touch(tmp_path, "file")
        with pytest.raises(InputImageError, match="cannot be written"):
            prepare_output(tmp_path / "file" / "out")
        with pytest.raises(InputImageError, match="is gone"):
            require_writable(tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_a_probe_that_another_part_swept_is_no_error(self, tmp_path, monkeypatch):
        touched = type(tmp_path).touch
        monkeypatch.setattr(type(tmp_path), "touch", lambda self: (touched(self), self.unlink()))
        require_writable(tmp_path)

    def test_a_probe_is_named_so_that_it_is_swept(self, tmp_path, monkeypatch):
        monkeypatch.setattr(type(tmp_path), "unlink", lambda *_, **__: None)  # a run that is killed
        require_writable(tmp_path)
        monkeypatch.undo()
        assert len(list(tmp_path.iterdir())) == 1
        with open_folder(tmp_path, Part(), []):
            pass
        assert list(tmp_path.iterdir()) == []

    def test_a_case_is_removed_with_all_that_a_cascade_writes_of_it(self, tmp_path):
        touch(tmp_path, "a.json", "a.nii.gz", "a_roi.nii.gz", "a_stage1_uncertainty.nii.gz", "ab.nii.gz")
        remove_case(tmp_path, "a")
        assert [path.name for path in tmp_path.iterdir()] == ["ab.nii.gz"]

    def test_what_a_killed_run_left_unfinished_of_its_own_cases_is_removed(self, tmp_path):
        own = [".9.a.nii.gz", ".9.a_lungs.nii.gz", ".9.a.json", ".9.run_part0.json", ".9.summary_part0.csv"]
        own += [".9.0af3.probe"]
        others = [".9.b.nii.gz", ".9.run_part1.json", ".9.a_2.nii.gz", "a.json"]
        touch(tmp_path, *own, *others)
        with open_folder(tmp_path, Part(num_parts=2, part_id=0), ["a"]):
            assert not any((tmp_path / name).exists() for name in own)
            touch(tmp_path, ".10.a.json")
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
