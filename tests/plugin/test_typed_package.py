"""The installed wheel tells type checkers the types of all public names."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

SCRIPT = """
from pathlib import Path

import nnunet_cascade as nnc

spec = nnc.CascadeSpec(sampling=nnc.SamplingSettings(mc_samples=10))
cascade = nnc.load_cascade(Path("bundle"), device="cpu", spec=spec)
result = cascade.predict("ct.nii.gz", case="a")
reveal_type(cascade)
reveal_type(result)
reveal_type(result.tumor)
reveal_type(result.uncertainty)
reveal_type(result.candidates[0].verdict.reason)
reveal_type(result.grid.spacing_mm)
reveal_type(result.save("out", dicom=["seg"]))
reveal_type(nnc.read_ct("ct.nii.gz"))
reveal_type(nnc.find_lungs("ct.nii.gz").mask)
reveal_type(nnc.find_scans("folder"))
reveal_type(nnc.filter_candidates(result.tumor, result.grid, None).kept)
reveal_type(nnc.evaluate(result, "truth.nii.gz").dice)
reveal_type(nnc.TrainingRequest.of_preset(501, "bundle"))
reveal_type(nnc.CascadeError("a"))
reveal_type(nnc.__version__)
"""
WRONG = """
import nnunet_cascade as nnc

nnc.predict("ct.nii.gz")
nnc.load_cascade(7)
"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("pyright") is None, reason="pyright is not installed")]


@pytest.fixture(scope="module")
def said(new_environment, wheel):
    """What pyright says, strictly, of a right and a wrong script of somebody who installed the wheel."""
    environment = new_environment("typed")
    environment.pip("install", wheel)
    folder = environment.folder / "user"
    folder.mkdir()
    for name, script in (("right.py", SCRIPT), ("wrong.py", WRONG)):
        (folder / name).write_text(script)
    (folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", environment.python]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=600)
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {name: [each for each in found if each["file"].endswith(name)] for name in ("right.py", "wrong.py")}


def test_every_type_is_known(said):
    assert [each for each in said["right.py"] if each["severity"] != "information"] == []
    assert len(said["right.py"]) == SCRIPT.count("reveal_type")
    assert [each["message"] for each in said["right.py"] if "Unknown" in each["message"]] == []


def test_a_wrong_name_and_a_wrong_type_are_errors(said):
    found = {each["rule"] for each in said["wrong.py"] if each["severity"] == "error"}
    assert {"reportAttributeAccessIssue", "reportArgumentType"} <= found
