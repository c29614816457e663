"""Small downloads of DICOM patients, in the layouts that collections come in."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from pydicom import dcmread

from nnunet_cascade.cli import convert_dicom
from nnunet_cascade.dataset_conversion import workers
from nnunet_cascade.dataset_conversion.cohort import ConversionRequest, convert_download
from nnunet_cascade.dataset_conversion.labels import Label
from nnunet_cascade.dataset_conversion.settings import ConversionSettings
from nnunet_cascade.dataset_conversion.writing import convert_case
from nnunet_cascade.dicom.ct.writing import CtStorage, write_ct_series
from nnunet_cascade.dicom.derived import Algorithm, ObjectIdentity
from nnunet_cascade.dicom.headers import lenient, read_header
from nnunet_cascade.dicom.rtstruct.writing import RoiToWrite, write_structure_set
from nnunet_cascade.dicom.writing import Identity, Series, uid_from
from nnunet_cascade.geometry import Grid
from nnunet_cascade.images import read_volume

GRID = Grid(shape=(8, 24, 24), spacing_mm=(3.0, 2.0, 2.0), origin_mm=(-24.0, -30.0, 100.0))
LAYOUTS = ("descriptive", "classic", "by series", "idc", "one folder")
TUMOR_LABEL = Label(name="tumor", regions=("GTV-1",))
SETTINGS = ConversionSettings(labels=(TUMOR_LABEL,), case_names="patient-id")
_INDICES = np.indices(GRID.shape)


def ball(center=(4, 12, 12), radius_mm=7.0):
    """A ball on the grid."""
    steps = [(index - at) * size for index, at, size in zip(_INDICES, center, GRID.spacing_mm, strict=True)]
    return sum(step**2 for step in steps) <= radius_mm**2


TUMOR, LUNG = ball(), ball((4, 10, 14), 11.0)
ELSEWHERE = ball((4, 6, 18), 6.0)


@dataclass(frozen=True, kw_only=True)
class Seg:
    """A DICOM SEG: its Series Description, masks by name, and whether a machine made it."""

    description: str = "Segmentation"
    masks: dict = field(default_factory=lambda: {"GTV-1": TUMOR})
    by_machine: bool = False


@dataclass(frozen=True, kw_only=True)
class Ct:
    """A CT series of its own: what is random in it, how it is stored and which of its slices are there."""

    seed: int = 0
    name: str = "CT"
    storage: CtStorage = CtStorage()  # noqa: RUF009 - frozen
    without_slices: tuple = ()
    frame: str = "frame"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A patient, or one study of a patient.

    Attributes:
        patient_id: As it stands in the files.
        rois: For each RTSTRUCT masks by name, or contours in mm; None gives an ROI without contours.
        cts: The first is the one that RTSTRUCT and SEG are drawn on.
        segs: DICOM SEGs.
        study: What tells its study from others.
        identity: Further fields of `Identity`.
    """

    patient_id: str
    rois: tuple = ({"GTV-1": TUMOR, "Lung-Left": LUNG},)
    cts: tuple = (Ct(),)
    segs: tuple = ()
    study: str = "study"
    identity: dict = field(default_factory=dict)

    def ident(self, frame="frame"):
        names = (self.patient_id, self.study)
        return Identity(
            patient_id=self.patient_id,
            study_uid=uid_from(*names),
            frame_of_reference_uid=uid_from(*names, frame),
            **self.identity,
        )

    def series(self, name, *, frame="frame", number=1):
        return Series(
            identity=self.ident(frame), uid=uid_from(self.patient_id, self.study, name), number=number, description=name
        )

    def but(self, **changes):
        return replace(self, **changes)


def square(center, half_mm, plane=4):
    """A contour in mm about a pixel (row, column) of a plane."""
    corners = ((-1, -1), (-1, 1), (1, 1), (1, -1))
    x, y, z = GRID.world_mm((plane, *center))
    return np.array([(x + half_mm * right, y + half_mm * down, z) for down, right in corners])


def ct_voxels(seed):
    """Soft tissue in air, with noise that tells patients apart."""
    noise = np.random.default_rng(seed).integers(-20, 21, GRID.shape)
    return np.where(ball(radius_mm=20.0), 40, -900).astype(np.int16) + noise.astype(np.int16)


def write_subject(subject, folder):
    """Write a patient; each series gets a folder of its own below `folder`.

    Returns:
        The folder.
    """
    for ct in subject.cts:
        series = subject.series(ct.name, frame=ct.frame)
        paths = write_ct_series(ct_voxels(ct.seed), GRID, folder / ct.name, series=series, storage=ct.storage)
        if ct is subject.cts[0]:
            _write_annotations(subject, paths, folder)
        for place in ct.without_slices:
            paths[place].unlink()
    return folder


def write_download(subjects, folder):
    """Write patients below one folder, each in a folder with a number."""
    for number, subject in enumerate(subjects):
        write_subject(subject, folder / f"{number:03d}")
    return folder


