"""Lungs of the pretrained networks of lungmask."""

import logging
import sys
import urllib.error
import warnings
from dataclasses import replace
from functools import partial

import lungmask.mask
import numpy as np
import pytest
import torch
from lungmask.resunet import UNet

from nnunet_cascade.errors import LungMaskError
from nnunet_cascade.geometry import Grid
from nnunet_cascade.images import Volume
from nnunet_cascade.postprocessing.lungs import lungmask_network as learned
from nnunet_cascade.postprocessing.lungs.result import LEFT, RIGHT
from nnunet_cascade.postprocessing.lungs.source import LungSource, find_lungs

GRID = Grid(shape=(4, 32, 40), spacing_mm=(10.0, 5.0, 5.0))
CT = Volume(np.zeros(GRID.shape, dtype=np.float32), GRID)
DOWNLOADS = {"R231": "unet_r231-d5d2fc3d.pth", "LTRCLobes": "unet_ltrclobes-3a07043d.pth"}


def find(ct=CT, **source):
    return find_lungs(ct, LungSource(kind="lungmask", **source), case="a")


@pytest.fixture(autouse=True)
def no_network_in_memory():
    learned._load.cache_clear()
    yield
    learned._load.cache_clear()


class Darkness(torch.nn.Module):
    """Finds what is dark but not air: class 1 in the first half of the columns, 2 in the second."""

    def forward(self, slices):
        dark = ((slices > 0.05) & (slices < 0.2)).float()[:, 0]
        first = torch.arange(dark.shape[-1]) < dark.shape[-1] // 2
        return torch.stack([0.5 * torch.ones_like(dark), dark * first, dark * ~first], dim=1)


@pytest.fixture
def darkness(monkeypatch):
    monkeypatch.setattr(lungmask.mask, "get_model", lambda *_: Darkness())


@pytest.fixture
def asked(monkeypatch):
    """What lungmask's own class was asked for; it finds six lobes or sides, and fails for batches of 99 slices."""
    options = []

    class Inferer:
        def __init__(self, **given):
            options.append(given)

        def apply(self, image):
            if options[-1]["batch_size"] == 99:
                raise RuntimeError("out of memory")
            return np.arange(image.GetNumberOfPixels()).reshape(image.GetSize()[::-1]) % 6

    monkeypatch.setattr("lungmask.LMInferer", Inferer)
    return options


@pytest.mark.usefixtures("darkness")
def test_a_network_sees_every_layout_upright(thorax, layout):
    fifth = slice(None, None, 5)  # the network looks at slices alone
    array, grid = thorax.ct.array[fifth], thorax.ct.grid
    grid = replace(grid, shape=array.shape, spacing_mm=(5 * grid.spacing_mm[0], *grid.spacing_mm[1:]))
    found = find(Volume(layout.array(array), layout.grid(grid)), device="cpu")
    for side, drawn in ((RIGHT, thorax.right[fifth]), (LEFT, thorax.left[fifth])):
        both = np.count_nonzero((found.labels == side) & layout.array(drawn))
        assert 2 * both / (np.count_nonzero(found.labels == side) + np.count_nonzero(drawn)) > 0.95


@pytest.mark.parametrize("side", [RIGHT, LEFT])
def test_the_given_weights_are_those_that_predict(tmp_path, monkeypatch, side):
    tiny = partial(UNet, wf=1)
    monkeypatch.setattr(lungmask.mask, "UNet", tiny)
    state = tiny(n_classes=3, padding=True, depth=5, up_mode="upsample", batch_norm=True).state_dict()
    state["last.weight"].zero_()
    state["last.bias"].copy_(torch.eye(3)[side])
    torch.save(state, tmp_path / "tiny.pth")
    assert set(np.unique(find(weights=tmp_path / "tiny.pth", device="cpu").labels)) - {0} == {side}


