"""Which CT, structure set and segmentation of a patient belong together."""

import pytest
from builders.dicom_downloads import ELSEWHERE, LUNG, TUMOR, TUMOR_LABEL, Ct, Seg, Subject, edit, write_subject

from nnunet_cascade.dataset_conversion.labels import Label
from nnunet_cascade.dataset_conversion.sources import (
    choose_ct,
    choose_segmentation,
    choose_structure_set,
    may_be_drawn_on,
    reference_of,
)
from nnunet_cascade.dicom.ct.writing import CtStorage
from nnunet_cascade.dicom.folder import index_folder
from nnunet_cascade.errors import DicomError

LABELS = (TUMOR_LABEL,)
PLAIN = Subject(patient_id="p")
SECOND = Ct(seed=9, name="second")
OVERVIEW = Ct(name="overview", storage=CtStorage(image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")))


@pytest.fixture
def patient_of(tmp_path):
    """The patient as found in a folder: `patient_of(subject, change_of_each_rtstruct)`."""

    def build(subject, change=None):
        folder = write_subject(subject, tmp_path / "download")
        for path in folder.glob("RTSTRUCT*/*.dcm") if change else ():
            edit(path, change)
        (patient,) = index_folder(folder).patients
        return patient

    return build


def without_series(dataset):
    for frame in dataset.ReferencedFrameOfReferenceSequence:
        del frame.RTReferencedStudySequence


def of_another_frame(dataset):
    dataset.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "1.2.3"
    dataset.FrameOfReferenceUID = "1.2.3"
    for roi in dataset.StructureSetROISequence:
        roi.ReferencedFrameOfReferenceUID = "1.2.3"


def of_another_frame_and_series(dataset):
    of_another_frame(dataset)
    without_series(dataset)


def ct_of(patient):
    return choose_ct(patient, reference_of(choose_structure_set(patient, LABELS)))


class TestCt:
    def test_it_is_the_series_that_the_contours_name(self, patient_of):
        patient = patient_of(PLAIN.but(cts=(Ct(), SECOND)))
        assert {header.series_description for header in ct_of(patient)} == {"CT"}

    def test_without_a_named_series_it_is_the_only_one_in_the_frame_of_reference(self, patient_of):
        other = Ct(seed=9, name="second", frame="other")
        patient = patient_of(PLAIN.but(cts=(Ct(), other)), without_series)
        assert {header.series_description for header in ct_of(patient)} == {"CT"}

    def test_two_that_fit_equally_are_refused_by_uid(self, patient_of):
        patient = patient_of(PLAIN.but(cts=(Ct(), SECOND)), without_series)
        with pytest.raises(DicomError, match=r"found 2 CT series that fit equally \(2\.25\.\d+, 2\.25\.\d+\)") as error:
            ct_of(patient)
        assert "--by_study" not in str(error.value)

    def test_overviews_are_no_ct(self, patient_of):
        patient = patient_of(PLAIN.but(cts=(Ct(), OVERVIEW)), without_series)
        assert {header.series_description for header in ct_of(patient)} == {"CT"}

    @pytest.mark.parametrize("change", [of_another_frame, of_another_frame_and_series])
    def test_another_frame_of_reference_is_refused(self, patient_of, change):
        with pytest.raises(DicomError, match="another frame of reference"):
            ct_of(patient_of(PLAIN, change))

    def test_no_ct_says_what_is_there(self, patient_of):
        patient = patient_of(PLAIN.but(cts=(Ct(without_slices=tuple(range(8))),)))
        with pytest.raises(DicomError, match=r"found no CT \(there are: RTSTRUCT\)"):
            ct_of(patient)


class TestStructureSet:
    def test_it_is_the_one_that_holds_the_regions(self, patient_of):
        patient = patient_of(PLAIN.but(rois=({"Lung": LUNG}, {"GTV-1": TUMOR})))
        assert list(choose_structure_set(patient, LABELS).names.values()) == ["GTV-1"]

    def test_two_that_hold_them_are_refused_by_uid(self, patient_of):
        patient = patient_of(PLAIN.but(rois=({"GTV-1": TUMOR}, {"GTV-1": ELSEWHERE})))
        with pytest.raises(DicomError, match=r"found 2 RTSTRUCT with these regions \(2\.25\.\d+, 2\.25"):
            choose_structure_set(patient, LABELS)

    def test_two_of_different_studies_hint_at_the_option(self, patient_of, tmp_path):
        write_subject(PLAIN.but(study="later"), tmp_path / "download" / "later")
        patient = patient_of(PLAIN)
        with pytest.raises(DicomError, match=r"each of the 2 studies by itself \(--by_study\)"):
            choose_structure_set(patient, LABELS)

    def test_none_says_what_is_there(self, patient_of):
        with pytest.raises(DicomError, match=r"found no RTSTRUCT \(there are: CT\)"):
            choose_structure_set(patient_of(PLAIN.but(rois=())), LABELS)

    def test_none_with_the_region_lists_the_names_of_all(self, patient_of):
        patient = patient_of(PLAIN.but(rois=({"Lung": LUNG}, {"Heart": LUNG})))
        with pytest.raises(DicomError) as error:
            choose_structure_set(patient, LABELS)
        assert "there are: 'Lung'" in str(error.value)
        assert "there are: 'Heart'" in str(error.value)

    def test_optional_labels_alone_must_not_all_be_missing(self, patient_of):
        labels = (Label(name="a", regions=("x",), required=False), Label(name="b", regions=("y",), required=False))
        with pytest.raises(DicomError, match="found no region of any label"):
            choose_structure_set(patient_of(PLAIN), labels)


MACHINE = Seg(description="BAMF-AIMI", masks={"GTV-1": ELSEWHERE}, by_machine=True)


class TestSegmentation:
    def test_the_description_decides_capitals_aside(self, patient_of):
        others = (MACHINE, Seg(description="Second reader", masks={"GTV-1": ELSEWHERE}))
        patient = patient_of(PLAIN.but(segs=(*others, Seg())))
        assert choose_segmentation(patient, LABELS, description="segmentation").series_description == "Segmentation"

    def test_without_one_those_made_by_hand_are_preferred(self, patient_of):
        patient = patient_of(PLAIN.but(segs=(MACHINE, Seg())))
        assert choose_segmentation(patient, LABELS, description=None).series_description == "Segmentation"

    def test_a_machines_is_taken_where_it_alone_has_the_regions(self, patient_of):
        by_hand = Seg(masks={"Lung": LUNG})
        patient = patient_of(PLAIN.but(segs=(MACHINE, by_hand)))
        assert choose_segmentation(patient, LABELS, description=None).series_description == "BAMF-AIMI"

    def test_two_by_hand_are_refused(self, patient_of):
        patient = patient_of(PLAIN.but(segs=(Seg(), Seg(description="Second reader"))))
        with pytest.raises(DicomError, match=r"found 2 SEG with these regions .* or its Series Description"):
            choose_segmentation(patient, LABELS, description=None)

    def test_none_of_the_description_says_so(self, patient_of):
        with pytest.raises(DicomError, match="found 1 SEG, none with Series Description 'Segmentation'"):
            choose_segmentation(patient_of(PLAIN.but(segs=(MACHINE,))), LABELS, description="Segmentation")

    def test_none_at_all_says_what_is_there(self, patient_of):
        with pytest.raises(DicomError, match=r"found no SEG \(there are: CT, RTSTRUCT\)"):
            choose_segmentation(patient_of(PLAIN), LABELS, description=None)


class TestWhatMayBeDrawnOnACt:
    def test_a_structure_set_is_not_of_the_ct_beside_the_one_it_names(self, patient_of):
        patient = patient_of(PLAIN.but(cts=(Ct(), SECOND)))
        reference = reference_of(choose_structure_set(patient, LABELS))
        found = {
            name: may_be_drawn_on(
                patient,
                reference,
                [header for header in patient.of_modality("CT") if header.series_description == name],
            )
            for name in ("CT", "second")
        }
        assert found == {"CT": True, "second": False}

    def test_nor_of_one_in_another_frame_of_reference(self, patient_of):
        patient = patient_of(PLAIN, of_another_frame_and_series)
        reference = reference_of(choose_structure_set(patient, LABELS))
        assert not may_be_drawn_on(patient, reference, patient.of_modality("CT"))
