"""What the manifest says of a patient, and what it asks to look at."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from builders.dicom_downloads import (
    ELSEWHERE,
    GRID,
    LUNG,
    SETTINGS,
    TUMOR,
    TUMOR_LABEL,
    Ct,
    Seg,
    Subject,
    ball,
    ct_voxels,
    edit,
    square,
    write_subject,
)
from builders.oriented_grids import ORIENTATIONS, grid_towards

from nnunet_cascade.dataset_conversion.labels import Label
from nnunet_cascade.dataset_conversion.patient import convert_patient
from nnunet_cascade.dataset_conversion.record import describe, orientation_letters
from nnunet_cascade.dicom.folder import index_folder

PLAIN = Subject(patient_id="p")
LUNG_LABEL = Label(name="lung", regions=("Lung-Left",))


def showing(**rois):
    return PLAIN.but(rois=({name.replace("_", "-"): shown for name, shown in rois.items()},))


@pytest.fixture
def record_of(tmp_path):
    """The record of a subject: `record_of(subject, *labels, **settings)`."""

    def build(subject, *labels, **settings):
        folder = tmp_path / "download"
        if not folder.exists():
            write_subject(subject, folder)
        (patient,) = index_folder(folder).patients
        record = describe(convert_patient(patient, replace(SETTINGS, labels=labels or SETTINGS.labels, **settings)))
        return json.loads(json.dumps(record, allow_nan=False))

    return build


class TestContent:
    def test_it_says_what_the_conversion_was_made_from(self, record_of):
        record = record_of(PLAIN)
        ident = PLAIN.ident()
        assert record["uids"].pop("annotation")
        assert record["uids"] == {
            "study": ident.study_uid,
            "ct_series": PLAIN.series("CT").uid,
            "frame_of_reference": ident.frame_of_reference_uid,
        }
        assert record["source"] == "rtstruct"
        assert (record["cross_check"], record["cross_check_problem"]) == ({}, "")

    def test_the_ct(self, record_of):
        ct = record_of(PLAIN)["ct"]
        voxels = ct_voxels(0)
        digest = hashlib.sha256(f"{voxels.shape} {voxels.dtype.str}".encode() + voxels.tobytes()).hexdigest()
        assert ct["sha256"] == digest
        assert (ct["shape_zyx"], ct["spacing_zyx_mm"]) == (list(GRID.shape), list(GRID.spacing_mm))
        assert (ct["orientation_xyz"], ct["voxel_type"], ct["slices"]) == ("LPS", "int16", 8)
        assert (ct["irregularities"], ct["interpolated_planes"], ct["duplicate_slices"]) == ([], [], 0)

    def test_the_labels(self, record_of):
        label = record_of(PLAIN)["labels"]["tumor"]
        hu = ct_voxels(0)[TUMOR]
        assert label["regions"] == ["GTV-1"]
        assert label["voxels"] == np.count_nonzero(TUMOR)
        # 3 × 2 × 2 mm a voxel.
        assert label["volume_ml"] == pytest.approx(np.count_nonzero(TUMOR) * 12 / 1000)
        assert label["mean_hu"] == pytest.approx(hu.mean(), abs=0.05)
        assert label["share_of_air"] == 0
        assert label["planes"] == [2, 6]
        assert label["met"] == {"contours": 5}

    def test_interpolated_planes_are_named_for_the_ct_and_for_each_label(self, record_of):
        record = record_of(PLAIN.but(cts=(Ct(without_slices=(1, 4)),)))
        assert record["ct"]["irregularities"] == ["missing_slices"]
        assert record["ct"]["interpolated_planes"] == [1, 4]
        # The ball's planes are 2 to 6.
        assert record["labels"]["tumor"]["interpolated_planes"] == [4]

    def test_an_overlap_is_counted_where_it_was_lost(self, record_of):
        labels = record_of(PLAIN, TUMOR_LABEL, LUNG_LABEL)["labels"]
        both = np.count_nonzero(TUMOR & LUNG)
        assert both > 0
        assert labels["tumor"]["voxels_left_to_earlier_labels"] == 0
        assert labels["lung"]["voxels_left_to_earlier_labels"] == both
        assert labels["lung"]["voxels"] == np.count_nonzero(LUNG & ~TUMOR)


class TestCrossCheck:
    def test_the_dice_of_both_sources(self, record_of):
        shifted = ball((4, 12, 14))
        subject = PLAIN.but(segs=(Seg(masks={"GTV-1": shifted}),))
        dice = 2 * np.count_nonzero(TUMOR & shifted) / (np.count_nonzero(TUMOR) + np.count_nonzero(shifted))
        assert 0 < dice < 0.95
        for source in ("rtstruct", "seg"):
            record = record_of(subject, source=source)
            assert record["cross_check"] == {"tumor": pytest.approx(dice)}
            assert record["flags"] == ["tumor:sources_disagree"]

    def test_labels_that_the_other_lacks_are_not_compared(self, record_of):
        record = record_of(PLAIN.but(segs=(Seg(),)), TUMOR_LABEL, LUNG_LABEL)
        assert record["cross_check"] == {"tumor": 1.0}
        assert record["cross_check_problem"] == "the SEG has fewer or more regions of lung; not compared"

    def test_trouble_costs_the_comparison_alone(self, record_of, tmp_path):
        write_subject(PLAIN.but(segs=(Seg(),)), tmp_path / "download")

        def move(dataset):
            dataset.FrameOfReferenceUID = "1.2.3"
            del dataset.ReferencedSeriesSequence

        edit(tmp_path / "download" / "SEG" / "1-1.dcm", move)
        record = record_of(PLAIN)
        assert record["cross_check"] == {}
        assert record["cross_check_problem"] == "the SEG was drawn on another CT; expected this one"

    def test_it_can_be_left_out(self, record_of):
        record = record_of(PLAIN.but(segs=(Seg(masks={"GTV-1": ELSEWHERE}),)), cross_check=False)
        assert (record["cross_check"], record["flags"]) == ({}, [])


TWICE = (square((12, 12), 5.0), square((12, 12), 5.05))
BEYOND = (square((1, 12), 5.0),)
FLAGS = {
    "tiny": (showing(GTV_1=ball(radius_mm=1.0)), ["tumor:tiny"]),
    "in air": (showing(GTV_1=ball((4, 3, 3), 5.0)), ["tumor:mostly_air"]),
    "a slice without contour": (showing(GTV_1=TUMOR & (np.arange(8) != 4)[:, None, None]), ["tumor:skipped_slices"]),
    "beyond the image": (showing(GTV_1=BEYOND), ["tumor:mostly_air", "tumor:clipped"]),
    "contours that stand twice": (showing(GTV_1=TWICE), ["tumor:repeated_contours"]),
    "a slice missing": (PLAIN.but(cts=(Ct(without_slices=(4,)),)), ["missing_slices", "tumor:interpolated"]),
    "a slice missing elsewhere": (PLAIN.but(cts=(Ct(without_slices=(1,)),)), ["missing_slices"]),
    "sources that agree": (PLAIN.but(segs=(Seg(),)), []),
}


@pytest.mark.parametrize("case", FLAGS)
def test_flags_ask_for_a_look(case, record_of):
    subject, flags = FLAGS[case]
    assert record_of(subject)["flags"] == flags


def test_an_optional_label_is_absent_or_empty(record_of):
    optional = replace(LUNG_LABEL, required=False)
    heart = Label(name="heart", regions=("Heart",), required=False)
    record = record_of(showing(GTV_1=TUMOR, Lung_Left=None), TUMOR_LABEL, optional, heart)
    assert record["flags"] == ["lung:empty", "heart:absent"]
    assert record["labels"]["lung"]["mean_hu"] is None
    assert (record["labels"]["heart"]["regions"], record["labels"]["heart"]["voxels"]) == ([], 0)


@pytest.mark.parametrize("code", ORIENTATIONS)
def test_orientation_is_said_in_letters(code):
    assert orientation_letters(grid_towards(code, (5, 6, 7))) == code
