"""Commands without work to do: help, usage, errors in one line."""

import dataclasses
import signal
import subprocess
import sys

import pytest

from nnunet_cascade.cli import (
    anatomy_filter,
    calibrate,
    cascade_predict,
    demo,
    evaluate,
    import_weights,
    lung_mask,
    make_bundle,
    plan,
    reproduce_paper,
    roi_dataset,
    train_cascade,
)
from nnunet_cascade.cli.plan import training_values
from nnunet_cascade.errors import SettingsError
from nnunet_cascade.settings.training import TrainingSettings

NEEDY = [
    anatomy_filter,
    calibrate,
    cascade_predict,
    evaluate,
    import_weights,
    lung_mask,
    make_bundle,
    plan,
    reproduce_paper,
    roi_dataset,
    train_cascade,
]
COMMANDS = [demo, *NEEDY]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_that_it_is_no_medical_device(command, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["-h"])
    assert stop.value.code == 0
    assert "not a medical device." in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", NEEDY)
def test_missing_arguments_are_wrong_usage(command, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main([])
    assert stop.value.code == 2
    assert "required" in capsys.readouterr().err


def test_what_is_no_bundle_is_one_line(tmp_path, capsys):
    code = cascade_predict.main(["-i", str(tmp_path), "-o", str(tmp_path / "o"), "-m", str(tmp_path)])
    error = capsys.readouterr().err
    assert code == 1
    assert error.count("\n") == 1
    assert "has no cascade.json; expected a bundle" in error


def test_an_unknown_bundle_version_is_one_line(tmp_path, capsys):
    (tmp_path / "cascade.json").write_text('{"version": 7}')
    assert cascade_predict.main(["-i", str(tmp_path), "-o", str(tmp_path / "o"), "-m", str(tmp_path)]) == 1
    assert "bundle version 7; this release reads version 1" in capsys.readouterr().err


def test_an_unset_variable_is_one_line(monkeypatch, capsys):
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.delenv(name, raising=False)
    assert plan.main(["-d", "501"]) == 1
    assert "nnUNet_preprocessed is not set; expected a folder; export" in capsys.readouterr().err


def test_parts_count_from_zero(tmp_path, capsys):
    arguments = ["-i", str(tmp_path), "-o", str(tmp_path), "-m", str(tmp_path), "-num_parts", "2", "-part_id", "2"]
    assert cascade_predict.main(arguments) == 2
    assert "part_id counts from 0" in capsys.readouterr().err


@pytest.mark.parametrize("command", [cascade_predict, lung_mask, anatomy_filter])
def test_going_on_says_what_is_compared(command):
    text = " ".join(command.build_parser().format_help().split())
    for word in ("same version", "sizes", "settings", "images, masks and models, by their SHA-256"):
        assert word in text


def test_training_settings_take_the_type_of_their_annotation():
    found = training_values(["epochs=3", "dropout=0.2", "adaptive_variant=scalar", "mirroring=false"])
    assert found == {"epochs": 3, "dropout": 0.2, "adaptive_variant": "scalar", "mirroring": False}
    found = training_values(["recipe=adamw", "initial_learning_rate=1e-3", "weight_decay=none"])
    assert found == {"recipe": "adamw", "initial_learning_rate": 1e-3, "weight_decay": None}


def test_every_training_setting_can_be_written_on_the_command_line():
    settings = dataclasses.asdict(TrainingSettings())
    pairs = [
        f"{name}={str(value).lower() if value in (None, True, False) else value}" for name, value in settings.items()
    ]
    assert TrainingSettings(**training_values(pairs)) == TrainingSettings()


def test_a_misspelt_setting_names_the_nearest():
    with pytest.raises(SettingsError, match="did you mean mc_samples"):
        training_values(["mc_sample=3"])


@pytest.mark.parametrize("pair", ["epochs", "epoch=3", "epochs=many", "mirroring=perhaps", "weight_decay=much"])
def test_a_pair_that_is_no_setting_is_refused(pair):
    with pytest.raises(SettingsError, match=pair.split("=", maxsplit=1)[0]):
        training_values([pair])


@pytest.mark.parametrize("goes_on", [True, False], ids=["a command that goes on", "any other"])
def test_a_forked_process_of_a_command_ends_by_termination(goes_on):
    """nnU-Net ends the processes of its pools by SIGTERM; one that swallows an exception would hang it."""
    program = f"""
import argparse, os, signal, time
from nnunet_cascade.cli.common import run_command

class Swallowing:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)  # an exception raised here is told and forgotten

def body(args):
    child = os.fork()
    if child == 0:
        swallowing = Swallowing()
        del swallowing
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    print(code)
    return 0

parser = argparse.ArgumentParser()
if {goes_on}:
    parser.add_argument("--continue_prediction", action="store_true")
raise SystemExit(run_command(parser, body, []))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) in {-signal.SIGTERM, 128 + signal.SIGTERM}
