"""`nnc-import-weights`: what it prints, what it writes, and its exit codes."""

import json
from pathlib import Path

import pytest
import torch
from builders.tiny_plans import PLAIN, write_plans
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnunet_cascade.cli import import_weights

# MONAI warns on import, nnU-Net where its variables are not set.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def plans(tmp_path):
    return write_plans(tmp_path / "mine")


@pytest.fixture
def checkpoint(tmp_path):
    """An nnU-Net checkpoint of five classes, with something more in it."""
    network = get_network_from_plans(
        PLAIN["network_class_name"], PLAIN["arch_kwargs"], PLAIN["_kw_requires_import"], 1, 5, allow_init=True
    )
    weights = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save({"network_weights": {**weights, "module.extra.head.weight": torch.ones(2)}}, tmp_path / "model.pth")
    return tmp_path / "model.pth"


@pytest.fixture
def command(plans, checkpoint, tmp_path):
    """Run the command; gives the exit code."""

    def run(*changed, source=checkpoint, trainer="UncertaintyROITrainer"):
        options = ["--plans", plans, "-tr", trainer, "-o", tmp_path / "weights.pth", *changed]
        return import_weights.main([str(part) for part in (source, *options)])

    return run


def test_what_was_taken_and_what_not_is_told_in_groups(command, tmp_path, capsys):
    assert command() == 0
    lines = capsys.readouterr().out.splitlines()
    # Convolutions and norms, each weight and bias: encoder 3 × 2, decoder 2 × 2, and two transposed convolutions.
    taken = (3 * 2 + 2 * 2) * 4 + 2 * 2
    assert lines[0].startswith(f"model.pth: {taken} of {taken + 4} weights taken, ")
    assert lines[0].endswith("numbers; network_weights.module.* → *")
    assert lines[1].startswith("  of another shape, left as initialized: decoder.seg_layers.0.weight (5×8×1×1×1 in the")
    assert lines[2] == "  in the file, but not in the network: extra.head (1)"
    assert lines[3].startswith(f"{tmp_path / 'weights.pth'} is written; next: nnUNetv2_train Dataset501_Phantoms ")
    assert lines[3].endswith(f"-tr UncertaintyROITrainer -p nnUNetPlans -pretrained_weights {tmp_path / 'weights.pth'}")
    assert len(lines) == 4


def test_what_the_file_lacks_is_told(command, checkpoint, capsys):
    content = torch.load(checkpoint)["network_weights"]
    torch.save({name: value for name, value in content.items() if "decoder" not in name}, checkpoint)
    assert command() == 0
    told = "  not in the file, left as initialized: decoder.stages (16), decoder.transpconvs (4), decoder.seg_layers"
    assert told in capsys.readouterr().out


def test_the_report_names_every_weight_and_the_checkpoint_is_what_stock_nnunet_takes(command, tmp_path):
    assert command("--report", tmp_path / "report.json") == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["file"], report["trainer"]) == ("model.pth", "UncertaintyROITrainer")
    assert len(report["taken"]) == report["weights_taken"]
    assert len(report["taken"]) + len(report["left"]) + len(report["of_other_shape"]) == report["weights"]
    assert report["of_other_shape"][0] == {
        "name": "decoder.seg_layers.0.weight", "found": [5, 8, 1, 1, 1], "expected": [2, 8, 1, 1, 1]
    }  # fmt: skip
    assert report["unused"] == ["network_weights.module.extra.head.weight"]
    stored = torch.load(tmp_path / "weights.pth", weights_only=True)
    assert {"network_weights", "imported_from"} == set(stored)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {"a": torch.ones(2)}}, "expected weights of the same architecture"),
        ({}, "holds no weights"),
        ({"a": torch.ones(2), "b": Path("x")}, "asks for pathlib"),
    ],
)
def test_a_file_that_is_of_no_use_is_one_line_and_code_2(content, message, command, tmp_path, capsys):
    torch.save(content, tmp_path / "bad.pt")
    assert command(source=tmp_path / "bad.pt") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "weights.pth").exists()


def test_wrong_arguments_are_one_line_each_and_write_nothing(command, tmp_path, capsys):
    assert command(trainer="UncertantyROITrainer") == 2
    assert "did you mean UncertaintyROITrainer?" in capsys.readouterr().err
    assert command("--plans", tmp_path / "nothing.json") == 1
    assert command("--report", tmp_path / "nowhere" / "report.json") == 2
    assert capsys.readouterr().err.count("\n") == 2
    assert not (tmp_path / "weights.pth").exists()


def test_a_disk_that_cannot_be_written_is_code_1(command, monkeypatch, capsys):
    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    assert command() == 1
    assert capsys.readouterr().err == "nnc-import-weights: No space left on device\n"