@pytest.mark.usefixtures("darkness")
def test_a_network_that_finds_nothing_gives_an_empty_mask_and_writes_nothing_on_the_screen(monkeypatch, capsys):
    monkeypatch.setattr(logging.getLogger("lungmask"), "handlers", [logging.StreamHandler(sys.stdout)])
    assert find(device="cpu").flags == ("lungs_empty",)
    assert capsys.readouterr().out == ""
    assert logging.getLogger("lungmask").level == logging.INFO


def test_batch_size_device_and_model_are_passed_on(asked, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for device, is_forced in (("cpu", True), ("auto", False), ("cuda", False)):
        find(model="R231CovidWeb", batch_size=3, device=device)
        assert asked[-1]["force_cpu"] is is_forced
        assert (asked[-1]["modelname"], asked[-1]["modelpath"], asked[-1]["batch_size"]) == ("R231CovidWeb", None, 3)
        assert asked[-1]["fillmodel"] is None


def test_the_fusion_fills_lobes_with_r231_and_lobes_become_sides(asked, tmp_path):
    for name in DOWNLOADS.values():
        torch.save({"some": torch.zeros(1)}, tmp_path / name)
    found = find(model="LTRCLobes_R231", weights=tmp_path)
    assert (asked[0]["modelname"], asked[0]["fillmodel"]) == ("LTRCLobes", "R231")
    assert asked[0]["modelpath"] == str(tmp_path / DOWNLOADS["LTRCLobes"])
    assert asked[0]["fillmodel_path"] == str(tmp_path / DOWNLOADS["R231"])
    assert found.labels.ravel()[:6].tolist() == [0, 2, 2, 1, 1, 1]
    assert found.source == "lungmask LTRCLobes_R231"


@pytest.mark.usefixtures("asked")
def test_a_network_that_fails_is_told():
    with pytest.raises(LungMaskError, match=r"out of memory\); give less than 99 slices at a time"):
        find(batch_size=99)


class Harm:
    def __reduce__(self):
        return print, ("code ran",)


def test_a_weights_file_that_holds_code_is_refused_and_runs_none(asked, tmp_path, capsys):
    torch.save({"weights": Harm()}, tmp_path / "r231.pth")
    with pytest.raises(LungMaskError, match="does not hold weights"):
        find(weights=tmp_path / "r231.pth")
    assert "code ran" not in capsys.readouterr().out
    assert asked == []


@pytest.mark.parametrize(
    ("model", "weights", "message"),
    [
        ("LTRCLobes_R231", "r231.pth", "joins LTRCLobes and R231"),
        ("R231", ".", r"unet_r231-d5d2fc3d\.pth do not exist"),
        ("R231", "none.pth", r"none\.pth do not exist"),
        ("R231", "r231.pth", "does not hold weights"),
    ],
    ids=["one file for the fusion", "a folder without the weights", "no file", "a file of something else"],
)
def test_weights_that_are_not_enough_are_refused(tmp_path, model, weights, message):
    (tmp_path / "r231.pth").write_bytes(b"not weights")
    with pytest.raises(LungMaskError, match=message):
        find(model=model, weights=tmp_path / weights)


def test_a_failed_download_points_to_a_weights_file(monkeypatch):
    def offline(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    with pytest.raises(LungMaskError, match="pass the path of a weights file"):
        find()


def test_the_network_stays_in_memory_for_the_next_case(asked):
    for batch_size, loaded in ((20, 1), (20, 1), (2, 2)):
        find(batch_size=batch_size)
        assert len(asked) == loaded


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_told(device, asked, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(LungMaskError, match=f"{device}: no such device"):
        find(device=device)
    assert not asked


def test_lungmask_changes_no_filter_of_warnings(tmp_path, monkeypatch):
    for name in ("lungmask", "lungmask.mask"):
        monkeypatch.delitem(sys.modules, name)
    before, path = list(warnings.filters), tmp_path / "r231.pth"
    path.write_bytes(b"not weights")
    with pytest.raises(LungMaskError):
        find(weights=path)
    assert warnings.filters == before
