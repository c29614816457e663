"""A CT series in Hounsfield units, on the grid that its slices' own positions give."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from nnunet_cascade.dicom.ct.geometry import Stack, stack_slices
from nnunet_cascade.dicom.ct.resampling import resample_voxels
from nnunet_cascade.dicom.headers import Header
from nnunet_cascade.dicom.slice_plane import SlicePlane
from nnunet_cascade.errors import DicomError

_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceFiles:
    """The files of a series, stacked before any voxel is read.

    Attributes:
        stack: Where they lie.
        headers: In the stack's order.
        duplicates: Pairs of files at one place: the one left out and the one kept.
        localizers: Overviews left out.
    """

    stack: Stack
    headers: tuple[Header, ...]
    duplicates: tuple[tuple[Header, Header], ...]
    localizers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CtSeries(SliceFiles):
    """A CT with its voxels.

    Attributes:
        voxels: (Z, Y, X), Hounsfield units on the stack's grid: int16 where those of all
            slices are whole numbers of that range (what is interpolated is then rounded), else float32.
    """

    voxels: NDArray[Any]

    def sha256(self) -> str:
        """Return a hash of shape, type and voxels, the same for the same CT under other UIDs."""
        digest = hashlib.sha256(f"{self.voxels.shape} {self.voxels.dtype.str}".encode())
        digest.update(np.ascontiguousarray(self.voxels).data)
        return digest.hexdigest()


def stack_files(headers: Sequence[Header]) -> SliceFiles:
    """Put the files of one CT series in order by their headers.

    Raises:
        DicomError: A file is truncated, is multi-frame or does not say where it is, or the
            slices make no volume.
    """
    slices = [header for header in headers if not header.is_localizer]
    planes = [_plane(header) for header in slices]
    stack = stack_slices(planes)
    return SliceFiles(
        stack=stack,
        headers=tuple(slices[place] for place in stack.order),
        duplicates=tuple((slices[left_out], slices[kept]) for left_out, kept in stack.duplicates),
        localizers=len(headers) - len(slices),
    )


def read_ct_series(files: SliceFiles) -> CtSeries:
    """Read the voxels of a series.

    Each slice is rescaled by its own slope and intercept. Planes of the grid without a
    slice are interpolated linearly between their neighbours.

    Raises:
        DicomError: A file cannot be decoded, or two files at one place show different things.
    """
    for left_out, kept in files.duplicates:
        if not np.array_equal(read_slice(left_out), read_slice(kept)):
            raise DicomError(
                f"found different images at one place ({left_out.sop_uid} and {kept.sop_uid}); expected one "
                "image for each place: split the acquisitions into series"
            )
    slices = _stacked(files.headers)
    voxels = resample_voxels(slices, files.stack) if files.stack.irregularities else slices
    return CtSeries(
        stack=files.stack,
        headers=files.headers,
        duplicates=files.duplicates,
        localizers=files.localizers,
        voxels=voxels,
    )


def read_slice(header: Header) -> NDArray[Any]:
    """Read one image (Y, X) in Hounsfield units; int16 where it fits.

    Raises:
        DicomError: Nothing here decodes the file's transfer syntax, or the file is broken.
    """
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(header.path))
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise DicomError(
            f"image {header.sop_uid} cannot be decoded (transfer syntax {header.transfer_syntax}); expected native, "
            "RLE, JPEG, JPEG-LS or JPEG 2000 pixels: decompress it, such as with gdcmconv --raw"
        ) from error
    # The view is of the image's own memory: it must not outlive it.
    array = sitk.GetArrayViewFromImage(image)
    if array.ndim != 3 or len(array) != 1:
        raise DicomError(f"image {header.sop_uid} has {array.shape} pixels; expected one plane of one channel")
    return _narrow(array[0])


def _narrow(array: NDArray[Any]) -> NDArray[Any]:
    """Copy to int16 if nothing is lost, else to float32."""
    if array.dtype.kind == "f" and not np.array_equal(np.rint(array), array):
        return array.astype(np.float32)
    fits = _INT16.min <= array.min() and array.max() <= _INT16.max
    return array.astype(np.int16 if fits else np.float32)


def _stacked(headers: Sequence[Header]) -> NDArray[Any]:
    shape = _plane(headers[0]).shape
    voxels: NDArray[Any] = np.empty((len(headers), *shape), dtype=np.int16)
    for place, header in enumerate(headers):
        array = read_slice(header)
        if array.shape != shape:
            raise DicomError(f"found an image of {array.shape} pixels; its header says {shape}")
        if array.dtype != voxels.dtype:
            voxels = voxels.astype(np.float32, copy=False)
        voxels[place] = array
    return voxels


def _plane(header: Header) -> SlicePlane:
    name = f"image {header.sop_uid}"
    if header.frames > 1:
        raise DicomError(
            f"{name} holds {header.frames} frames; expected one image a file: convert the enhanced CT to classic CT"
        )
    if not header.is_whole:
        raise DicomError(f"{name} is truncated: it holds fewer bytes than its pixels need; copy it again")
    if header.plane is None:
        raise DicomError(
            f"{name} does not say where it lies (position, orientation, pixel spacing); expected all three"
        )
    return header.plane
