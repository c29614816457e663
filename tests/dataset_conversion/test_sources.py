"""Which CT, structure set and segmentation of a patient belong together."""

import pytest
from builders.dicom_downloads import ELSEWHERE, LUNG, TUMOR, TUMOR_LABEL, Ct, Seg, Subject, edit, write_subject

from nnunet_cascade.dataset_conversion.labels import Label
from nnunet_cascade.dataset_conversion.sources import (
    choose_ct,
    choose_segmentation,
    choose_structure_set,
    may_be_drawn_on,
)
from nnunet_cascade.dicom.ct.writing import CtStorage
from nnunet_cascade.dicom.folder import index_folder
from nnunet_cascade.errors import DicomError

LABELS = (TUMOR_LABEL,)
OPTIONAL = tuple(Label(name=name, regions=(f"not {name}",), required=False) for name in "ab")
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
    return choose_ct(patient, choose_structure_set(patient, LABELS))


class TestCt:
    @pytest.mark.parametrize(
        ("other", "change"),
        [(SECOND, None), (Ct(seed=9, name="second", frame="other"), without_series), (OVERVIEW, without_series)],
        ids=["named by the contours", "the only one in the frame of reference", "the only one but an overview"],
    )
    def test_it_is_the_one_that_fits(self, patient_of, other, change):
        patient = patient_of(PLAIN.but(cts=(Ct(), other)), change)
        assert {header.series_description for header in ct_of(patient)} == {"CT"}

    def test_two_that_fit_equally_are_refused_by_uid(self, patient_of):
        patient = patient_of(PLAIN.but(cts=(Ct(), SECOND)), without_series)
        with pytest.raises(DicomError, match=r"found 2 CT series that fit equally \(2\.25\.\d+, 2\.25\.\d+\)") as error:
            ct_of(patient)
        assert "--by_study" not in str(error.value)

    @pytest.mark.parametrize("change", [of_another_frame, of_another_frame_and_series])
    def test_another_frame_of_reference_is_refused(self, patient_of, change):
        with pytest.raises(DicomError, match="another frame of reference"):
            ct_of(patient_of(PLAIN, change))


class TestStructureSet:
    def test_it_is_the_one_that_holds_the_regions(self, patient_of):
        patient = patient_of(PLAIN.but(rois=({"Lung": LUNG}, {"GTV-1": TUMOR})))
        assert list(choose_structure_set(patient, LABELS).names.values()) == ["GTV-1"]

    @pytest.mark.parametrize(
        ("rois", "labels", "reason"),
        [
            (
                ({"GTV-1": TUMOR}, {"GTV-1": ELSEWHERE}),
                LABELS,
                r"found 2 RTSTRUCT with these regions \(2\.25\.\d+, 2\.25",
            ),
            ((), LABELS, r"found no RTSTRUCT \(there are: CT\)"),
            (({"Lung": LUNG}, {"Heart": LUNG}), LABELS, "(?=.*there are: 'Lung')(?=.*there are: 'Heart')"),
            (PLAIN.rois, OPTIONAL, "found no region of any label"),
        ],
        ids=["two", "none", "none with the region", "optional labels alone"],
    )
    def test_none_or_two_are_refused_with_what_is_there(self, patient_of, rois, labels, reason):
        with pytest.raises(DicomError, match=reason):
            choose_structure_set(patient_of(PLAIN.but(rois=rois)), labels)


MACHINE = Seg(description="BAMF-AIMI", masks={"GTV-1": ELSEWHERE}, by_machine=True)
SECOND_READER = Seg(description="Second reader", masks={"GTV-1": ELSEWHERE})


class TestSegmentation:
    @pytest.mark.parametrize(
        ("segs", "description", "chosen"),
        [
            ((MACHINE, SECOND_READER, Seg()), "segmentation", "Segmentation"),
            ((MACHINE, Seg()), None, "Segmentation"),
            ((MACHINE, Seg(masks={"Lung": LUNG})), None, "BAMF-AIMI"),
        ],
        ids=["its description, capitals aside", "made by hand", "a machine's where it alone has the regions"],
    )
    def test_it_is_the_one_that_is_asked_for_or_the_best(self, patient_of, segs, description, chosen):
        patient = patient_of(PLAIN.but(segs=segs))
        assert choose_segmentation(patient, LABELS, description=description).series_description == chosen

    @pytest.mark.parametrize(
        ("segs", "description", "reason"),
        [
            ((Seg(), Seg(description="Second reader")), None, "2 SEG with these regions .* or its Series Description"),
            ((MACHINE,), "Segmentation", "1 SEG, none with Series Description 'Segmentation'"),
            ((), None, r"no SEG \(there are: CT, RTSTRUCT\)"),
        ],
        ids=["two by hand", "none of the description", "none at all"],
    )
    def test_none_or_two_are_refused_with_what_is_there(self, patient_of, segs, description, reason):
        with pytest.raises(DicomError, match=f"found {reason}"):
            choose_segmentation(patient_of(PLAIN.but(segs=segs)), LABELS, description=description)


class TestWhatMayBeDrawnOnACt:
    def test_a_structure_set_is_not_of_the_ct_beside_the_one_it_names(self, patient_of):
        patient = patient_of(PLAIN.but(cts=(Ct(), SECOND)))
        structures = choose_structure_set(patient, LABELS)
        for name, expected in (("CT", True), ("second", False)):
            ct = [header for header in patient.of_modality("CT") if header.series_description == name]
            assert may_be_drawn_on(patient, structures, ct) == expected

    def test_nor_of_one_in_another_frame_of_reference(self, patient_of):
        patient = patient_of(PLAIN, of_another_frame_and_series)
        assert not may_be_drawn_on(patient, choose_structure_set(patient, LABELS), patient.of_modality("CT"))
