"""A bundle to break, and where broken ones would leave their mark."""

import shutil

import pytest


@pytest.fixture
def bundle(tiny_cascade, tmp_path):
    """A copy of the tiny bundle without its manifest, so that its files may be changed."""
    folder = shutil.copytree(tiny_cascade.bundle, tmp_path / "bundle")
    (folder / "manifest.json").unlink(missing_ok=True)
    return folder


@pytest.fixture
def canary(tmp_path):
    """A folder that is there once code of a file has run."""
    return tmp_path / "canary"
