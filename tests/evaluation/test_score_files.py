import csv
import json

import pytest

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.definitions import DEFINITIONS
from nnunet_cascade.evaluation.files import write_scores_csv, write_scores_json


@pytest.fixture
def scores(case_score):
    return {"coarse": [case_score(case="a")], "cascade": [case_score(case="a"), case_score(case="b", empty="both")]}


def test_json_holds_definitions_summaries_and_cases(scores, tmp_path):
    write_scores_json(scores, tmp_path / "scores.json")
    content = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert content["definitions"] == dict(DEFINITIONS)
    assert list(content["methods"]) == ["coarse", "cascade"]
    assert content["methods"]["cascade"]["summary"]["undefined_cases"] == 1
    assert content["methods"]["cascade"]["summary"]["lesion_recall"] == 1.0
    assert [case["dice"] for case in content["methods"]["cascade"]["cases"]] == [0.8, None]
    assert [case["lesion_f1"] for case in content["methods"]["cascade"]["cases"]] == [1.0, None]


def test_csv_has_a_line_per_method_and_case(scores, tmp_path):
    write_scores_csv(scores, tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["method"], row["case"], row["dice"]) for row in rows] == [
        ("coarse", "a", "0.8"),
        ("cascade", "a", "0.8"),
        ("cascade", "b", "nan"),
    ]
    assert [row["lesion_precision"] for row in rows] == ["1.0", "1.0", "nan"]


def test_the_columns_of_csv_are_the_same_without_a_case(scores, tmp_path):
    for name, content in (("full", scores), ("none", {})):
        write_scores_csv(content, tmp_path / name)
    full, none = ((tmp_path / name).read_text(encoding="utf-8").splitlines()[0] for name in ("full", "none"))
    assert full == none


@pytest.mark.parametrize("write", [write_scores_json, write_scores_csv])
def test_nothing_but_the_file_is_left_and_an_older_one_is_replaced(write, scores, tmp_path):
    path = tmp_path / "scores"
    path.write_text("older")
    write(scores, path)
    assert path.read_text(encoding="utf-8") != "older"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [write_scores_json, write_scores_csv])
def test_no_method_is_an_empty_file_of_the_same_form(write, tmp_path):
    write({}, tmp_path / "scores")
    assert (tmp_path / "scores").read_text(encoding="utf-8").endswith("\n")


def test_a_file_that_fails_leaves_the_older_one(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text("older")
    with pytest.raises(SettingsError, match="found no case"):
        write_scores_json({"cascade": []}, path)
    assert path.read_text() == "older"
