"""A bundle to break, and where broken ones would leave their mark."""

import shutil

import pytest

from nnunet_cascade.bundles.bundle import make_bundle, read_spec


@pytest.fixture
def bundle(tiny_cascade, tmp_path):
    """A copy of the tiny bundle without its manifest, so that its files may be changed."""
    folder = shutil.copytree(tiny_cascade.bundle, tmp_path / "bundle")
    (folder / "manifest.json").unlink(missing_ok=True)
    return folder


@pytest.fixture(scope="module")
def made(tiny_cascade, tmp_path_factory):
    """A bundle as nnc-make-bundle makes it."""
    folder = tmp_path_factory.mktemp("made") / "bundle"
    spec = read_spec(tiny_cascade.bundle)
    make_bundle(folder, stage1=tiny_cascade.model(1), stage2=tiny_cascade.model(2), spec=spec, notes=["a | note"])
    return folder


@pytest.fixture
def canary(tmp_path):
    """A folder that is there once code of a file has run."""
    return tmp_path / "canary"
