"""Search for CTs: image files, or DICOM series in any layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_cascade.case_folders.case_files import find_images
from nnunet_cascade.errors import InputImageError
from nnunet_cascade.images import ENDING
from nnunet_cascade.scans.scans import FoundScans, Scan

if TYPE_CHECKING:
    from nnunet_cascade.dataset_conversion.settings import CaseNames

_DICOM_MARK_AT, _DICOM_MARK = 128, b"DICM"


def find_scans(inputs: str | Path, names: CaseNames = "uid") -> dict[str, Scan]:
    """List the CTs of a folder or a file by case, as `search_scans` finds them.

    Raises:
        InputImageError, DicomError: As `search_scans`.

    Example:
        >>> list(nnc.find_scans("ct.nii.gz"))
        ['ct']
    """
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
    if inputs.is_file():
        _require_image_file(inputs)
    if not inputs.is_dir() or any(not path.name.startswith(".") for path in inputs.glob(f"*{ENDING}")):
        return FoundScans(scans=image_scans(find_images(inputs)))
    from nnunet_cascade.scans.series_search import search_series  # noqa: PLC0415 - for DICOM alone

    return search_series(inputs, names)


def image_scans(images: Mapping[str, Path]) -> dict[str, Scan]:
    """Return image files by case as scans."""
    return {case: Scan(case=case, path=path) for case, path in images.items()}


def _require_image_file(path: Path) -> None:
    """Raise where a file is a single slice."""
    try:
        with path.open("rb") as file:
            file.seek(_DICOM_MARK_AT)
            is_slice = file.read(len(_DICOM_MARK)) == _DICOM_MARK
    except OSError:
        return  # whoever reads it says what is wrong
    if is_slice:
        raise InputImageError(f"{path} is one DICOM file; expected a CT: give the folder of its series")
