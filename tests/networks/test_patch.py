"""Patches are enlarged to the next legal one, and no further."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.networks.patch import legal_patch


@dataclass
class Rule:
    patch_multiple: int
    patch_minimum: int


sides = st.integers(1, 600)
patches = st.tuples(sides, sides, sides)
rules = st.builds(Rule, st.sampled_from([1, 8, 16, 32]), st.sampled_from([1, 16, 40, 64]))


@pytest.mark.parametrize(
    ("patch", "multiple", "minimum", "legal"),
    [
        ((64, 96, 160), 32, 64, (64, 96, 160)),
        ((40, 97, 128), 32, 64, (64, 128, 128)),
        ((1, 1, 1), 32, 64, (64, 64, 64)),
        ((28, 128, 129), 16, 16, (32, 128, 144)),
        ([24, 24, 24], 8, 8, (24, 24, 24)),
        ((10, 10, 10), 16, 40, (48, 48, 48)),
    ],
)
def test_each_side_becomes_the_next_legal_one(patch, multiple, minimum, legal):
    assert legal_patch(patch, Rule(multiple, minimum)) == legal


@given(patches, rules)
def test_a_legal_patch_is_the_smallest_that_holds_the_planned_one_and_stays_as_it_is(patch, rule):
    legal = legal_patch(patch, rule)
    for side, planned in zip(legal, patch, strict=True):
        needed = max(planned, rule.patch_minimum)
        assert side % rule.patch_multiple == 0
        assert needed <= side < needed + rule.patch_multiple
    assert legal_patch(legal, rule) == legal


@pytest.mark.parametrize("patch", [(), (64, 64), (1, 64, 64, 64), (64, 0, 64), (64, -32, 64), (64.5, 64, 64)])
def test_what_is_no_patch_in_three_dimensions_is_refused(patch):
    with pytest.raises(SettingsError, match="three sides"):
        legal_patch(patch, Rule(32, 64))
