"""Which regions a label takes, by the names that are there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_cascade.dataset_conversion.labels import Label, require_distinct
from nnunet_cascade.errors import DicomError, SettingsError

NAMES = {1: ("GTV-1",), 2: ("gtv_4r",), 3: ("Lung [L]",), 4: ("Spinal-Cord",)}


def label(*regions, **changes):
    return Label(name="tumor", regions=regions, **changes)


@pytest.mark.parametrize(
    ("spellings", "chosen"),
    [
        (("GTV-1",), (1,)),
        (("gtv-1",), (1,)),
        ((" GTV-1 ",), (1,)),
        (("tumor", "gtv-1"), (1,)),
        (("GTV_4R", "GTV-1"), (2,)),
        (("gtv-?",), (1,)),
        (("*cord",), (4,)),
        (("lung [l]",), (3,)),
        (("lung*",), (3,)),
    ],
)
def test_the_first_spelling_that_is_there_counts(spellings, chosen):
    assert label(*spellings).chosen(NAMES) == chosen


@pytest.mark.parametrize("spelling", ["GTV", "TV-1", "GTV-1x", "lung [a-z]"])
def test_names_are_compared_whole(spelling):
    with pytest.raises(DicomError, match="found no region"):
        label(spelling).chosen(NAMES)


def test_a_missing_region_lists_those_that_are_there():
    with pytest.raises(DicomError) as error:
        label("tumor", "GTVp").chosen(NAMES)
    assert str(error.value) == (
        "found no region named 'tumor' or 'GTVp'; there are: 'GTV-1', 'gtv_4r', 'Lung [L]', 'Spinal-Cord'"
    )


def test_where_nothing_is_there_it_says_none():
    with pytest.raises(DicomError, match="there are: none"):
        label("GTV-1").chosen({})


def test_a_spelling_of_two_regions_is_ambiguous():
    with pytest.raises(DicomError, match=r"found 2 regions named 'gtv\*' \('GTV-1', 'gtv_4r'\)"):
        label("gtv*").chosen(NAMES)


def test_a_name_that_stands_twice_is_ambiguous():
    with pytest.raises(DicomError, match="found 2 regions"):
        label("GTV-1").chosen({1: ("GTV-1",), 2: ("gtv-1",)})


def test_merging_unites_all_that_match_any_spelling():
    assert label("gtv_4r", "GTV-1", "gtv*", merge=True).chosen(NAMES) == (1, 2)


def test_a_label_that_may_be_missing_takes_nothing():
    assert label("heart", required=False).chosen(NAMES) == ()


def test_a_needed_region_must_be_there_whatever_else_matches():
    pre_operative = {1: ("gtv-pre-op",), 2: ("Lung-Left",)}
    with pytest.raises(DicomError, match="found no region named 'GTV-1'; there are: 'gtv-pre-op', 'Lung-Left'"):
        label("gtv*", merge=True, needs="GTV-1").chosen(pre_operative)


def test_a_needed_region_need_not_be_taken():
    assert label("gtv_4r", needs="GTV-1").chosen(NAMES) == (2,)


def test_a_less_trusted_name_counts_only_where_nobody_bears_it_as_a_more_trusted_one():
    by_label_alone = {1: ("Neoplasm", "GTV-1"), 2: ("Lung", "Lung-Left")}
    assert label("GTV-1").chosen(by_label_alone) == (1,)
    assert label("GTV-1").chosen({**by_label_alone, 3: ("GTV-1", "other")}) == (3,)


@given(st.text(max_size=12))
def test_a_name_without_stars_finds_itself(name):
    spelling = name.replace("*", "").replace("?", "")
    if spelling.strip():
        assert label(spelling).chosen({7: (spelling,)}) == (7,)


class TestOnTheCommandLine:
    def test_spellings_are_separated_by_commas(self):
        parsed = Label.parsed(" tumor = GTV-1, gtv primary ,,GTV1 ", merge=True, required=False)
        assert parsed == Label(name="tumor", regions=("GTV-1", "gtv primary", "GTV1"), merge=True, required=False)

    def test_regions_may_hold_an_equals_sign(self):
        assert Label.parsed("tumor=a=b").regions == ("a=b",)

    @pytest.mark.parametrize("text", ["tumor", "=GTV-1", "tumor=", "tumor=,", " = ", "background=GTV-1"])
    def test_other_forms_are_refused(self, text):
        with pytest.raises(SettingsError, match=r"expected|choose another name"):
            Label.parsed(text)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ((), "0 labels"),
        (("a", "b", "a"), "each name once"),
        (tuple(str(number) for number in range(256)), "256 labels"),
        (("ignore", "a"), "give it last"),
    ],
)
def test_labels_that_make_no_dataset_are_refused(names, reason):
    with pytest.raises(SettingsError, match=reason):
        require_distinct([Label(name=name, regions=("x",)) for name in names])


@pytest.mark.parametrize("names", [("a",), ("a", "A"), ("a", "ignore"), tuple(str(n) for n in range(255))])
def test_labels_that_make_one_are_not(names):
    require_distinct([Label(name=name, regions=("x",)) for name in names])
