"""A later run goes on only with the settings with which the first one began."""

import json
from pathlib import Path

import pytest

from nnunet_cascade.case_folders.same_request import require_same_request
from nnunet_cascade.errors import DatasetError

WANTED = {"folds": 5, "bundle": Path("b"), "spec": {"a": (1, 2)}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "logs" / "request.json"


def require(path, free=(), **changed):
    require_same_request(path, {**WANTED, **changed}, advice="remove it", free=free)


def test_the_first_request_is_recorded_and_the_same_goes_on(path):
    require(path)
    require(path)
    assert json.loads(path.read_text()) == {"folds": 5, "bundle": "b", "spec": {"a": [1, 2]}}


def test_another_request_is_refused_by_name_with_advice(path):
    require(path)
    with pytest.raises(
        DatasetError, match=r"request.json was written by a run with other settings \(folds, spec\); remove it"
    ):
        require(path, folds=4, spec={"a": (1, 3)})
    require(path)


def test_free_settings_may_change_and_unknown_ones_may_not(path):
    require(path)
    require(path, free=("bundle",), bundle="c")
    with pytest.raises(DatasetError, match=r"other settings \(seed\)"):
        require(path, seed=1)


def test_an_older_record_is_completed(path):
    require(path)
    given = {**WANTED, "seed": 1}
    require_same_request(path, given, advice="", complete=lambda known: {"seed": 1, **known})
