"""The messages that the page on troubleshooting quotes are those that users see."""

import ast
import re
from pathlib import Path

import batchgenerators
import nnunetv2
import pytest
from builders.page_snippets import ROOT, SNIPPETS

QUOTED = [s for s in SNIPPETS if s.page == "docs/troubleshooting.md" and s.language == "text"]
THEIRS = (
    Path(nnunetv2.__file__).parent / "utilities" / "find_objects.py",
    Path(batchgenerators.__file__).parent / "dataloading" / "nondet_multi_threaded_augmenter.py",
)


@pytest.fixture(scope="module")
def texts():
    """All string literals, those in parts joined, and the texts that are no Python."""
    sources = [*(ROOT / "nnunet_cascade").rglob("*.py"), *THEIRS]
    literals = [
        node.value
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    others = (ROOT / "nnunet_cascade/report/assets/viewer.js", ROOT / "docs/examples/slurm.sh")
    return "\n".join([*literals, *(path.read_text() for path in others)])


@pytest.mark.parametrize("snippet", QUOTED, ids=lambda snippet: snippet.id)
def test_a_quoted_message_exists(snippet, texts):
    said = snippet.text.strip().removeprefix("slurm.sh: ")
    parts = [part.strip(" (),") for part in re.split("…|; ", said)]
    assert [part for part in parts if part not in texts] == []
