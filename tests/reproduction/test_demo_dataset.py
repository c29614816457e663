"""The demonstration's data go through DICOM and come out as they were drawn; what it concludes."""

import numpy as np
import pytest

from nnunet_cascade.evaluation.case import score_case
from nnunet_cascade.images import read_volume
from nnunet_cascade.phantom.cohort import TEST_SEEDS, TRAIN_SEEDS
from nnunet_cascade.phantom.record import phantom_name
from nnunet_cascade.phantom.settings import PhantomSettings
from nnunet_cascade.phantom.thorax import make_phantom
from nnunet_cascade.reproduction.demo import DemoRequest, conclusion, make_demo_dataset


def test_phantoms_come_back_from_dicom_voxel_for_voxel(tmp_path):
    dataset = make_demo_dataset(DemoRequest(folder=tmp_path, train=1, test=1))
    for seed, split in ((TRAIN_SEEDS[0], "Tr"), (TEST_SEEDS[0], "Ts")):
        phantom = make_phantom(seed, PhantomSettings(tumors=(1, 2)))
        image = read_volume(dataset / f"images{split}" / f"{phantom_name(seed)}_0000.nii.gz")
        labels = read_volume(dataset / f"labels{split}" / f"{phantom_name(seed)}.nii.gz")
        assert np.array_equal(image.array, phantom.ct)
        assert np.array_equal(labels.array > 0, phantom.tumors > 0)
        assert phantom.grid.difference(image.grid) is None
        assert phantom.grid.difference(labels.grid) is None


def scores(columns):
    """Of ten cases with a lesion of ten voxels along one axis, of which so many columns are found."""
    truth, found = np.zeros((2, 12, 40, 10), dtype=np.bool_)
    truth[4:6, 4:14] = True
    made = []
    for case, wide in enumerate(columns):
        found[...] = False
        found[4:6, 4 : 4 + wide] = True
        made.append(score_case(f"case {case}", truth, found, (1.0, 1.0, 1.0)))
    return made


@pytest.mark.parametrize(
    ("plain", "expected"),
    [
        ([5, 6, 5, 4, 6], "The cascade draws better than the plain nnU-Net (Dice +"),
        ([10, 10, 9, 10, 10], "The cascade draws worse than the plain nnU-Net (Dice -"),
        ([10, 6, 9, 5, 9], "These phantoms do not tell whether the cascade or the plain nnU-Net draws better (Dice "),
        (
            [8, 8, 9, 7, 8],
            "These phantoms do not tell whether the cascade or the plain nnU-Net draws better (Dice +0.000)",
        ),
    ],
)
def test_the_demonstration_concludes_no_more_than_the_interval_says(plain, expected):
    said = conclusion(scores([8, 8, 9, 7, 8]), scores(plain))
    assert said.startswith(expected)
    found = "found 5 of 5 lesions, with 0 false findings"
    assert said.endswith(f"). The cascade {found}; the plain nnU-Net {found}.")
