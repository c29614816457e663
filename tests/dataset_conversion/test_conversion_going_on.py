"""A run goes on where it was stopped, however it was stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders.dicom_downloads import (
    ELSEWHERE,
    ONE,
    SETTINGS,
    THREE,
    TWO,
    both,
    contents,
    convert,
    environment,
    labels_of,
    lay_out,
    manifest_of,
    present,
    run_python,
    times,
    write_download,
    write_subject,
)

from nnunet_cascade.dataset_conversion import workers, writing
from nnunet_cascade.dataset_conversion.labels import Label
from nnunet_cascade.errors import DatasetError


@pytest.fixture
def converted(reference, dataset):
    """A dataset of the three patients that a test may change."""
    return Path(shutil.copytree(reference, dataset))


class TestGoingOn:
    def test_a_second_run_writes_no_case_again_though_files_lie_elsewhere(self, download, dataset, logged, tmp_path):
        convert(download, dataset)
        before, manifest = times(dataset), manifest_of(dataset)
        convert(lay_out(download, tmp_path / "moved", "one folder"), dataset)
        assert times(dataset) == before
        assert manifest_of(dataset) == manifest
        assert "3 of 3 cases are there already" in logged.text

    @pytest.mark.parametrize("lost", [*both("P2"), "conversion/P2.json", "half a record"])
    def test_what_was_removed_or_broken_is_made_again_and_nothing_else(self, lost, download, converted, reference):
        before = times(converted)
        if lost == "half a record":
            (converted / "conversion" / "P2.json").write_text('{"case": "P2", "sta')
        else:
            (converted / lost).unlink()
        convert(download, converted)
        assert contents(converted) == contents(reference)
        written = {name for name, time in times(converted).items() if before[name] != time}
        assert written == {*both("P2"), "conversion/P2.json"}

    def test_a_patient_whose_files_changed_is_converted_again_or_leaves_no_old_case(self, tmp_path, dataset):
        source = write_download([ONE, TWO, THREE], tmp_path / "d")
        convert(source, dataset)
        before = times(dataset)
        write_subject(ONE.but(rois=({"GTV-1": ELSEWHERE},)), source / "000")
        (source / "001" / "RTSTRUCT" / "1-1.dcm").unlink()
        convert(source, dataset)
        np.testing.assert_array_equal(labels_of(dataset, "P1"), ELSEWHERE)
        written = {name for name, time in times(dataset).items() if before[name] != time}
        assert written == {*both("P1"), "conversion/P1.json"}
        manifest = manifest_of(dataset)
        assert (list(manifest["converted"]), list(manifest["left_out"])) == (["P1", "P3"], ["P2"])
        assert present(dataset) == sorted(both("P1") + both("P3"))

    def test_a_new_study_of_a_person_changes_the_group_of_the_old_one_without_converting_it(self, tmp_path, dataset):
        by_study = replace(SETTINGS, by_study=True)
        studies = [ONE.but(study=str(number)) for number in range(4)]
        convert(write_download(studies[:1], tmp_path / "d"), dataset, by_study)
        images = {name: time for name, time in times(dataset).items() if "images" in name}
        convert(write_download(studies, tmp_path / "d"), dataset, by_study)
        records = manifest_of(dataset)["converted"]
        assert {record["group"] for record in records.values()} == {min(records)}
        assert images.items() <= times(dataset).items()

    def test_other_settings_are_refused_by_name_but_words_about_the_data_are_none(self, download, converted):
        before, written = contents(converted), times(converted)
        with pytest.raises(DatasetError, match=r"other settings \(irregular, source\); choose another"):
            convert(download, converted, replace(SETTINGS, source="seg", irregular="exclude"))
        assert contents(converted) == before
        convert(download, converted, replace(SETTINGS, licence="CC0", description="Words"))
        assert times(converted) == written
        assert json.loads((converted / "dataset.json").read_text())["licence"] == "CC0"
        assert manifest_of(converted)["licence"] == "CC0"

    def test_a_run_that_converted_nothing_may_be_followed_by_one_with_other_settings(
        self, download, dataset, reference
    ):
        misspelt = replace(SETTINGS, labels=(Label(name="tumor", regions=("GTV-l",)),))
        assert len(convert(download, dataset, misspelt).left_out) == 3
        convert(download, dataset)
        assert contents(dataset) == contents(reference)

    def test_images_of_another_origin_are_left_alone(self, download, dataset):
        stranger = dataset / "imagesTr" / "theirs_0000.nii.gz"
        stranger.parent.mkdir(parents=True)
        stranger.write_bytes(b"theirs")
        with pytest.raises(DatasetError, match=r"images of another origin, such as theirs_0000\.nii\.gz"):
            convert(download, dataset)
        assert contents(dataset) == {"imagesTr/theirs_0000.nii.gz": b"theirs"}

    def test_images_that_no_record_tells_of_are_named_and_stay(self, download, converted, logged):
        (converted / "imagesTr" / "theirs_0000.nii.gz").write_bytes(b"theirs")
        convert(download, converted)
        assert "holds 1 image(s) that no record tells of, such as theirs_0000.nii.gz" in logged.text
        assert (converted / "imagesTr" / "theirs_0000.nii.gz").read_bytes() == b"theirs"


KILLED_BEFORE_RENAMING = """
import os, sys
from pathlib import Path
from builders.dicom_downloads import convert

