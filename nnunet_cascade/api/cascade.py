"""A cascade in memory, what it finds in a CT, and the files of that."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch

from nnunet_cascade.api.inputs import CtSource, MaskSource, as_volume, find_scan, labels_on, mask_on
from nnunet_cascade.bundles.bundle import load_cascade as load_models
from nnunet_cascade.bundles.bundle import read_notes
from nnunet_cascade.bundles.bundle import read_spec as read_settings
from nnunet_cascade.bundles.checksums import model_checksums
from nnunet_cascade.case_folders.case_record import read_record
from nnunet_cascade.case_folders.records import record_path
from nnunet_cascade.case_folders.run import prepare_output, remove_case, require_case_name
from nnunet_cascade.cohort.case_io import read_case, run_facts, write_result
from nnunet_cascade.cohort.jobs import CaseFiles, CohortJob, Precision
from nnunet_cascade.errors import SettingsError, require_type
from nnunet_cascade.files import InputChecksums
from nnunet_cascade.images import Volume, require_ct
from nnunet_cascade.machine import find_device
from nnunet_cascade.postprocessing.candidates import Candidate
from nnunet_cascade.postprocessing.lungs.folder import SideLabels, lungs_of
from nnunet_cascade.postprocessing.lungs.inputs import lung_files, weights_checksum
from nnunet_cascade.postprocessing.lungs.lungmask_network import DeviceName
from nnunet_cascade.postprocessing.lungs.result import LungMask
from nnunet_cascade.postprocessing.lungs.source import LungSource
from nnunet_cascade.prediction.case import PrecomputedInputs, case_steps
from nnunet_cascade.prediction.loaded import LoadedCascade
from nnunet_cascade.prediction.result import CaseResult
from nnunet_cascade.prediction.spec import CascadeSpec
from nnunet_cascade.prediction.steps import Clock, run_steps
from nnunet_cascade.scans.scans import LoadedScan, Scan

_PREDICTING = threading.Lock()
"""Held during a prediction: PyTorch has one random generator for all threads."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Prediction(CaseResult):
    """What a cascade found in one CT: the fields of `CaseResult`, and what it takes to save them.

    Used most: `tumor`, `uncertainty`, `probability`, `candidates`, `flags`, `lungs.mask` and `grid`.

    Attributes:
        case: Name of the case; its files begin with it.
        job: What it was predicted with.
        scan: Where the CT was read; None for a CT that was in memory.
        checksums: Name and SHA-256 of the files it was made from; None if something was handed in from memory.
        facts: What the record tells of this very run: device, threads, time, place of the CT.

    Example:
        >>> result = cascade.predict("ct.nii.gz")
        >>> result.tumor.shape == result.grid.shape
        True
        >>> all(candidate.verdict.reason for candidate in result.candidates)
        True
    """

    case: str
    job: CohortJob
    scan: Scan | None
    checksums: InputChecksums | None
    facts: dict[str, Any]

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """What stage 1 found, kept or dropped, each with the verdict of the anatomy rules."""
        return self.filtered.candidates

    def __repr__(self) -> str:
        volume_ml = np.count_nonzero(self.tumor) * self.grid.voxel_volume_mm3 / 1000
        return f"Prediction(case={self.case!r}, tumor={volume_ml:.3g} ml, flags={self.flags})"

    def save(
        self,
        folder: str | Path,
        *,
        dicom: bool | str | Sequence[str] = False,
        series_folder: str | Path | None = None,
    ) -> Path:
        """Write the files that `nnc-cascade-predict` writes of the case, the same bytes.

        Only `varying` in the record differs, as between any two runs of the command, and the time of prediction and
        the UIDs of DICOM objects, which follow from it. `run.json` and `summary.csv` describe a whole run of the
        command and are not written.

        Args:
            folder: For the results; it is made if it is not there. Earlier files of the case are replaced.
            dicom: Also write `dicom/<case>/`: True for all kinds, or some of "seg", "probability", "uncertainty",
                "rtstruct" and "report".
            series_folder: Where the DICOM series of the CT is, if it was predicted from another kind of source.

        Returns:
            The path of the record, `<case>.json`.

        Raises:
            SettingsError: The folder is one that the case was read from, a kind is unknown, or there is no series.
            InputImageError: The folder cannot be written.
            DicomError: The series cannot be referred to. The other files are there by then, and stay.

        Example:
            >>> cascade.predict("ct.nii.gz").save("results").name
            'ct.json'
        """
        require_type(folder, (str, Path), "a path (str or Path)", what="folder")
        output = Path(folder)
        request = self._export_request(output, dicom=dicom, series_folder=series_folder)
        _require_other_folder(output, self.job.bundle, None if self.scan is None else self.scan.path)
        require_case_name(self.case)
        prepare_output(output)
        remove_case(output, self.case)
        write_result(self, self.case, replace(self.job, output=output), self.checksums, varying=self.facts)
        path = record_path(output, self.case)
        if request is not None:
            from nnunet_cascade.dicom_export.export import export_case  # noqa: PLC0415 - for DICOM alone
            from nnunet_cascade.dicom_export.matching import KnownSeries  # noqa: PLC0415

            record = read_record(path)
            known = None if series_folder is None else KnownSeries(Path(series_folder)).series_of(self.case, record)
            export_case(request, self.case, record, known or cast(Scan, self.scan))
        return path

    def _export_request(self, output: Path, *, dicom: bool | str | Sequence[str], series_folder: object) -> Any:
        """Return what is asked for as DICOM, or None."""
        if dicom is False:
            return None
        from nnunet_cascade.dicom_export.export import KINDS, ExportRequest  # noqa: PLC0415 - for DICOM alone

        if series_folder is None and (self.scan is None or not self.scan.is_dicom):
            raise SettingsError(
                f"dicom: {self.case} was not predicted from a DICOM series, to which objects refer; give series_folder="
            )
        kinds: Any = KINDS if dicom is True else (dicom,) if isinstance(dicom, str) else tuple(dicom)
        return ExportRequest(results=output, kinds=kinds)


