"""The files by which the project is built, tested and published agree with each other."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORKFLOWS = "\n".join(path.read_text() for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")))
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def make_targets(text):
    return set(re.findall(r"^(?:\s*(?:- )?run: )?make(?: -\S+| --\S+)* ([a-z-]+)", text, flags=re.MULTILINE))


def test_workflows_and_the_gate_call_targets_that_exist():
    called = make_targets(WORKFLOWS), make_targets((ROOT / ".ci" / "run").read_text())
    assert min(map(len, called)) >= 5
    assert {name for names in called for name in names if not re.search(rf"^{name}:", MAKEFILE, re.MULTILINE)} == set()


def test_workflows_call_all_that_the_gate_calls():
    assert make_targets((ROOT / ".ci" / "run").read_text()) <= make_targets(WORKFLOWS)


def test_every_file_names_the_same_pythons():
    declared = sorted(re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"])))
    tested = re.search(r"python: \[(.*?)\]", WORKFLOWS)[1]
    assert re.search(r"^PYTHONS := (.*)$", MAKEFILE, re.MULTILINE)[1].split() == declared
    assert re.findall(r"3\.\d+", tested) == declared
    assert PROJECT["requires-python"] == f">={declared[0]}"


def test_the_citation_has_the_version_of_the_package():
    assert f"\nversion: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text()


def test_no_action_is_named_without_a_version():
    actions = re.findall(r"uses: ([^\s#]+)", WORKFLOWS)
    assert actions
    assert [action for action in actions if not action.startswith("./") and "@" not in action] == []
