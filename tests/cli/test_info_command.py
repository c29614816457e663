import json
import sys

import pytest

from nnunet_cascade.bundles.manifest import write_manifest
from nnunet_cascade.cli import info
from nnunet_cascade.cli.commands import COMMANDS
from nnunet_cascade.prediction.spec import CascadeSpec
from nnunet_cascade.workflows import installation_info

FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


@pytest.fixture
def trainers(monkeypatch):
    """nnU-Net's own search for trainers takes seconds; one test does it."""
    monkeypatch.setattr(installation_info, "_trainers", lambda: {"registered": True, "found": True})


@pytest.fixture
def bundle(tmp_path):
    """All of a bundle but the weights."""
    folder = tmp_path / "bundle"
    for stage, cases in (("stage1", 20), ("stage2", 40)):
        (folder / stage).mkdir(parents=True)
        labels = {"background": 0, "tumor": 1}
        (folder / stage / "dataset.json").write_text(
            json.dumps({"name": "Lungs", "numTraining": cases, "labels": labels})
        )
    (folder / "cascade.json").write_text(json.dumps(CascadeSpec().to_json()))
    (folder / "notes.txt").write_text("trained on phantoms\n")
    (folder / "provenance.json").write_text(json.dumps({"models": ["A__P__3d_fullres", "B__P__3d_fullres"]}))
    write_manifest(folder, {})
    return folder


def shown(capsys, *options, code=0):
    assert info.main(["--json", *map(str, options)]) == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("trainers")
class TestInfo:
    def test_versions_devices_extras_and_commands_are_listed(self, capsys):
        found = shown(capsys)
        assert {"nnunet-cascade", "nnunetv2", "torch", "monai", "SimpleITK"} <= set(found["versions"])
        assert found["system"]["python"] == sys.version.split()[0]
        assert found["devices"]["cpu_threads"] >= 1
        assert set(found["extras"]) == {"dicom", "ray"}
        assert found["commands"] == list(COMMANDS)
        assert found["problems"] == []

    def test_folders_say_whether_they_can_be_used(self, capsys, monkeypatch, tmp_path):
        for name, value in zip(FOLDERS, (str(tmp_path), str(tmp_path / "none"), ""), strict=True):
            monkeypatch.setenv(name, value)
        raw, preprocessed, results = (shown(capsys)["folders"][name] for name in FOLDERS)
        assert raw == {"path": str(tmp_path), "exists": True, "writable": True}
        assert (preprocessed["exists"], results) == (False, "not set")

    def test_the_text_has_the_same_topics(self, capsys, bundle):
        assert info.main(["-m", str(bundle)]) == 0
        text = capsys.readouterr().out
        for line in ("versions:", "  nnunetv2: 2", "devices:", "  found: yes", "  notes: trained on phantoms"):
            assert line in text

    def test_a_broken_pytorch_is_a_problem_among_the_rest(self, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch", None)
        found = shown(capsys, code=1)
        assert "PyTorch does not work" in found["problems"][0]
        assert found["versions"]["nnunetv2"]

    def test_a_package_that_is_missing_is_a_problem(self, capsys, monkeypatch):
        monkeypatch.setattr(installation_info, "PACKAGES", ("nnunetv2", "no-such-package"))
        assert shown(capsys, code=1)["problems"] == ["no-such-package is not installed"]


@pytest.mark.usefixtures("trainers")
class TestBundle:
    def test_a_bundle_is_described(self, capsys, bundle):
        found = shown(capsys, "-m", bundle)["bundle"]
        assert found["notes"] == ["trained on phantoms"]
        assert found["checksums"] == "unchanged"
        assert found["stage1"]["model"] == "A__P__3d_fullres"
        assert found["stage2"]["folds"] == [0]
        assert found["stage2"]["trained_on"] == {"name": "Lungs", "cases": 40, "labels": {"background": 0, "tumor": 1}}
        assert found["settings"]["preset"] == "recommended"

    def test_a_changed_file_is_a_problem_and_without_a_manifest_there_are_no_checksums(self, capsys, bundle):
        (bundle / "stage1" / "dataset.json").write_text("{}")
        assert "was changed after the bundle was made" in shown(capsys, "-m", bundle, code=1)["problems"][0]
        (bundle / "manifest.json").unlink()
        assert shown(capsys, "-m", bundle)["bundle"]["checksums"] == "none"

    @pytest.mark.parametrize("broken", ["nowhere", "bundle/stage1", "bundle/cascade.json"])
    def test_what_is_no_bundle_is_a_problem(self, capsys, bundle, broken):
        problem = shown(capsys, "-m", bundle.parent / broken, code=1)["problems"][0]
        assert "expected a bundle made by nnc-make-bundle" in problem


def test_nnunet_finds_the_trainers(capsys):
    assert shown(capsys)["trainers"] == {"registered": True, "found": True}


def test_trainers_that_nnunet_does_not_find_are_a_problem(capsys, monkeypatch):
    monkeypatch.delenv("nnUNet_extTrainer")
    found = shown(capsys, code=1)
    assert found["trainers"]["registered"] is False
    assert "nnUNet_extTrainer must list" in found["problems"][0]
