"""Folds: patients whole, volumes even."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_cascade.dataset_conversion.folds import FoldCase, stratified_folds
from nnunet_cascade.errors import SettingsError

CASES = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.builds(FoldCase, st.floats(0, 500), st.sampled_from("tuvwxyz")),
    min_size=7,
    max_size=40,
)


def of_volumes(volumes):
    return {f"case{number:03d}": FoldCase(volume, f"p{number}") for number, volume in enumerate(volumes)}


@given(CASES, st.integers(2, 5))
def test_every_case_is_validated_once_and_trained_on_in_all_other_folds(cases, count):
    if len({case.group for case in cases.values()}) < count:
        return
    folds = stratified_folds(cases, count)
    assert sorted(name for fold in folds for name in fold["val"]) == sorted(cases)
    for fold in folds:
        assert fold["train"] == sorted(set(cases) - set(fold["val"]))
        assert fold["val"]
        groups = [{cases[name].group for name in fold[part]} for part in ("train", "val")]
        assert not groups[0] & groups[1]


def test_each_fold_gets_small_and_large_tumors():
    folds = stratified_folds(of_volumes(np.geomspace(0.5, 500, 50)), 5)
    for fold in folds:
        ranks = sorted(int(name[4:]) for name in fold["val"])
        # One of each five neighbors: ranks 0-4, 5-9, …
        assert [rank // 5 for rank in ranks] == list(range(10))


def test_the_order_of_the_cases_does_not_matter_and_the_seed_does():
    cases = of_volumes(range(20))
    turned = dict(reversed(cases.items()))
    assert stratified_folds(cases, 4) == stratified_folds(turned, 4)
    assert stratified_folds(cases, 4) != stratified_folds(cases, 4, seed=1)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_fewer_patients_than_folds_are_refused(count):
    cases = {"a1": FoldCase(1, "a"), "a2": FoldCase(2, "a"), "b": FoldCase(3, "b"), "c": FoldCase(4, "c")}
    with pytest.raises(SettingsError, match=f"{count} folds for 3 patients"):
        stratified_folds(cases, count)
