"""Lungs by threshold on real CTs agree with the lungs that were drawn on them."""

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_cascade.images import Volume, grid_of, read_volume
from nnunet_cascade.postprocessing.lungs.source import LungSource, find_lungs


def read_series(folder) -> Volume:
    """Read the series with the most slices of a folder that may hold plans and doses too."""
    reader = sitk.ImageSeriesReader()
    series = [reader.GetGDCMSeriesFileNames(str(folder), uid) for uid in reader.GetGDCMSeriesIDs(str(folder))]
    image = sitk.ReadImage(max(series, key=len))
    return Volume(sitk.GetArrayFromImage(image).astype(np.float32), grid_of(image))


def test_a_coarse_thorax_agrees_with_its_labels(real_data):
    folder = real_data / "CIP_ct64"
    found = find_lungs(read_volume(folder / "ct-64.nrrd"), LungSource(), case="ct64")
    regions = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "lm-64.nrrd"))) & 255
    for side, values in ((1, (12, 13, 14)), (2, (9, 10, 11))):
        here, there = found.labels == side, np.isin(regions, values)
        assert 2 * np.count_nonzero(here & there) / (here.sum() + there.sum()) > 0.95


# Volumes of the clinical contours: data/README.md, voxels × voxel size.
@pytest.mark.parametrize(("case", "right_ml", "left_ml"), [("LUNG1-001/image", 2966, 2277), ("LUNG1-002", None, 1963)])
def test_clinical_cts_give_lungs_of_the_clinical_volume(real_data, case, right_ml, left_ml):
    ct = read_series(real_data / case)
    found = find_lungs(ct, LungSource(), case=case)
    assert 2000 < found.volume_ml < 8000
    assert found.flags == ()
    for side, expected_ml in ((1, right_ml), (2, left_ml)):
        volume_ml = np.count_nonzero(found.labels == side) * ct.grid.voxel_volume_mm3 / 1000
        assert expected_ml is None or volume_ml == pytest.approx(expected_ml, rel=0.05)