class Cascade:
    """A trained cascade in memory; `load_cascade` returns it.

    Predictions of several threads wait for each other. No other process is started.

    Args:
        models: Both networks and the settings.
        job: What records say of them.
        device: Where the networks are.

    Example:
        >>> cascade.spec.sampling.measure
        'variance'
    """

    def __init__(self, models: LoadedCascade, job: CohortJob, device: torch.device) -> None:
        self._models, self._job, self._device = models, job, device

    @property
    def spec(self) -> CascadeSpec:
        """The settings, which do not change; `load_cascade` says how to predict with others."""
        return self._models.spec

    def predict(
        self,
        source: CtSource,
        *,
        case: str | None = None,
        series: str | None = None,
        stage1: MaskSource | None = None,
        lungs: LungSource | LungMask | MaskSource | None = None,
    ) -> Prediction:
        """Run the cascade on one CT.

        Args:
            source: An image file, a folder with the slices of one CT, a `Volume` or a SimpleITK image, in HU and in
                any orientation. Left unchanged.
            case: Name of the case; default: that of the file, a hash for a series, "case" for an image in memory.
            series: SeriesInstanceUID of the CT, if the folder holds several.
            stage1: A mask instead of stage 1's prediction, on the CT's grid.
            lungs: A lung mask on the CT's grid (found by `find_lungs`, a file of labels or an array), or where lung
                masks come from, instead of the bundle's source. A folder is one of masks, as for `--lungs`.

        Returns:
            The result on the CT's own grid. No candidate gives an empty mask and a flag, never an error.

        Raises:
            WrongTypeError, GridMismatchError: An argument is of another type, or a mask lies on another grid.
            InputImageError, DicomError: There is no CT, there are several, or it cannot be read.
            LungMaskError, DeviceError: A lung mask cannot be had, or the device has too little memory.

        Example:
            >>> result = cascade.predict(nnc.read_ct("ct.nii.gz"), case="patient7")
            >>> result.case, result.stage1_given
            ('patient7', False)
        """
        job = self._job_for(stage1, lungs)
        scan = find_scan(source, series) if isinstance(source, (str, Path)) else None
        name = case if case is not None else "case" if scan is None else scan.case
        _require_name(name)
        files = None if scan is None else _files(replace(scan, case=name), job, stage1)
        volume = as_volume(source) if scan is None else None
        from_files = files is not None and _has_checksum(stage1) and not _is_mask(lungs)
        checksums: InputChecksums = []

        def read() -> tuple[LoadedScan, PrecomputedInputs]:
            checksums.extend(files.checksums() if files is not None and from_files else ())
            loaded, given = _in_memory(cast(Volume, volume), name) if files is None else read_case(files)
            return loaded, _handed_in(given, loaded, stage1, lungs)

        with _PREDICTING:
            found = run_steps(case_steps(read, replace(self._models, spec=job.spec), Clock()))
        return Prediction(
            **{field.name: getattr(found, field.name) for field in fields(CaseResult)},
            case=name,
            job=job,
            scan=None if files is None else files.scan,
            checksums=checksums if from_files else None,
            facts=run_facts(None if files is None else files.scan, str(self._device), torch.get_num_threads()),
        )

    def _job_for(self, stage1: object, lungs: object) -> CohortJob:
        """Return what a record says of a prediction: without stage 1 and with other lungs, if these are given."""
        job = self._job
        if isinstance(lungs, (str, Path)) and not Path(lungs).is_file():
            lungs = LungSource(kind="folder", path=Path(lungs))
        if isinstance(lungs, LungSource):
            weights = weights_checksum(lungs)
            model = {stage: checksum for stage, checksum in job.model.items() if stage != "lungs"}
            model |= {} if weights is None else {"lungs": weights}
            job = replace(job, spec=replace(job.spec, lungs=lungs), model=model)
        if stage1 is not None:
            model = {stage: checksum for stage, checksum in job.model.items() if stage != "stage1"}
            job = replace(job, model=model, with_stage1=False)
        return job


