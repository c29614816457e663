"""Tiny ROI datasets below nnU-Net's folders, and trainers on them as nnU-Net makes them."""

import pytest
import torch
from builders.trainer_cases import BLOCK, CONFIGURATION, LABELLINGS, folders, write_dataset, write_plans
from nnunetv2.run.run_training import get_trainer_from_args


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory):
    """Every dataset of `LABELLINGS`, planned and preprocessed."""
    root = tmp_path_factory.mktemp("tiny_rois")
    for labelling in LABELLINGS.values():
        write_dataset(root, labelling)
    return root


@pytest.fixture(scope="module")
def nnunet_folders(tiny_root):
    """nnU-Net's variables name the tiny datasets for as long as a module runs."""
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in folders(tiny_root).items():
            patch.setenv(name, folder)
        yield tiny_root


@pytest.fixture
def make_trainer(nnunet_folders, tmp_path, monkeypatch):
    """Trainers as nnU-Net makes them by name, writing into a folder of the test."""
    monkeypatch.setenv("nnUNet_results", str(tmp_path))

    def make(name, labelling="tumor", *, planned=None, fold=0, **settings):
        """Settings change the plans' block; what is `planned` changes the rest, as `plans_of` takes it."""
        chosen = LABELLINGS[labelling]
        changed = {"block": {**BLOCK, **settings}, **(planned or {})}
        plans = write_plans(nnunet_folders, chosen, "changedPlans", **changed)
        return get_trainer_from_args(chosen.dataset, CONFIGURATION, fold, name, plans, device=torch.device("cpu"))

    return make


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    # Networks as small as these wait for each other's threads longer than they compute.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
