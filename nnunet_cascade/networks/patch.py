"""Patches that a network can take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nnunet_cascade.settings.serialization import require


class PatchRule(Protocol):
    """What a network asks of every side of its patches."""

    @property
    def patch_multiple(self) -> int:
        """What a side must be divisible by."""
        ...

    @property
    def patch_minimum(self) -> int:
        """The shortest side."""
        ...


def legal_patch(patch_size: Sequence[int], backbone: PatchRule) -> tuple[int, ...]:
    """Return the smallest legal patch that holds another one.

    Args:
        patch_size: (Z, Y, X), voxels.
        backbone: What the network asks of each side.

    Raises:
        SettingsError: The patch has not three sides, or one is not a whole number of at least 1.
    """
    require(
        len(patch_size) == 3 and all(side == int(side) and side >= 1 for side in patch_size),
        f"a patch must have three sides of at least 1 voxel; found {tuple(patch_size)}; use a 3d configuration",
    )
    multiple = backbone.patch_multiple
    return tuple(-(-max(int(side), backbone.patch_minimum) // multiple) * multiple for side in patch_size)
