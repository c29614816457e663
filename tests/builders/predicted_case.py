"""Fixtures: the tiny cascade in memory, and what it finds in one phantom."""

import json

import pytest
import torch

from nnunet_cascade.bundles.bundle import load_cascade
from nnunet_cascade.images import read_ct, read_labels
from nnunet_cascade.prediction.case import PrecomputedInputs, predict_case


@pytest.fixture(scope="session")
def splits(tiny_cascade):
    return json.loads((tiny_cascade.preprocessed / "splits_final.json").read_text())


@pytest.fixture(scope="session")
def cascade(tiny_cascade):
    return load_cascade(tiny_cascade.bundle, device=torch.device("cpu"))


@pytest.fixture(scope="session")
def image(tiny_cascade):
    return read_ct(tiny_cascade.test_image)


@pytest.fixture(scope="session")
def truth(tiny_cascade, image):
    return read_labels(tiny_cascade.test_truth, image.grid, what="label") > 0


@pytest.fixture(scope="session")
def result(cascade, image, truth):
    """With the truth as stage 1's prediction, so that stage 2 has work."""
    return predict_case(image, cascade, PrecomputedInputs(stage1=truth))
