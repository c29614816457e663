"""Every block of shell or Python on the pages runs, or says why it cannot; every option in them exists."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

import pytest
from builders.documented_world import MADE_BEFORE, make_world
from builders.page_snippets import ROOT, SNIPPETS, command_lines, parse_as_its_command, simple_commands
from builders.tiny_cascades import quick_spec

from nnunet_cascade.files import write_json

# nnU-Net warns where its variables are not set, MONAI on import.
pytestmark = pytest.mark.filterwarnings("ignore")

OURS = re.compile(r"nnc-|nnUNetv2_")
PLAIN = re.compile(r"nnc-[^$*?|&;<>~`(){}\[\]]*")
SHELL = [snippet for snippet in SNIPPETS if snippet.language in ("sh", "bash")]
RUN = [snippet for snippet in SNIPPETS if snippet.language in ("sh", "bash", "python") and snippet.is_run]
RUN_PAGES = list(dict.fromkeys(snippet.page for snippet in RUN))


@pytest.fixture(scope="module")
def world(tiny_cascade, tmp_path_factory):
    """A folder with all that the pages name, with a bundle that predicts in little time."""
    root = tmp_path_factory.mktemp("world")
    bundle = shutil.copytree(tiny_cascade.bundle, root / "bundle")
    write_json(bundle / "cascade.json", quick_spec(bundle).to_json())
    tiny = {name: getattr(tiny_cascade, name) for name in ("raw", "model", "test_image")}
    return make_world(root / "world", SimpleNamespace(**tiny, bundle=bundle), run_block)


@pytest.fixture
def page_folder(world, tmp_path, monkeypatch):
    """A copy of it, in which the blocks of one page run in their order."""
    folder = shutil.copytree(world, tmp_path / "page", symlinks=True)
    monkeypatch.chdir(folder)
    return folder


def run_block(text, folder):
    """Run a shell block as a user in this folder would; commands of ours alone run in this process, in less time."""
    variables = {name: str(folder / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    variables |= {"NPM_CONFIG_REGISTRY": "http://127.0.0.1:9", "NNC_CACHE": str(folder / "cache")}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        for name, value in variables.items():
            patch.setenv(name, value)
        if all(PLAIN.fullmatch(line) for line in command_lines(text)):
            for name, *words in (shlex.split(line, comments=True) for line in command_lines(text)):
                [entry] = entry_points(group="console_scripts", name=name)
                assert entry.load()(words) == 0, text
            return
        command = ["bash", "-euo", "pipefail", "-c", text]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_there_are_blocks_to_run():
    assert len(RUN) > 20
    assert len(RUN_PAGES) > 10


@pytest.mark.parametrize("snippet", SHELL, ids=lambda snippet: snippet.id)
def test_every_command_line_is_taken_by_its_parser_and_every_script_it_names_is_there(snippet, monkeypatch):
    for line in command_lines(snippet.text):
        for words in simple_commands(line):
            if OURS.match(words[0]):
                parse_as_its_command(words, monkeypatch)
            scripts = [word for word in words if word.endswith((".py", ".sh"))]
            assert [script for script in scripts if not (ROOT / script).is_file()] == []


def test_commands_stand_in_blocks_that_are_checked():
    unchecked = [snippet for snippet in SNIPPETS if snippet.language not in ("sh", "bash", "python")]
    assert [snippet.id for snippet in unchecked if re.search(r"^(nnc-|nnUNetv2_)", snippet.text, re.MULTILINE)] == []


def test_what_is_not_run_here_says_why():
    assert [snippet.id for snippet in SNIPPETS if snippet.kind == "not run" and len(snippet.words.split()) < 3] == []


def test_what_another_test_runs_is_read_there():
    elsewhere = [snippet for snippet in SNIPPETS if snippet.kind == "run by"]
    assert elsewhere
    for snippet in elsewhere:
        assert Path(snippet.page).name in (ROOT / snippet.words).read_text(), snippet.id


def test_what_another_page_runs_stands_there():
    elsewhere = [snippet for snippet in SNIPPETS if snippet.kind == "run on"]
    assert elsewhere
    for snippet in elsewhere:
        there = {line for other in RUN if other.page in snippet.words.split() for line in command_lines(other.text)}
        assert set(command_lines(snippet.text)) <= there, snippet.id


def test_what_is_not_run_is_what_cannot_be():
    """A marker may not hide a block of the commands that take seconds: those stand on some page that runs them."""
    run = {words[0] for snippet in RUN for line in command_lines(snippet.text) for words in simple_commands(line)}
    quick = {
        "nnc-anatomy-filter", "nnc-calibrate", "nnc-cascade-predict", "nnc-convert-dicom", "nnc-evaluate",
        "nnc-export-dicom", "nnc-figure", "nnc-lung-mask", "nnc-make-bundle", "nnc-report",
    }  # fmt: skip
    assert quick - run == set()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize("name", RUN_PAGES)
def test_the_blocks_of_a_page_run_in_their_order(name, page_folder, capsys):
    for snippet in (snippet for snippet in RUN if snippet.page == name):
        if snippet.language == "python":
            exec(compile(snippet.text, snippet.id, "exec"), {"__name__": "__main__"})  # noqa: S102 - our own pages
        else:
            run_block("\n".join(line for line in command_lines(snippet.text) if line not in MADE_BEFORE), page_folder)
    capsys.readouterr()