source, target, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
rename = Path.replace
for kill_at in range(1, last + 1):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        continue
    count = 0
    def killed(beside, path):
        global count
        count += 1
        if count == kill_at:
            os._exit(9)
        return rename(beside, path)
    Path.replace = killed
    convert(source, target / str(kill_at) / "Dataset501_X")
    os._exit(0)
"""


class TestKilled:
    @pytest.mark.long
    def test_at_any_moment_it_goes_on_and_leaves_nothing_half_written(self, download, reference, tmp_path):
        # For each case: record begun, labels, image, record; before them the manifest, after them it and dataset.json.
        writes = 1 + 3 * 4 + 2
        run_python(KILLED_BEFORE_RENAMING, download, tmp_path, writes + 1)
        complete = contents(reference)
        assert contents(tmp_path / str(writes + 1) / "Dataset501_X") == complete
        left_behind = 0
        for kill_at in range(1, writes + 1):
            dataset = tmp_path / str(kill_at) / "Dataset501_X"
            visible = {name: data for name, data in contents(dataset).items() if "/." not in name and name[0] != "."}
            left_behind += len(contents(dataset)) - len(visible)
            images = {name: data for name, data in visible.items() if name.endswith(".nii.gz")}
            assert images.items() <= complete.items()
            assert all(f"labelsTr/{name[9:-12]}.nii.gz" in images for name in images if name.startswith("images"))
            convert(download, dataset)
            assert contents(dataset) == complete
        assert left_behind == writes

    def test_what_was_begun_is_removed_though_the_next_run_is_about_others(self, download, dataset):
        convert(download, dataset, patients=frozenset({"P1"}))
        record = dataset / "conversion" / "P1.json"
        record.write_text(json.dumps({**json.loads(record.read_text()), "status": "unfinished"}))
        for name in ("imagesTr/.7.P2_0000.nii.gz", "labelsTr/.7.P2.nii.gz", "conversion/.7.P2.json", ".7.dataset.json"):
            (dataset / name).write_bytes(b"half")
        # Nor does it stand in the way of other settings.
        convert(download, dataset, replace(SETTINGS, irregular="exclude"), patients=frozenset({"P3"}))
        assert set(contents(dataset)) == {*both("P3"), "conversion/P3.json", "conversion.json", "dataset.json"}

    def test_a_patient_whose_process_was_killed_is_left_out(self, download, dataset, monkeypatch):
        def all_killed(_, jobs, __, *, killed):
            return ((job, killed(job)) for job in jobs)

        monkeypatch.setattr(workers, "map_in_processes", all_killed)
        result = convert(download, dataset)
        assert ["lack of memory" in record["reason"] for record in result.left_out] == [True] * 3

    def test_interrupted_between_labels_and_image_it_leaves_neither(self, download, dataset, monkeypatch):
        def interrupted(array, grid, path):
            if path.parent.name == "imagesTr":
                raise KeyboardInterrupt
            write_image(array, grid, path)

        write_image = writing.write_image
        monkeypatch.setattr(writing, "write_image", interrupted)
        with pytest.raises(KeyboardInterrupt):
            convert(download, dataset)
        assert list(contents(dataset)) == ["conversion.json"]

    @pytest.mark.long
    def test_no_worker_outlives_the_run(self, download, dataset):
        with working(60, download, dataset) as run:
            run.kill()
            # Workers hold this pipe too: it ends with the last of them.
            run.communicate(timeout=30)

    @pytest.mark.long
    def test_ctrl_c_is_one_line_and_ends_it_with_the_patients_at_hand(self, download, dataset):
        with working(0.3, download, dataset) as run:
            os.killpg(run.pid, signal.SIGINT)
            said = run.stdout.read().decode()
        assert run.returncode == 130
        assert said.splitlines()[-1] == "nnc-convert-dicom: interrupted; run it again"
        assert "Traceback" not in said


@contextmanager
def working(seconds, download, dataset):
    """A run of two processes, in a session of its own, while its first patient is at hand."""
    # A shell's background jobs, and what they start, ignore Ctrl-C unless told otherwise.
    heed = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    script = (
        f"import signal, sys; {heed}; from builders.dicom_downloads import run_slowly; "
        "sys.exit(run_slowly(*sys.argv[1:]))"
    )
    options = ["-i", download, "-d", "501", "--name", "X", "-np", "2", "--label", "tumor=GTV-1"]
    with subprocess.Popen(
        [sys.executable, "-c", script, *map(str, (seconds, *options))],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(nnUNet_raw=str(dataset.parent), nnUNet_preprocessed=str(dataset), nnUNet_results=str(dataset)),
        start_new_session=True,
    ) as run:
        while b"working" not in run.stdout.readline():
            assert run.poll() is None
        yield run


def test_a_defect_of_our_own_costs_its_patient_and_is_said_to_be_one(download, dataset, monkeypatch, logged):
    def unexpected(patient, _):
        raise ZeroDivisionError(patient.headers[0].path)

    monkeypatch.setattr("nnunet_cascade.dataset_conversion.writing.convert_patient", unexpected)
    result = convert(download, dataset, patients=frozenset({"P1"}))
    assert [record["reason"].split(",")[0] for record in result.left_out] == ["ZeroDivisionError"]
    assert "Traceback" in logged.text
