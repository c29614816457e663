"""What the tests of the tiny cascade share."""

import json

import pytest


@pytest.fixture(scope="session")
def splits(tiny_cascade):
    return json.loads((tiny_cascade.preprocessed / "splits_final.json").read_text())
