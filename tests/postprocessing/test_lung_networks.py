import logging
import sys
import warnings
from functools import partial

import lungmask.mask
import numpy as np
import pytest
import torch
from lungmask.resunet import UNet

from nnunet_cascade.errors import LungMaskError, SettingsError
from nnunet_cascade.geometry import Grid
from nnunet_cascade.images import Volume
from nnunet_cascade.postprocessing.lungs import lungmask_network as learned
from nnunet_cascade.postprocessing.lungs.result import LEFT, RIGHT
from nnunet_cascade.postprocessing.lungs.source import LungSource, find_lungs

GRID = Grid(shape=(4, 32, 40), spacing_mm=(10.0, 5.0, 5.0))
CT = Volume(np.zeros(GRID.shape, dtype=np.float32), GRID)
DOWNLOADS = {"R231": "unet_r231-d5d2fc3d.pth", "LTRCLobes": "unet_ltrclobes-3a07043d.pth"}


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


class Recorder:
    """Stands in for lungmask's own class and notes what it was asked for."""

    asked = ()

    def __init__(self, **options):
        type(self).asked = (*type(self).asked, options)

    def apply(self, image):
        return np.zeros(image.GetSize()[::-1], dtype=np.uint8)


@pytest.fixture
def recorder(monkeypatch):
    monkeypatch.setattr(Recorder, "asked", ())
    monkeypatch.setattr("lungmask.LMInferer", Recorder)
    return Recorder


@pytest.fixture(scope="module")
def small_thorax(thorax):
    """Every third slice: the network looks at slices alone."""
    grid = thorax.ct.grid
    kept = slice(None, None, 3)
    fewer = Grid(
        shape=thorax.ct.array[kept].shape,
        spacing_mm=(3 * grid.spacing_mm[0], *grid.spacing_mm[1:]),
        origin_mm=grid.origin_mm,
    )
    return Volume(np.ascontiguousarray(thorax.ct.array[kept]), fewer), thorax.right[kept], thorax.left[kept]


def test_a_network_sees_every_layout_upright(small_thorax, layout, monkeypatch):
    monkeypatch.setattr(lungmask.mask, "get_model", lambda *_: Darkness())
    ct, right, left = small_thorax
    turned = Volume(layout.array(ct.array), layout.grid(ct.grid))
    found = find_lungs(turned, LungSource(kind="lungmask", device="cpu"), case="a")
    for side, drawn in ((RIGHT, right), (LEFT, left)):
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
    source = LungSource(kind="lungmask", weights=tmp_path / "tiny.pth", device="cpu")
    assert set(np.unique(find_lungs(CT, source, case="a").labels)) - {0} == {side}


def test_a_network_that_finds_nothing_gives_an_empty_mask(monkeypatch):
    monkeypatch.setattr(lungmask.mask, "get_model", lambda *_: Darkness())
    found = find_lungs(CT, LungSource(kind="lungmask", device="cpu"), case="a")
    assert found.flags == ("lungs_empty",)
    assert not found.is_plausible


def test_batch_size_device_and_model_are_passed_on(recorder, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for device, is_forced in (("cpu", True), ("auto", False), ("cuda", False)):
        find_lungs(CT, LungSource(kind="lungmask", model="R231CovidWeb", batch_size=3, device=device), case="a")
        asked = recorder.asked[-1]
        assert asked["force_cpu"] is is_forced
        assert (asked["modelname"], asked["modelpath"], asked["batch_size"]) == ("R231CovidWeb", None, 3)
        assert asked["fillmodel"] is None


def test_the_fusion_fills_lobes_with_r231(recorder, tmp_path):
    for name in DOWNLOADS.values():
        torch.save({"some": torch.zeros(1)}, tmp_path / name)
    find_lungs(CT, LungSource(kind="lungmask", model="LTRCLobes_R231", weights=tmp_path), case="a")
    (asked,) = recorder.asked
    assert (asked["modelname"], asked["fillmodel"]) == ("LTRCLobes", "R231")
    assert asked["modelpath"] == str(tmp_path / DOWNLOADS["LTRCLobes"])
    assert asked["fillmodel_path"] == str(tmp_path / DOWNLOADS["R231"])


class Harm:
    def __reduce__(self):
        return print, ("code ran",)


def test_a_weights_file_that_holds_code_is_refused_and_runs_none(recorder, tmp_path, capsys):
    torch.save({"weights": Harm()}, tmp_path / "r231.pth")
    with pytest.raises(LungMaskError, match="does not hold weights"):
        find_lungs(CT, LungSource(kind="lungmask", weights=tmp_path / "r231.pth"), case="a")
    assert "code ran" not in capsys.readouterr().out
    assert recorder.asked == ()


@pytest.mark.parametrize(
    ("model", "weights", "message"),
    [
        ("LTRCLobes_R231", "r231.pth", "joins LTRCLobes and R231"),
        ("R231", ".", r"unet_r231-d5d2fc3d\.pth do not exist"),
    ],
    ids=["one file for the fusion", "a folder without the weights"],
)
def test_weights_that_are_not_enough_are_refused(tmp_path, model, weights, message):
    (tmp_path / "r231.pth").touch()
    with pytest.raises(LungMaskError, match=message):
        find_lungs(CT, LungSource(kind="lungmask", model=model, weights=tmp_path / weights), case="a")


def test_the_network_stays_in_memory_for_the_next_case(recorder):
    for case in ("a", "b"):
        find_lungs(CT, LungSource(kind="lungmask"), case=case)
    assert len(recorder.asked) == 1
    find_lungs(CT, LungSource(kind="lungmask", batch_size=2), case="c")
    assert len(recorder.asked) == 2


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_told(device, recorder, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(LungMaskError, match=f"{device}: no such device"):
        find_lungs(CT, LungSource(kind="lungmask", device=device), case="a")
    assert not recorder.asked


@pytest.mark.parametrize("bad", [{"device": "tpu"}, {"batch_size": 0}])
def test_impossible_ways_to_run_a_network_are_refused(bad):
    with pytest.raises(SettingsError):
        LungSource(kind="lungmask", **bad)


def test_lungmask_changes_no_filter_of_warnings(tmp_path, monkeypatch):
    for name in ("lungmask", "lungmask.mask"):
        monkeypatch.delitem(sys.modules, name)
    before, path = list(warnings.filters), tmp_path / "r231.pth"
    path.write_bytes(b"not weights")
    with pytest.raises(LungMaskError):
        find_lungs(CT, LungSource(kind="lungmask", weights=path), case="a")
    assert warnings.filters == before


def test_lungmask_writes_nothing_on_the_screen(monkeypatch, capsys):
    monkeypatch.setattr(lungmask.mask, "get_model", lambda *_: Darkness())
    handler = logging.StreamHandler(sys.stdout)
    monkeypatch.setattr(logging.getLogger("lungmask"), "handlers", [handler])
    find_lungs(CT, LungSource(kind="lungmask", device="cpu"), case="a")
    assert capsys.readouterr().out == ""
    assert logging.getLogger("lungmask").level == logging.INFO
