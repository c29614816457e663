"""Two equal folders of results are equal, a renamed word is known, and one changed value of any kind is found."""

import csv
import json
import runpy
import shutil
import sys
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def main():
    """The script, and the module of what may differ."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield runpy.run_path(str(BENCHMARKS / "same_results.py"))["main"]
    finally:
        sys.path.remove(str(BENCHMARKS))
        del sys.modules["result_files"]


def image(path, voxel=0, spacing=2.0):
    array = np.zeros((3, 2, 2), np.float32)
    array[1, 1, 1] = voxel
    nibabel.save(nibabel.Nifti1Image(array, np.diag([spacing, 1, 1, 1])), path)


def dicom(path, *, uid="1.2.3", pixel=1, date="20200101", volume="1.5", source="1.9.9"):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = uid
    referenced, measured = Dataset(), Dataset()
    referenced.ReferencedSOPInstanceUID, measured.NumericValue = source, volume
    found = Dataset()
    found.file_meta = meta
    found.SOPInstanceUID, found.SeriesDate, found.SoftwareVersions = uid, date, date
    found.ReferencedInstanceSequence, found.MeasuredValueSequence = [referenced], [measured]
    found.PixelData = bytes([pixel, 0])
    found["PixelData"].VR = "OB"
    pydicom.dcmwrite(path, found, enforce_file_format=True)


def record(path, **changes):
    content = {"case": "a", "flags": ["old_flag"], "tumor": {"ml": 1.0}, "rois": [{"id": 1}], "varying": {"at": 7}}
    path.write_text(json.dumps({**content, **changes}))


def table(path, *rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("case", "dice"), *rows])


def page(path, cell="12.5 ml", heading="Cases", case="a1"):
    path.write_text(f"<h1>{heading} 1</h1><table><tr><th>2</th></tr><tr><td>{case}</td><td>{cell}</td></tr></table>")


def markdown(path, cell="0.81", heading="Dice"):
    path.write_text(f"{heading} of 3\n\n| a | {heading} |\n|---|---:|\n| a | {cell} |\n")


def weights(path, value=1.0, begun=0):
    import torch  # noqa: PLC0415 - heavy, and one kind of file needs it

    content = {"network_weights": {"conv": torch.tensor([value])}, "logging": {"begun": begun}, "trainer_name": "T"}
    torch.save(content, path)


def archive(path, name="a.csv", cell="0.8"):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, f"case,dice\na,{cell}\n")


def other(path, content=b"\x00"):
    path.write_bytes(content)


WRITERS = {
    "a.nii.gz": image,
    "a.dcm": dicom,
    "a.json": record,
    "deep/a.csv": lambda path, *rows: table(path, *(rows or [("a", "0.8")])),
    "a.png": lambda path, red=0: Image.new("RGB", (4, 3), (red, 0, 0)).save(path),
    "a.html": page,
    "a.md": markdown,
    "a.pth": weights,
    "a.zip": archive,
    "a.bin": other,
    "a.txt": other,
}


@pytest.fixture
def folders(tmp_path):
    """Two equal folders with a file of each kind."""
    before, after = tmp_path / "before", tmp_path / "after"
    (before / "deep").mkdir(parents=True)
    for name, write in WRITERS.items():
        write(before / name)
    shutil.copytree(before, after)
    return before, after


def status(main, folders):
    return main([str(folder) for folder in folders])


def test_equal_folders_are_equal(main, folders, capsys):
    assert status(main, folders) == 0
    assert f"| all | {len(WRITERS)} | {len(WRITERS)} | 0 | 0 | 0 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("a.json", {"varying": {"at": 8, "more": 1}}),
        ("a.json", {"version": 1, "notes": []}),
        ("a.dcm", {"uid": "1.2.4", "date": "20211231"}),
        ("a.html", {"heading": "All cases"}),
        ("a.md", {"heading": "Overlap"}),
        ("a.pth", {"begun": 3}),
        ("a.txt", {"content": b"other words"}),
    ],
)
def test_what_may_vary_is_no_difference(main, folders, name, change):
    WRITERS[name](folders[1] / name, **change)
    assert status(main, folders) == 0


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("a.nii.gz", {"voxel": 1e-30}, "1 of 12 voxels differ"),
        ("a.nii.gz", {"voxel": -0.0}, "1 of 12 voxels differ"),
        ("a.nii.gz", {"spacing": 2.5}, "headers differ"),
        ("a.json", {"notes": ["further"]}, "notes[0]: only after"),
        ("a.dcm", {"pixel": 2}, ".PixelData: "),
        ("a.dcm", {"volume": "1.6"}, ".MeasuredValueSequence[0].NumericValue: 1.5 and 1.6"),
        ("a.json", {"tumor": {"ml": 1}}, "tumor.ml: 1.0 and 1"),
        ("a.json", {"rois": [{"id": 1}, {}]}, "rois[1]: only after"),
        ("a.json", {"flags": ["new_flag"]}, "flags[0]: 'old_flag' and 'new_flag'"),
        ("a.png", {"red": 1}, "12 of 12 pixels differ"),
        ("a.html", {"cell": "12.6 ml"}, "'12.5 ml' and '12.6 ml'"),
        ("a.md", {"cell": "0.82"}, "'0.81' and '0.82'"),
        ("a.pth", {"value": 2.0}, ".network_weights.conv: "),
        ("a.zip", {"cell": "0.9"}, "a.csv: line 2, dice: '0.8' and '0.9'"),
        ("a.zip", {"name": "b.csv"}, "a.csv: only before"),
        ("a.bin", {"content": b"\x01"}, "1 and 1 bytes that differ"),
        ("a.json.gz", {"content": b"\x01"}, "only after"),
    ],
)
def test_one_changed_value_is_found_and_named(main, folders, capsys, name, change, told):
    WRITERS.get(name, other)(folders[1] / name, **change)
    assert status(main, folders) == 1
    said = capsys.readouterr().out
    assert f"\n{name}: " in said
    assert told in said


@pytest.mark.parametrize(
    ("rows", "told"), [([("a", "0.9")], "line 2, dice: '0.8' and '0.9'"), ([("a", "0.8"), ("b", "0.8")], "2 lines of")]
)
def test_a_changed_cell_and_a_further_row_are_found(main, folders, capsys, rows, told):
    table(folders[1] / "deep" / "a.csv", *rows)
    assert status(main, folders) == 1
    assert told in capsys.readouterr().out


def test_a_uid_that_takes_the_place_of_two_is_found(main, folders, capsys):
    for folder, other in zip(folders, ("1.9.8", "1.9.9"), strict=True):
        dicom(folder / "b.dcm", source=other)
    assert status(main, folders) == 1
    assert "1.9.9 took the place of 1.9.8" in capsys.readouterr().out


def test_renamed_keys_words_and_columns_are_known_at_any_depth(main, folders, monkeypatch):
    renames = sys.modules["result_files"]
    monkeypatch.setitem(renames.RENAMED_KEYS, "tumor.ml", "tumor.volume_ml")
    monkeypatch.setitem(renames.RENAMED_KEYS, "rois", "regions")
    monkeypatch.setitem(renames.RENAMED_WORDS, "old_flag", "new_flag")
    monkeypatch.setitem(renames.RENAMED_COLUMNS, "dice", "overlap")
    renamed = {"case": "a", "flags": ["new_flag"], "tumor": {"volume_ml": 1.0}, "regions": [{"id": 1}]}
    (folders[0] / "a.json").write_text(json.dumps({"cases": {"a.b": json.loads((folders[0] / "a.json").read_text())}}))
    (folders[1] / "a.json").write_text(json.dumps({"cases": {"a.b": renamed}}))
    (folders[1] / "deep" / "a.csv").write_text("case,overlap\na,0.8\n")
    (folders[0] / "a.zip").unlink()
    (folders[1] / "a.zip").unlink()
    assert status(main, folders) == 0


def test_folders_may_be_named_in_what_they_hold(main, folders):
    for folder in folders:
        record(folder / "a.json", image=str(folder / "a.nii.gz"))
    assert status(main, folders) == 0


def test_nothing_to_compare_is_no_success(main, tmp_path):
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
    assert status(main, (tmp_path / "before", tmp_path / "after")) == 2
