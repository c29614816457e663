"""A folder with the files that the examples name, and what stands for the cascade in them."""

import shutil

import numpy as np
import pytest
from builders.drawn_chests import GRID, chest_ct
from builders.tiny_cascades import quick_spec

import nnunet_cascade as nnc
from nnunet_cascade.images import write_image


@pytest.fixture
def drawn_ct(tmp_path, monkeypatch):
    """`ct.nii.gz` in the working folder: a drawn chest."""
    write_image(chest_ct(), GRID, tmp_path / "ct.nii.gz")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "ct.nii.gz"


@pytest.fixture(scope="session")
def loaded(tiny_cascade):
    """The tiny cascade behind the front door, made quick."""
    return nnc.load_cascade(tiny_cascade.bundle, device="cpu", spec=quick_spec(tiny_cascade.bundle))


@pytest.fixture
def example_names(drawn_ct, request):
    """The names that examples use besides their own: `nnc`, `np` and, where it is asked for, `cascade`."""

    def build(*, with_cascade):
        if not with_cascade:
            return {"nnc": nnc, "np": np}
        tiny = request.getfixturevalue("tiny_cascade")
        (drawn_ct.parent / "demo").mkdir()
        (drawn_ct.parent / "demo" / "bundle").symlink_to(tiny.bundle)
        shutil.copyfile(tiny.test_image, drawn_ct)
        return {"nnc": nnc, "np": np, "cascade": request.getfixturevalue("loaded")}

    return build
