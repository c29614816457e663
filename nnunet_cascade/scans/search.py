"""Search for CTs: image files, or DICOM series in any layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_cascade.case_folders.case_files import find_images
from nnunet_cascade.errors import InputImageError, require_type
from nnunet_cascade.images import ENDING, is_dicom
from nnunet_cascade.scans.scans import FoundScans, Scan

if TYPE_CHECKING:
    from nnunet_cascade.dataset_conversion.settings import CaseNames


def find_scans(inputs: str | Path, names: CaseNames = "uid") -> dict[str, Scan]:
    """List the CTs of a folder or a file by case; image files are listed by their names alone, and not opened.

    Args:
        inputs: An image file, a folder of image files, or a folder of DICOM files in any layout.
        names: How cases of DICOM series are named: by a hash of the series' UID, or by PatientID.

    Raises:
        WrongTypeError: `inputs` is no path.
        InputImageError: There is nothing of the kind, or two files are one case.
        DicomError: There is no DICOM either, or no CT series that is a volume.

    Example:
        >>> list(nnc.find_scans("ct.nii.gz"))
        ['ct']
    """
    require_type(inputs, (str, Path), "a path (str or Path)", what="inputs")
    return dict(search_scans(inputs, names).scans)


def search_scans(inputs: str | Path, names: CaseNames = "uid") -> FoundScans:
    """Search for CTs: an image file, a folder of image files, or a folder of DICOM files in any layout.

    Args:
        inputs: A folder with a `.nii.gz` at its top is one of image files, whatever else is there.
        names: How cases of DICOM series are named.

    Raises:
        InputImageError: There is nothing of the kind, or two files are one case.
        DicomError: There is no DICOM either, or no CT series that is a volume.
    """
    inputs = Path(inputs)
    if inputs.is_file() and is_dicom(inputs):
        raise InputImageError(f"{inputs} is one DICOM file; expected a CT: give the folder of its series")
    if not inputs.is_dir() or any(not path.name.startswith(".") for path in inputs.glob(f"*{ENDING}")):
        return FoundScans(scans=image_scans(find_images(inputs)))
    from nnunet_cascade.scans.series_search import search_series  # noqa: PLC0415 - for DICOM alone

    return search_series(inputs, names)


def image_scans(images: Mapping[str, Path]) -> dict[str, Scan]:
    """Return image files by case as scans."""
    return {case: Scan(case=case, path=path) for case, path in images.items()}
