"""Where lung masks come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.images import Volume
from nnunet_cascade.postprocessing.lungs.folder import read_lungs
from nnunet_cascade.postprocessing.lungs.learned import NetworkName, predict_lungs
from nnunet_cascade.postprocessing.lungs.result import LungMask
from nnunet_cascade.postprocessing.lungs.threshold import threshold_lungs

SourceKind = Literal["threshold", "lungmask", "folder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LungSource:
    """Where lung masks come from.

    Attributes:
        kind: "threshold" needs nothing; "lungmask" is the pretrained network; "folder"
            holds masks made elsewhere. Default "threshold".
        path: The folder of `<case>.nii.gz`; for "folder" alone.
        model: Which lungmask network. Default "R231".
        weights: File with the network's weights; None lets lungmask download them.

    Raises:
        SettingsError: The kind or the model is unknown, or a path is missing or out of place.
    """

    kind: SourceKind = "threshold"
    path: Path | None = None
    model: NetworkName = "R231"
    weights: Path | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(SourceKind):
            raise SettingsError(f"lung source is {self.kind!r}; expected one of {get_args(SourceKind)}")
        if self.model not in get_args(NetworkName):
            raise SettingsError(f"lungmask model is {self.model!r}; expected one of {get_args(NetworkName)}")
        if (self.kind == "folder") != (self.path is not None):
            raise SettingsError(
                f"lung source {self.kind!r} with path {self.path}; give a path for 'folder' and only then"
            )
        if self.weights is not None and self.kind != "lungmask":
            raise SettingsError(
                f"lung source {self.kind!r} with weights {self.weights}; weights are for 'lungmask' alone"
            )


def find_lungs(ct: Volume, source: LungSource, *, case: str) -> LungMask:
    """Find the lungs of a CT.

    Args:
        ct: In Hounsfield units, in any orientation. Left unchanged.
        source: Where the mask comes from.
        case: The case's name, which a mask file bears.

    Returns:
        The lungs on the CT's own grid. A file or a network may give an empty mask,
        which is flagged; what then follows is the caller's policy.

    Raises:
        LungMaskError: The source has no mask for this CT.
        GridMismatchError: A mask file lies on another grid.
        InputImageError: A mask file cannot be read.
    """
    if source.kind == "folder" and source.path is not None:
        return read_lungs(ct, source.path, case=case)
    if source.kind == "lungmask":
        return predict_lungs(ct, model=source.model, weights=source.weights)
    return threshold_lungs(ct)
