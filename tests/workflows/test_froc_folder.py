"""Scored candidates of folders: which methods have them, and what becomes of files that cannot be read."""

import pytest
from builders.label_folders import LabelFolders

from nnunet_cascade.workflows import froc
from nnunet_cascade.workflows.evaluation import EvaluationRequest, Predictions, true_labels
from nnunet_cascade.workflows.froc import read_findings, scored_proposals


@pytest.fixture
def folders(tmp_path):
    found = LabelFolders(tmp_path)
    found.score_candidates("fine", lambda _id, _touches: 0.5)
    return found


def test_only_folders_with_scores_have_candidates_and_patterns_have_none(folders):
    places = {"coarse": folders["coarse"], "fine": folders["fine"], "stage 1": folders["fine"] / "*_stage1.nii.gz"}
    methods = tuple(Predictions(name=name, place=place) for name, place in places.items())
    request = EvaluationRequest(truths=folders["gt"], predictions=methods, output=folders["out"], processes=1)
    cases = true_labels(folders["gt"])
    proposals = scored_proposals(request, cases)
    assert list(proposals) == ["fine"]
    (folders["gt"] / "case_02.nii.gz").write_bytes(b"bad")
    found = dict(read_findings(request, cases, proposals))
    assert sorted(found) == sorted(cases)
    assert [case for case, of_case in found.items() if of_case["fine"].failed] == ["case_02"]
    assert found["case_01"]["fine"].findings.scores.tolist() == [0.5, 0.5]


def test_a_worker_that_is_killed_costs_its_case(folders, monkeypatch):
    kill_all = lambda _work, jobs, _processes, *, killed: [(job, killed(job)) for job in jobs]  # noqa: E731
    monkeypatch.setattr(froc, "map_in_processes", kill_all)
    methods = (Predictions(name="fine", place=folders["fine"]),)
    request = EvaluationRequest(truths=folders["gt"], predictions=methods, output=folders["out"])
    cases = true_labels(folders["gt"])
    for _, of_case in read_findings(request, cases, scored_proposals(request, cases)):
        assert of_case["fine"].failed
        assert "its process was killed" in of_case["fine"].lacking
