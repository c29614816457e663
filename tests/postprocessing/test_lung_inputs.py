"""Which files of a lung source count, and that lungmask's weights do by what they hold."""

import hashlib
import os
from fnmatch import fnmatch
from pathlib import Path

import lungmask.mask
import pytest

from nnunet_cascade.errors import LungMaskError
from nnunet_cascade.postprocessing.lungs import inputs as lung_inputs
from nnunet_cascade.postprocessing.lungs.inputs import lung_files, weights_checksum
from nnunet_cascade.postprocessing.lungs.source import LungSource


def sum_of(text):
    return hashlib.sha256(text.encode()).hexdigest()


def names(folder):
    return [path.relative_to(folder).as_posix() for path in lung_files(LungSource(kind="folder", path=folder), "a")]


class TestMasks:
    @pytest.mark.parametrize("there", [("left", "right"), ("left",)])
    def test_of_a_case_folder_the_masks_that_are_read_count_be_they_there_or_not(self, tmp_path, there):
        (tmp_path / "a").mkdir()
        for name in ("statistics.json", "heart.nii.gz", *(f"lung_{side}.nii.gz" for side in there)):
            (tmp_path / "a" / name).touch()
        assert names(tmp_path) == ["a/lung_left.nii.gz", "a/lung_right.nii.gz"]

    def test_a_file_goes_before_a_folder_and_stands_for_what_is_not_there(self, tmp_path):
        assert names(tmp_path) == ["a.nii.gz"]
        (tmp_path / "a").mkdir()
        (tmp_path / "a.nii.gz").touch()
        assert names(tmp_path) == ["a.nii.gz"]


class TestWeights:
    @pytest.mark.parametrize("source", [LungSource(), LungSource(kind="lungmask")])
    def test_none_that_are_given_have_no_checksum(self, source):
        assert (weights_checksum(source), lung_files(source, "a")) == (None, [])

    def test_a_file_counts_by_what_it_holds(self, tmp_path):
        path = tmp_path / "w.pth"
        path.write_text("one")
        source = LungSource(kind="lungmask", weights=path)
        assert weights_checksum(source) == sum_of("one")
        path.write_text("two")
        os.utime(path, ns=(1, 1))
        assert weights_checksum(source) == sum_of("two")

    def test_of_a_folder_the_files_of_the_network_count(self, tmp_path):
        for part in ("r231-d5d2fc3d", "ltrclobes-3a07043d", "r231covid-0de78a7e", "other"):
            (tmp_path / f"unet_{part}.pth").write_text(part)
        found = {
            model: weights_checksum(LungSource(kind="lungmask", weights=tmp_path, model=model))
            for model in ("R231", "R231CovidWeb", "LTRCLobes_R231")
        }
        both = "\n".join([sum_of("ltrclobes-3a07043d"), sum_of("r231-d5d2fc3d")])
        expected = sum_of("r231-d5d2fc3d"), sum_of("r231covid-0de78a7e"), sum_of(both)
        assert tuple(found.values()) == expected

    @pytest.mark.parametrize("model", ["R231", "LTRCLobes", "R231CovidWeb"])
    def test_names_are_those_of_lungmasks_downloads(self, model):
        known = {name: Path(url).name for name, (url, _) in lungmask.mask.MODEL_URLS.items()}
        (pattern,) = lung_inputs._DOWNLOADS[model]
        assert [name for name, file in known.items() if fnmatch(file, pattern)] == [model]

    @pytest.mark.parametrize("name", ["none.pth", "."])
    def test_weights_that_are_not_there_are_one_line(self, tmp_path, name):
        with pytest.raises(LungMaskError, match=r"give the file or a folder of lungmask's downloads"):
            weights_checksum(LungSource(kind="lungmask", weights=tmp_path / name))
