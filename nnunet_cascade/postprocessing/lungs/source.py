"""Where lung masks come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.images import Volume
from nnunet_cascade.postprocessing.lungs.folder import SideLabels, read_lungs
from nnunet_cascade.postprocessing.lungs.lungmask_network import DeviceName, NetworkName, predict_lungs
from nnunet_cascade.postprocessing.lungs.result import LungMask
from nnunet_cascade.postprocessing.lungs.threshold import threshold_lungs

SourceKind = Literal["threshold", "lungmask", "folder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LungSource:
    """Where lung masks come from.

    Attributes:
        kind: "threshold" needs no model; "lungmask" is a pretrained network; "folder" reads
            existing masks. Default "threshold".
        path: For "folder": the folder of `<case>.nii.gz`, or of TotalSegmentator's folders `<case>`.
        right_labels: For "folder": the values of `<case>.nii.gz` that are right lung.
        left_labels: The values that are left lung. If both are empty, every value except 0 is lung.
        model: Model of lungmask. Default "R231".
        weights: File with the model's weights, or a folder of files named like lungmask's
            downloads. None lets lungmask download them.
        batch_size: Slices that the model processes at a time. Default 20.
        device: Where the model runs: "auto" (default), "cuda", "mps" or "cpu".

    Raises:
        SettingsError: A value is unknown or out of range, or a path is missing or out of place.

    Example:
        >>> nnc.LungSource(kind="lungmask", model="R231").batch_size
        20
    """

    kind: SourceKind = "threshold"
    path: Path | None = None
    right_labels: tuple[int, ...] = ()
    left_labels: tuple[int, ...] = ()
    model: NetworkName = "R231"
    weights: Path | None = None
    batch_size: int = 20
    device: DeviceName = "auto"

    def __post_init__(self) -> None:
        if self.kind not in get_args(SourceKind):
            raise SettingsError(f"lung source is {self.kind!r}; expected one of {get_args(SourceKind)}")
        if self.model not in get_args(NetworkName):
            raise SettingsError(f"lungmask model is {self.model!r}; expected one of {get_args(NetworkName)}")
        if self.device not in get_args(DeviceName):
            raise SettingsError(f"lungmask device is {self.device!r}; expected one of {get_args(DeviceName)}")
        if self.batch_size < 1:
            raise SettingsError(f"lungmask batch size is {self.batch_size}; expected 1 or more")
        if (self.kind == "folder") != (self.path is not None):
            raise SettingsError(
                f"lung source {self.kind!r} with path {self.path}; give a path for 'folder' and only then"
            )
        if self.weights is not None and self.kind != "lungmask":
            raise SettingsError(
                f"lung source {self.kind!r} with weights {self.weights}; weights are for 'lungmask' alone"
            )
        labels = SideLabels(right=self.right_labels, left=self.left_labels)
        if labels != SideLabels() and self.kind != "folder":
            raise SettingsError(f"lung source {self.kind!r} with lung labels; labels are for 'folder' alone")


def find_lungs(ct: Volume, source: LungSource, *, case: str) -> LungMask:
    """Find the lungs of a CT.

    Args:
        ct: In Hounsfield units, in any orientation. Left unchanged.
        source: Where the mask comes from.
        case: The case's name, which a mask file bears.

    Returns:
        The lungs on the CT's own grid. A file or a network may give an empty or an
        implausible mask, which is flagged; what then follows is the caller's policy.

    Raises:
        LungMaskError: The source has no mask for this CT.
        GridMismatchError: A mask file lies on another grid.
        InputImageError: A mask file cannot be read.
    """
    if source.kind == "folder" and source.path is not None:
        labels = SideLabels(right=source.right_labels, left=source.left_labels)
        return read_lungs(ct, source.path, case=case, labels=labels)
    if source.kind == "lungmask":
        return predict_lungs(ct, source.model, source.weights, batch_size=source.batch_size, device=source.device)
    return threshold_lungs(ct)
