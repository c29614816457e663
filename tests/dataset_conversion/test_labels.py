"""Which regions a label takes, by the names that are there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_cascade.dataset_conversion.labels import Label, require_distinct
from nnunet_cascade.errors import DicomError, SettingsError

NAMES = {1: ("GTV-1",), 2: ("gtv_4r",), 3: ("Lung [L]",), 4: ("Spinal-Cord",)}
BY_LABEL = {1: ("Neoplasm", "GTV-1"), 2: ("Lung", "Lung-Left")}


def label(*regions, **changes):
    return Label(name="tumor", regions=regions, **changes)


CHOSEN = {
    "the name": (label("GTV-1"), NAMES, (1,)),
    "small letters": (label("gtv-1"), NAMES, (1,)),
    "spaces around it": (label(" GTV-1 "), NAMES, (1,)),
    "the second spelling": (label("tumor", "gtv-1"), NAMES, (1,)),
    "the first spelling of two": (label("GTV_4R", "GTV-1"), NAMES, (2,)),
    "a question mark": (label("gtv-?"), NAMES, (1,)),
    "a star before": (label("*cord"), NAMES, (4,)),
    "brackets are plain": (label("lung [l]"), NAMES, (3,)),
    "a star behind": (label("lung*"), NAMES, (3,)),
    "merging unites all that match any spelling": (label("gtv_4r", "GTV-1", "gtv*", merge=True), NAMES, (1, 2)),
    "a label that may be missing takes nothing": (label("heart", required=False), NAMES, ()),
    "a needed region need not be taken": (label("gtv_4r", needs="GTV-1"), NAMES, (2,)),
    "a less trusted name where nobody bears a more trusted one": (label("GTV-1"), BY_LABEL, (1,)),
    "else the more trusted one": (label("GTV-1"), {**BY_LABEL, 3: ("GTV-1", "other")}, (3,)),
}


@pytest.mark.parametrize(("wanted", "names", "chosen"), CHOSEN.values(), ids=CHOSEN)
def test_the_first_spelling_that_is_there_counts(wanted, names, chosen):
    assert wanted.chosen(names) == chosen


NOT_FOUND = {
    **{f"compared whole: {n}": (label(n), NAMES, "no region") for n in ("GTV", "TV-1", "GTV-1x", "lung [a-z]")},
    "all that is there is listed": (
        label("tumor", "GTVp"),
        NAMES,
        r"no region named 'tumor' or 'GTVp'; there are: 'GTV-1', 'gtv_4r', 'Lung \[L\]', 'Spinal-Cord'$",
    ),
    "nothing is there": (label("GTV-1"), {}, "no region named 'GTV-1'; there are: none"),
    "two of one spelling": (label("gtv*"), NAMES, r"2 regions named 'gtv\*' \('GTV-1', 'gtv_4r'\)"),
    "a name that stands twice": (label("GTV-1"), {1: ("GTV-1",), 2: ("gtv-1",)}, "2 regions"),
    "no needed region, whatever else matches": (
        label("gtv*", merge=True, needs="GTV-1"),
        {1: ("gtv-pre-op",), 2: ("Lung-Left",)},
        "no region named 'GTV-1'; there are: 'gtv-pre-op', 'Lung-Left'",
    ),
}


@pytest.mark.parametrize(("wanted", "names", "found"), NOT_FOUND.values(), ids=NOT_FOUND)
def test_none_or_several_are_refused(wanted, names, found):
    with pytest.raises(DicomError, match=f"found {found}"):
        wanted.chosen(names)


@given(st.text(max_size=12))
def test_a_name_without_stars_finds_itself(name):
    spelling = name.replace("*", "").replace("?", "")
    if spelling.strip():
        assert label(spelling).chosen({7: (spelling,)}) == (7,)


class TestOnTheCommandLine:
    def test_spellings_are_separated_by_commas(self):
        parsed = Label.parsed(" tumor = GTV-1, gtv primary ,,a=b ", merge=True, required=False)
        assert parsed == Label(name="tumor", regions=("GTV-1", "gtv primary", "a=b"), merge=True, required=False)

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
