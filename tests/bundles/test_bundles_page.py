"""The page on bundles: its commands run, in its order, and it says what is so."""

import json
import re
import shlex
from pathlib import Path

import pytest

from nnunet_cascade.bundles.archive import ArchiveLimits
from nnunet_cascade.bundles.bundle import read_spec
from nnunet_cascade.cli import export_bundle, install_bundle, make_bundle

PAGE = (Path(__file__).parents[2] / "docs" / "bundles.md").read_text()
COMMANDS = {"nnc-make-bundle": make_bundle, "nnc-export-bundle": export_bundle, "nnc-install-bundle": install_bundle}
# nnU-Net warns where its variables are not set, MONAI on import.
pytestmark = pytest.mark.filterwarnings("ignore")


def test_every_command_of_the_page_runs(tiny_cascade, tmp_path, monkeypatch):
    (tmp_path / "evaluation.json").write_text(json.dumps({"comparison": {"methods": {}}}))
    models = {"MODEL1": str(tiny_cascade.model(1)), "MODEL2": str(tiny_cascade.model(2))}
    monkeypatch.chdir(tmp_path)
    lines = "".join(re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)).splitlines()
    assert {line.split()[0] for line in lines} == set(COMMANDS)
    for line in lines:
        name, *words = shlex.split(line)
        assert COMMANDS[name].main([models.get(word, word) for word in words]) == 0, line
    assert read_spec(tmp_path / "tumors").stage2.folds == (0, 1)
    assert re.search(r"\| Stage \|.*", PAGE)[0] in (tmp_path / "tumors" / "MODEL_CARD.md").read_text()
    rows = re.findall(r"^\| `([a-z0-9./`, ]+)` \|", PAGE, flags=re.MULTILINE)
    named = {name for row in rows for name in row.replace("`", "").replace("/", "").split(", ")}
    assert named == {path.name for path in (tmp_path / "BUNDLE").iterdir()}


def test_the_limits_of_the_page_are_those_of_the_command():
    limits = ArchiveLimits()
    assert f"more than {limits.files} files" in PAGE
    assert f"more than {limits.ratio:g} times" in PAGE
    assert f"a text of more than {limits.text_bytes >> 20} MiB" in PAGE
    assert f"`--max_gb` ({install_bundle.build_parser().get_default('max_gb'):g})" in PAGE
