"""`nnc-calibrate`: what it prints, stores and leaves alone, and its exit codes."""

import json

import pytest
from builders.drawn_results import DrawnResults

from nnunet_cascade.bundles.bundle import read_spec
from nnunet_cascade.cli import calibrate
from nnunet_cascade.evaluation.statistics import replicates
from nnunet_cascade.evaluation.statistics.bootstrap import Resampling


@pytest.fixture
def drawn(tmp_path):
    found = DrawnResults(tmp_path)
    for name in "abc":
        found.write(name)
    return found


@pytest.fixture
def command(drawn, monkeypatch):
    """Run the command on the drawn folders with few draws; gives the exit code."""
    monkeypatch.setattr(replicates, "RESAMPLING", Resampling(resamples=100))

    def run(*options):
        places = ["-m", drawn.bundle, "-i", drawn.results, "-gt", drawn.labels]
        return calibrate.main([str(part) for part in (*places, *options)])

    return run


def test_the_temperature_is_stored_and_told(drawn, command, capsys):
    assert command() == 0
    temperature = read_spec(drawn.bundle).stage2.temperature
    assert temperature == pytest.approx(2.0, rel=0.1)
    printed = capsys.readouterr().out
    assert f"T = {temperature:.4f} (95% interval" in printed
    assert "of 3 cases" in printed
    assert "| T of the other cases | NLL | 3 |" in printed
    assert "Nothing tells whether these cases were in training" in printed


def test_a_dry_run_leaves_the_bundle_as_it_is_and_a_report_is_written_where_it_is_asked_for(drawn, command, capsys):
    before = {path: path.read_bytes() for path in drawn.bundle.iterdir()}
    assert command("--dry_run", "-o", drawn.root / "out", "--region", "surface", "--seed", 3) == 0
    assert {path: path.read_bytes() for path in drawn.bundle.iterdir()} == before
    assert "T = " in capsys.readouterr().out
    told = json.loads((drawn.root / "out" / "calibration.json").read_text())
    assert told["region"]["name"] == "surface"
    assert told["resampling"]["seed"] == 3
    assert sorted(told["cases"]) == ["a", "b", "c"]
    assert command("-o", drawn.results) == 2


def test_a_failed_case_ends_in_failure_and_is_named(drawn, command, capsys):
    (drawn.labels / "b.nii.gz").unlink()
    assert command() == 1
    streams = capsys.readouterr()
    assert "expected the true labels of b" in streams.err
    assert "1 of 3 cases failed" in streams.out
    assert read_spec(drawn.bundle).stage2.temperature > 1


def test_tumor_labels_are_named_as_nnunet_names_them(drawn, command, capsys):
    (drawn.root / "dataset.json").write_text('{"labels": {"background": 0, "tumor": 1, "lung": 2}}')
    assert command() == 2
    assert "say which is tumor by --tumor_label" in capsys.readouterr().err
    assert command("--tumor_label", "tumor") == 0


def test_a_temperature_that_does_not_carry_over_ends_in_failure(drawn, command, capsys):
    for name, sharpness in zip("ab", (0.2, 5.0), strict=True):
        drawn.write(name, sharpness=sharpness)
    (drawn.results / "c_probability.nii.gz").unlink()
    assert command() == 1
    assert "Not stored: on cases it was not fitted to, NLL grows" in capsys.readouterr().out
    assert read_spec(drawn.bundle).stage2.temperature == 1
