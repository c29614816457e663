"""Folders of drawn chests that workflows run on."""

import pytest
from builders.drawn_chests import Folders


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path)