def _write_annotations(subject, slices, folder):
    frame = subject.cts[0].frame
    headers = [read_header(path) for path in slices]
    for number, masks in enumerate(subject.rois):
        rois = [_roi(name, shown) for name, shown in masks.items()]
        name = f"RTSTRUCT{number or ''}"
        write_structure_set(
            rois, GRID, headers, folder / name / "1-1.dcm", series=subject.series(name, frame=frame, number=3)
        )
    for number, seg in enumerate(subject.segs):
        _write_seg(subject, seg, slices, folder / f"SEG{number or ''}" / "1-1.dcm")


def _roi(name, shown):
    return RoiToWrite(name=name, contours_mm=shown) if isinstance(shown, tuple) else RoiToWrite(name=name, mask=shown)


def _write_seg(subject, seg, slices, path):
    from nnunet_cascade.dicom.seg.writing import SegmentToWrite, write_segmentation  # noqa: PLC0415 - most patients have none

    path.parent.mkdir(parents=True, exist_ok=True)
    made_by = Algorithm(name="machine", version="1") if seg.by_machine else None
    segments = [SegmentToWrite(name=name, mask=mask, algorithm=made_by) for name, mask in seg.masks.items()]
    names = (subject.patient_id, subject.study, path.parent.name)
    identity = ObjectIdentity(series_uid=uid_from(*names), sop_uid=uid_from(*names, "file"))
    write_segmentation(segments, slices, path, description=seg.description, identity=identity)


def lay_out(source, target, layout):
    """Copy a download into the layout of a collection; names say nothing in "idc" and "one folder"."""
    for number, path in enumerate(sorted(source.rglob("*.dcm"))):
        place = target / _place(read_header(path), number, layout)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    if layout == "descriptive":
        (target / "metadata.csv").write_text("Series UID,Collection\n")
        (target / "LICENSE").write_text("CC BY-NC 3.0\n")
    return target


def _place(header, number, layout):
    study, series = header.study_uid, header.series_uid
    match layout:
        case "descriptive":
            kind = f"{header.modality}-{header.series_description}-{series[-5:]}"
            below = Path("manifest-1", "NSCLC-Radiomics", header.patient_id, f"01-01-2014-{study[-5:]}", kind)
            return below / f"1-{number:03d}.dcm"
        case "classic":
            return Path("NSCLC-Radiomics", header.patient_id, study, series, f"{number:06d}.dcm")
        case "by series":
            return Path("tciaDownload", series, f"1-{number:03d}.dcm")
        case "idc":
            name = f"{uid_from(header.sop_uid)[-12:]}.dcm"
            return Path("nsclc_radiomics", header.patient_id, study, f"{header.modality}_{series}", name)
        case "one folder":
            return Path(uid_from(header.sop_uid, "random")[-9:])


def edit(path, change):
    """Change a DICOM file in place, also to what DICOM forbids: `change` is given its dataset."""
    with lenient():
        dataset = dcmread(path)
        change(dataset)
        dataset.save_as(path)


def edit_all(folder, change):
    """Change every DICOM file below a folder."""
    for path in folder.rglob("*.dcm"):
        edit(path, change)


def truncate(path, share=0.5):
    """Cut a file short."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def convert(source, dataset, settings=SETTINGS, **request):
    """Convert a download in this process."""
    return convert_download(ConversionRequest(source=source, dataset=dataset, settings=settings, **request))


def contents(folder, *ignored):
    """The bytes of every file below a folder by its relative path, hidden ones too, but for some names."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in ignored)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def environment(**more):
    """The environment of a process that can import this module."""
    paths = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])])
    return {**os.environ, "PYTHONPATH": paths, **more}


def run_python(script, *arguments):
    """Run a script in a process of its own that can import this module."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment())


def run_slowly(seconds, *options):
    """Run `nnc-convert-dicom` so that each patient takes a while; each says so when it begins."""
    workers.convert_case = partial(_convert_slowly, float(seconds))
    return convert_dicom.main(options)


def _convert_slowly(seconds, job):
    sys.stdout.write("working\n")
    sys.stdout.flush()
    time.sleep(seconds)
    return convert_case(job)


ONE, TWO, THREE = (
    Subject(patient_id=f"P{number}", cts=(Ct(seed=number),), rois=({"GTV-1": ball(radius_mm=6.0 + number)},))
    for number in (1, 2, 3)
)
GAPPED = TWO.but(cts=(Ct(seed=2, without_slices=(4,)),), segs=(Seg(),))
NAMES = ("P1", "P2", "P3")
"""Of the cases of these three."""


def labels_of(dataset, case, split="Tr"):
    return read_volume(dataset / f"labels{split}" / f"{case}.nii.gz").array


def manifest_of(dataset):
    return json.loads((dataset / "conversion.json").read_text())


def times(dataset):
    """When each file of a case was written."""
    files = [path for path in dataset.rglob("*") if path.is_file() and path.parent != dataset]
    return {path.relative_to(dataset).as_posix(): path.stat().st_mtime_ns for path in files}


def present(dataset):
    return sorted(path.relative_to(dataset).as_posix() for path in dataset.rglob("*.nii.gz"))


def both(case, split="Tr"):
    return [f"images{split}/{case}_0000.nii.gz", f"labels{split}/{case}.nii.gz"]
