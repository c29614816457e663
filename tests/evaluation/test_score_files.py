import csv
import json

import pytest

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.definitions import DEFINITIONS
from nnunet_cascade.evaluation.metric_info import in_order, score_values
from nnunet_cascade.evaluation.summary import write_scores


@pytest.fixture
def scores(case_score):
    return {"coarse": [case_score(case="a")], "cascade": [case_score(case="a"), case_score(case="b", empty="both")]}


def read(folder):
    with (folder / "scores.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines)), json.loads((folder / "scores.json").read_text(encoding="utf-8"))


def test_json_holds_definitions_summaries_and_cases(scores, tmp_path):
    write_scores(scores, tmp_path)
    _, content = read(tmp_path)
    assert content["definitions"] == dict(DEFINITIONS)
    assert list(content["methods"]) == ["coarse", "cascade"]
    assert content["methods"]["cascade"]["summary"]["undefined_cases"] == 1
    assert content["methods"]["cascade"]["summary"]["lesion_recall"] == 1.0
    assert [case["dice"] for case in content["methods"]["cascade"]["cases"]] == [0.8, None]
    assert [case["lesion_f1"] for case in content["methods"]["cascade"]["cases"]] == [1.0, None]


def test_csv_has_a_line_per_method_and_case_and_the_columns_of_an_evaluation(scores, tmp_path, case_score):
    write_scores(scores, tmp_path)
    rows, _ = read(tmp_path)
    assert [(row["method"], row["case"], row["status"], row["dice"]) for row in rows] == [
        ("coarse", "a", "done", "0.8"),
        ("cascade", "a", "done", "0.8"),
        ("cascade", "b", "done", "nan"),
    ]
    assert [row["lesion_precision"] for row in rows] == ["1", "1", "nan"]
    assert list(rows[0]) == ["method", "case", "status", *in_order(set(score_values(case_score()))), "error"]


def test_no_method_is_empty_files_of_the_same_form(tmp_path):
    write_scores({}, tmp_path)
    rows, content = read(tmp_path)
    assert (rows, content["methods"]) == ([], {})


def test_scores_that_cannot_be_written_leave_the_older_files(tmp_path):
    (tmp_path / "scores.json").write_text("older")
    with pytest.raises(SettingsError, match="found no case"):
        write_scores({"cascade": []}, tmp_path)
    assert (tmp_path / "scores.json").read_text() == "older"
    assert not (tmp_path / "scores.csv").exists()