def load_cascade(
    bundle: str | Path,
    *,
    device: str | torch.device = "auto",
    spec: CascadeSpec | None = None,
    trusted: bool = False,
    precision: Precision = "float32",
) -> Cascade:
    """Load the two networks of a bundle, once for any number of predictions.

    Args:
        bundle: Folder made by `nnc-make-bundle`, `nnc-train-cascade` or `nnc-demo`.
        device: Where to predict: "cpu", "cuda", "cuda:1", "mps" or a torch.device; "auto" is a GPU if there is one.
        spec: Settings instead of the bundle's own; see the second example.
        trusted: Let the bundle's files run code of their own, as nnU-Net itself does.
        precision: What the networks compute in; "bfloat16" on CPUs that have it.

    Raises:
        WrongTypeError: An argument is of another type.
        BundleError: The folder is no bundle, is of a newer version, is incomplete or was changed.
        DropoutError: Stochastic passes are asked of a network without dropout.
        SettingsError: There is no such device, or the models do not offer what the settings ask.

    Example:
        >>> cascade = nnc.load_cascade("demo/bundle", device="cpu")

        With other settings, here for a faster prediction:

        >>> from dataclasses import replace
        >>> spec = nnc.read_spec("demo/bundle")
        >>> spec = replace(spec, sampling=replace(spec.sampling, mc_samples=5))
        >>> spec = replace(spec, stage1=replace(spec.stage1, mirroring=False))
        >>> nnc.load_cascade("demo/bundle", device="cpu", spec=spec).spec.sampling.mc_samples
        5
    """
    require_type(bundle, (str, Path), "a path (str or Path)", what="bundle")
    require_type(spec, (CascadeSpec, type(None)), "a CascadeSpec or None", what="spec")
    folder, place = Path(bundle), find_device(device)
    settings = spec or read_settings(folder)
    if device != "auto" and settings.lungs.kind == "lungmask" and place.type in get_args(DeviceName):
        settings = replace(settings, lungs=replace(settings.lungs, device=cast(Any, place.type)))
    models = load_models(folder, device=place, spec=settings, trusted=trusted, precision=precision)
    job = CohortJob(
        bundle=folder,
        spec=settings,
        output=folder,  # `save` names the folder
        notes=read_notes(folder),
        model=model_checksums(folder, settings),
        precision=precision,
    )
    return Cascade(models, job, place)


def read_spec(bundle: str | Path) -> CascadeSpec:
    """Read the settings of a bundle, without its networks.

    Raises:
        WrongTypeError: The argument is no path.
        BundleError: The folder is no bundle, or one of a newer version.

    Example:
        >>> nnc.read_spec("demo/bundle").sampling.measure
        'variance'
    """
    require_type(bundle, (str, Path), "a path (str or Path)", what="bundle")
    return read_settings(Path(bundle))


def _files(scan: Scan, job: CohortJob, stage1: object) -> CaseFiles:
    mask = Path(stage1) if isinstance(stage1, (str, Path)) else None
    return CaseFiles(scan=scan, stage1_mask=mask, lungs=tuple(lung_files(job.spec.lungs, scan.case)))


def _in_memory(volume: Volume, case: str) -> tuple[LoadedScan, PrecomputedInputs]:
    require_ct(volume.array, name=case)
    return LoadedScan(volume=volume), PrecomputedInputs(case=case)


def _has_checksum(stage1: object) -> bool:
    return stage1 is None or isinstance(stage1, (str, Path))


def _is_mask(lungs: object) -> bool:
    """Tell a mask of this very CT from a place where the masks of all cases are."""
    if isinstance(lungs, (str, Path)):
        return Path(lungs).is_file()
    return not (lungs is None or isinstance(lungs, LungSource))


def _handed_in(given: PrecomputedInputs, scan: LoadedScan, stage1: object, lungs: object) -> PrecomputedInputs:
    """Add the masks of this very CT that were handed in."""
    grid = scan.volume.grid
    if stage1 is not None and given.stage1 is None:
        given = replace(given, stage1=mask_on(stage1, grid, what="stage-1 mask"))
    if isinstance(lungs, LungMask):
        return replace(given, lungs=lungs)
    if not _is_mask(lungs):
        return given
    sides = SideLabels().sides(labels_on(lungs, grid, what="lung mask").astype(np.uint8))
    return replace(given, lungs=lungs_of(scan.volume, sides, source="given"))


def _require_name(case: str) -> None:
    require_type(case, str, "a str", what="case")
    if Path(case).name != case or case in ("", ".", ".."):
        raise SettingsError(f"case {case!r} cannot begin the names of files; choose a plain name")


def _require_other_folder(output: Path, *inputs: Path | None) -> None:
    """Refuse to write to a folder that is read from: the name of a result may be that of a CT."""
    for path in inputs:
        if path is not None and output.resolve() == (path.parent if path.is_file() else path).resolve():
            raise SettingsError(f"{output} is a folder that the case was read from; save to another one")
