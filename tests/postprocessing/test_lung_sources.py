import urllib.error
from pathlib import Path

import numpy as np
import pytest

from nnunet_cascade.errors import GridMismatchError, LungMaskError, SettingsError
from nnunet_cascade.geometry import Grid
from nnunet_cascade.images import Volume, write_image
from nnunet_cascade.postprocessing.lungs import lungmask_network as learned
from nnunet_cascade.postprocessing.lungs.result import LungMask
from nnunet_cascade.postprocessing.lungs.source import LungSource, find_lungs

GRID = Grid(shape=(4, 5, 6), spacing_mm=(50.0, 50.0, 50.0))
CT = Volume(np.zeros(GRID.shape, dtype=np.float32), GRID)


@pytest.fixture(autouse=True)
def no_network_in_memory():
    learned._load.cache_clear()
    yield
    learned._load.cache_clear()


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "guess"},
        {"kind": "folder"},
        {"kind": "threshold", "path": Path("masks")},
        {"kind": "threshold", "weights": Path("r231.pth")},
        {"kind": "lungmask", "model": "R999"},
    ],
)
def test_contradicting_sources_are_refused(bad):
    with pytest.raises(SettingsError):
        LungSource(**bad)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1, 2], [0, 1, 2]),
        ([0, 1, 2, 3], [0, 1, 2, 3]),
        ([0, 1, 2, 3, 4, 5], [0, 1, 2]),
        ([0, 1], [0, 3]),
        ([0, 255], [0, 3]),
        ([0, 1, 2, 5], [0, 3]),
        ([0], [0]),
    ],
)
def test_files_keep_sides_only_where_they_are_right_and_left(tmp_path, values, expected):
    labels = np.zeros(GRID.shape, dtype=np.int16)
    labels.ravel()[: len(values)] = values
    write_image(labels, GRID, tmp_path / "a.nii.gz")
    found = find_lungs(CT, LungSource(kind="folder", path=tmp_path), case="a")
    np.testing.assert_array_equal(found.mask, labels > 0)
    assert np.unique(found.labels).tolist() == expected
    assert found.source == f"folder {tmp_path.name}"


def test_a_file_on_another_grid_is_refused(tmp_path):
    other = Grid(shape=GRID.shape, spacing_mm=(50.0, 50.0, 49.0))
    write_image(np.ones(GRID.shape, dtype=np.uint8), other, tmp_path / "a.nii.gz")
    with pytest.raises(GridMismatchError, match="lung mask"):
        find_lungs(CT, LungSource(kind="folder", path=tmp_path), case="a")


@pytest.mark.parametrize(
    ("right", "left", "unknown", "flags"),
    [
        (10, 10, 0, ()),
        (0, 0, 0, ("lungs_empty",)),
        (3, 3, 0, ("lungs_implausible",)),
        (50, 50, 0, ("lungs_implausible",)),
        (20, 1, 0, ("one_lung_small",)),
        (0, 0, 20, ()),
    ],
)
def test_implausible_masks_are_flagged(right, left, unknown, flags):
    labels = np.repeat(np.array([1, 2, 3, 0]), [right, left, unknown, 120 - right - left - unknown])
    found = LungMask.of(labels.reshape(GRID.shape), GRID, source="drawn")
    assert found.flags == flags
    assert found.volume_ml == pytest.approx(125.0 * (right + left + unknown))
    assert found.labels.dtype == np.uint8


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"kind": "folder", "path": "."}, r"b\.nii\.gz does not exist"),
        ({"kind": "lungmask", "weights": "none.pth"}, "do not exist"),
        ({"kind": "lungmask", "weights": "r231.pth"}, "does not hold weights"),
    ],
)
def test_missing_and_broken_files_are_refused_by_name(tmp_path, source, message):
    (tmp_path / "r231.pth").write_bytes(b"not weights")
    paths = {key: tmp_path / value for key, value in source.items() if key != "kind"}
    with pytest.raises(LungMaskError, match=message):
        find_lungs(CT, LungSource(kind=source["kind"], **paths), case="b")


def test_a_failed_download_points_to_a_weights_file(monkeypatch):
    def offline(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    with pytest.raises(LungMaskError, match="pass the path of a weights file"):
        find_lungs(CT, LungSource(kind="lungmask"), case="a")


def test_lobes_become_sides(monkeypatch):
    lobes = np.zeros(GRID.shape, dtype=np.uint8)
    lobes.ravel()[:6] = [0, 1, 2, 3, 4, 5]
    monkeypatch.setattr("lungmask.LMInferer", lambda **_: type("Network", (), {"apply": lambda *_: lobes})())
    found = find_lungs(CT, LungSource(kind="lungmask", model="LTRCLobes"), case="a")
    assert found.labels.ravel()[:6].tolist() == [0, 2, 2, 1, 1, 1]
    assert found.source == "lungmask LTRCLobes"


def test_a_network_that_fails_is_told(monkeypatch):
    class Network:
        def apply(self, _):
            raise RuntimeError("out of memory")

    monkeypatch.setattr("lungmask.LMInferer", lambda **_: Network())
    with pytest.raises(LungMaskError, match="out of memory"):
        find_lungs(CT, LungSource(kind="lungmask"), case="a")
