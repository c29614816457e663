"""The settings of the anatomy filter and their two presets."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.morphology import ElementShape
from nnunet_cascade.postprocessing.merging import MergeSettings

RankBy = Literal["volume", "mean_probability", "mean_uncertainty"]
_SHARES = (
    "min_lung_overlap",
    "min_lung_overlap_central",
    "central_zone_share",
    "rescue_near_surface_share_central",
    "min_smaller_lung_share",
)
_AMOUNTS = (
    "min_volume_mm3",
    "rescue_distance_mm",
    "rescue_min_volume_mm3",
    "undecided_distance_mm",
    "min_lungs_ml",
    "max_lungs_ml",
)

_UNDECIDED_DISTANCE_MM = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AnatomySettings:
    """What the anatomy filter asks of a candidate; the defaults are the `recommended` preset.

    Attributes:
        merge_radius_mm: Fragments are merged if they touch after they are grown by this radius. Default 3.
        merge_shape: Shape of the structuring element: "ball" (default), or "cube", the paper's.
        min_volume_mm3: Smaller candidates are dropped in any case; 0 drops none. Default 100.
        min_lung_overlap: A candidate is kept if at least this share of its volume is inside the lungs. Default 0.80.
        min_lung_overlap_central: The same in the central zone. Default 0.90; the paper gives no number.
        central_zone_share: Width of the central zone around the middle of the lungs' bounding box,
            as a share of the box from left to right. Default 0.5.
        rescue_distance_mm: A candidate with too little overlap is kept if it is no farther than
            this from a lung. Default 5.
        rescue_min_volume_mm3: It must also have at least this volume. Default 100.
        rescue_near_surface_share_central: In the central zone, at least this share of its surface
            must also be within `rescue_distance_mm` of a lung. Default 0.40; 0 turns this rule off.
        undecided_distance_mm: A candidate that is neither inside nor near the lungs is dropped, unless a score is there
            to judge it: then stage 2 looks at those that are no farther than this from a lung. Default 30.
        top_k: Number of kept candidates that remain, or "all" (default; the paper keeps 1).
        rank_by: Which candidate comes first: the one with the largest "volume" (default), the
            highest "mean_probability" or the lowest "mean_uncertainty".
        keep_best_if_none: Keep the first candidate by `rank_by` if the rules reject all. Default False.
        min_lungs_ml: A smaller lung mask is implausible and is not used. Default 1000.
        max_lungs_ml: A larger lung mask is implausible and is not used. Default 10000.
        min_smaller_lung_share: A lung mask whose smaller lung has less than this share of the larger lung's volume is
            not used, if the sides are known. Default 0.1; 0 accepts a single lung.

    Raises:
        SettingsError: A value lies outside its range; the message names it.

    Source:
        docs/decisions/0014-anatomy.md, docs/decisions/0015-presets.md.

    Example:
        >>> nnc.AnatomySettings(rescue_distance_mm=10).top_k
        'all'
        >>> nnc.AnatomySettings.paper().merge_shape
        'cube'
    """

    merge_radius_mm: float = 3.0
    merge_shape: ElementShape = "ball"
    min_volume_mm3: float = 100.0
    min_lung_overlap: float = 0.80
    min_lung_overlap_central: float = 0.90
    central_zone_share: float = 0.5
    rescue_distance_mm: float = 5.0
    rescue_min_volume_mm3: float = 100.0
    rescue_near_surface_share_central: float = 0.40
    undecided_distance_mm: float = _UNDECIDED_DISTANCE_MM
    top_k: int | Literal["all"] = "all"
    rank_by: RankBy = "volume"
    keep_best_if_none: bool = False
    min_lungs_ml: float = 1000.0
    max_lungs_ml: float = 10000.0
    min_smaller_lung_share: float = 0.1

    def __post_init__(self) -> None:
        for name in _SHARES:
            _require_number(name, getattr(self, name), high=1.0)
        for name in _AMOUNTS:
            _require_number(name, getattr(self, name), high=math.inf)
        if self.min_lungs_ml > self.max_lungs_ml:
            raise SettingsError(
                f"min_lungs_ml {self.min_lungs_ml} is above max_lungs_ml {self.max_lungs_ml}; swap them"
            )
        if self.top_k != "all" and (type(self.top_k) is not int or self.top_k < 1):
            raise SettingsError(f'top_k is {self.top_k!r}; expected a whole number from 1 up, or "all"')
        if self.rank_by not in get_args(RankBy):
            raise SettingsError(f"rank_by is {self.rank_by!r}; expected one of {get_args(RankBy)}")
        if type(self.keep_best_if_none) is not bool:
            raise SettingsError(f"keep_best_if_none is {self.keep_best_if_none!r}; expected true or false")
        _require_number("merge_radius_mm", self.merge_radius_mm, high=math.inf)
        _ = self.merge

    @property
    def merge(self) -> MergeSettings:
        """The structuring element that merges fragments."""
        return MergeSettings(radius_mm=self.merge_radius_mm, shape=self.merge_shape)

    @classmethod
    def recommended(cls) -> AnatomySettings:
        """Return the preset in physical units, with the surface rule in the central zone."""
        return cls()

    @classmethod
    def paper(cls) -> AnatomySettings:
        """Return the paper's numbers; its grid has voxels of 1 mm, so its voxels are millimetres here."""
        return cls(
            merge_radius_mm=1.0,
            merge_shape="cube",
            min_volume_mm3=0.0,
            rescue_min_volume_mm3=50.0,
            rescue_near_surface_share_central=0.0,
            top_k=1,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values by name, as earlier releases wrote them where newer ones are not used."""
        newer = {"undecided_distance_mm": _UNDECIDED_DISTANCE_MM}
        return {name: value for name, value in asdict(self).items() if newer.get(name) != value}


def _require_number(name: str, value: object, *, high: float) -> None:
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= high
    if not ok:
        expected = "a finite number from 0 up" if math.isinf(high) else f"a number from 0 to {high:g}"
        raise SettingsError(f"{name} is {value!r}; expected {expected}")
