"""The demonstration's data go through DICOM and come out as they were drawn."""

import numpy as np

from nnunet_cascade.images import read_volume
from nnunet_cascade.phantom.cohort import TEST_SEEDS, TRAIN_SEEDS
from nnunet_cascade.phantom.record import phantom_name
from nnunet_cascade.phantom.settings import PhantomSettings
from nnunet_cascade.phantom.thorax import make_phantom
from nnunet_cascade.reproduction.demo import DemoRequest, make_demo_dataset


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
