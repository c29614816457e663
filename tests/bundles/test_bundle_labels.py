"""Both stages of a bundle speak of the same tumor, and stage 2 of nothing else."""

import shutil

import pytest
import torch
from builders.malicious_files import change_json

from nnunet_cascade.bundles.bundle import load_cascade, make_bundle, read_spec
from nnunet_cascade.errors import BundleError
from nnunet_cascade.nnunet_folders import read_json

# nnU-Net warns where its variables are not set, MONAI on import.
pytestmark = pytest.mark.filterwarnings("ignore")
CUT_FROM = "nnunet_cascade_cut_from"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"labels": {"background": 0, "node": 1, "tumor": 2}}, "has the labels node 1, tumor 2; expected one"),
        (
            {"labels": {"background": 0, "both": [1, 2], "tumor": 2}, "regions_class_order": [1, 2]},
            r"has the labels both \[1, 2\], tumor 2; expected one",
        ),
    ],
)
def test_a_stage_2_of_more_than_one_label_is_refused_when_made_and_when_loaded(
    bundle, tiny_cascade, tmp_path, changes, told
):
    change_json(bundle / "stage2" / "dataset.json", lambda content: content.update(changes))
    message = f"{bundle / 'stage2'}: stage 2 {told}"
    with pytest.raises(BundleError, match=message):
        load_cascade(bundle, device=torch.device("cpu"))
    models = {"stage1": tiny_cascade.model(1), "stage2": bundle / "stage2"}
    with pytest.raises(BundleError, match=message):
        make_bundle(tmp_path / "b", **models, spec=read_spec(bundle))
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("cut", "told"),
    [
        (None, ""),
        ({"dataset": "Dataset501_Phantoms", "tumor_labels": [1]}, ""),
        ({"dataset": "Dataset777_Others", "tumor_labels": [5]}, ""),
        (
            {"dataset": "Dataset501_Phantoms", "tumor_labels": [1, 2]},
            r"crops around the labels \[1, 2\] of Dataset501_Phantoms; the tumor of stage 1 is \[1\]; give the same",
        ),
    ],
    ids=["unknown", "the same", "another dataset", "others"],
)
def test_crops_around_other_labels_of_the_same_dataset_are_refused(tiny_cascade, tmp_path, cut, told):
    model = shutil.copytree(tiny_cascade.model(2), tmp_path / "model")
    change_json(model / "dataset.json", lambda content: content.pop(CUT_FROM, None))
    if cut is not None:
        change_json(model / "dataset.json", lambda content: content.update({CUT_FROM: cut}))
    target, models = tmp_path / "b", {"stage1": tiny_cascade.model(1), "stage2": model}
    if told:
        with pytest.raises(BundleError, match=told):
            make_bundle(target, **models, spec=read_spec(tiny_cascade.bundle))
        return
    make_bundle(target, **models, spec=read_spec(tiny_cascade.bundle))
    assert CUT_FROM not in read_json(target / "stage2" / "dataset.json")
