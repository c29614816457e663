"""The training that Python asks for is the one that the command asks for."""

from dataclasses import replace

import pytest

import nnunet_cascade as nnc
from nnunet_cascade.cli import options, train_cascade
from nnunet_cascade.training import pipeline


@pytest.mark.parametrize("preset", ["recommended", "paper"])
def test_a_preset_is_that_of_the_command(preset, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(pipeline, "train_cascade", asked.append)
    monkeypatch.setattr(options, "dataset_tumor", lambda *_: (1,))
    bundle = tmp_path / "bundle"
    assert train_cascade.main(["-d", "501", "-o", str(bundle), "--preset", preset, "-device", "cpu"]) == 0
    expected = nnc.TrainingRequest.of_preset(501, str(bundle), preset=preset, device="cpu")
    assert asked == [replace(expected, tumor_labels=(1,))]
