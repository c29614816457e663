"""Everything that decides what a cascade predicts, as one frozen value: `cascade.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from nnunet_cascade.errors import BundleError, SettingsError, one_line
from nnunet_cascade.postprocessing.lungs.source import LungSource
from nnunet_cascade.postprocessing.settings import AnatomySettings
from nnunet_cascade.settings.serialization import from_json, require, to_json
from nnunet_cascade.uncertainty.sampling_types import CoarseSource, SamplingPlan, Source
from nnunet_cascade.uncertainty_measures import MEASURES, Measure

SPEC_VERSION = 1
_PATHS = ("path", "weights")

Preset = Literal["recommended", "paper"]
IslandPolicy = Literal["drop", "keep"]
Orientation = Literal["stored", "LPS", "RAS"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSettings:
    """How one stage predicts.

    Attributes:
        folds: Folds whose models predict together: numbers, or "all".
        checkpoint: File name in each fold's folder.
        further_checkpoints: Names of further ones there, which predict together with it. Default none.
        tumor_label: Name of the tumor in the model's dataset.json, or "" where that
            has one foreground label only.
        threshold: Share of the tumor's probability in that of tumor and strongest other
            label together from which a voxel is tumor; 0.5 is nnU-Net's own decision.
            Less makes a coarse stage 1 miss less and find more that is none.
        step_size: Of the sliding window, as a share of the patch.
        mirroring: Average over mirrored images. In stage 2 it would enter the variance.
        orientation: How image axes run when the network sees them: as stored in the
            file, as nnU-Net's default reader does, or turned to a code such as that of
            the training data. Results always lie on the image's own grid.
        temperature: T of sigmoid(logit(p) / T), by which stage 2's mean tumor probability
            is scaled before mask and probability map are made; 1, the default, does
            nothing. Measures of uncertainty are those of the samples as the network gave
            them. No mask of threshold 0.5 depends on it.

    Example:
        >>> nnc.StageSettings(folds=(0, 1, 2), mirroring=False).checkpoints
        ('checkpoint_final.pth',)
    """

    folds: tuple[int | Literal["all"], ...] = (0,)
    checkpoint: str = "checkpoint_final.pth"
    further_checkpoints: tuple[str, ...] = ()
    tumor_label: str = ""
    threshold: float = 0.5
    step_size: float = 0.5
    mirroring: bool = True
    orientation: Orientation = "stored"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        require(len(self.folds) > 0, "a stage needs at least one fold")
        for fold in self.folds:
            valid = fold >= 0 if isinstance(fold, int) else fold == "all"
            require(valid, f'folds are numbers from 0 or "all"; found {fold!r}')
        for name in self.checkpoints:
            plain = "/" not in name and "\\" not in name
            require(plain, f"checkpoint and further_checkpoints are file names without folder; found {name!r}")
        once = len(set(self.checkpoints)) == len(self.checkpoints)
        require(once, f"further_checkpoints must differ from each other and from checkpoint; found {self.checkpoints}")
        flag = type(self.mirroring) is bool
        require(flag, f"mirroring must be true or false; found {self.mirroring!r}")
        require(0 < self.threshold < 1, f"threshold must lie between 0 and 1; found {self.threshold}")
        require(0 < self.step_size <= 1, f"step_size must lie in 0…1; found {self.step_size}")
        known = get_args(Orientation)
        require(self.orientation in known, f"orientation must be one of {known}; found {self.orientation!r}")
        positive = math.isfinite(self.temperature) and self.temperature > 0
        require(positive, f"temperature must be a positive number; found {self.temperature}")

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """File names of all checkpoints of a fold."""
        return (self.checkpoint, *self.further_checkpoints)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiSettings:
    """Where stage 2 looks and what becomes of what it finds there.

    Attributes:
        margin_mm: Added to a candidate's bounding box on every side; None where
            `margin_voxels` is given instead. Default 16.
        margin_voxels: The same in voxels of the image, along each axis. Default None.
        merge_overlapping: Make one region of those that overlap, the smallest box that
            holds them, until none do. Default False: what is predicted twice is averaged.
        islands: What becomes of a component that comes nowhere near a kept
            candidate: dropped or kept. Either way the case is flagged.
        island_reach_mm: How far from a kept candidate, surface to surface, a
            component may lie and still belong to it.

    Example:
        >>> nnc.RoiSettings(margin_mm=None, margin_voxels=12).islands
        'drop'
    """

    margin_mm: float | None = 16.0
    margin_voxels: int | None = None
    merge_overlapping: bool = False
    islands: IslandPolicy = "drop"
    island_reach_mm: float = 3.0

    def __post_init__(self) -> None:
        margins = (self.margin_mm, self.margin_voxels)
        require(margins.count(None) == 1, f"one of margin_mm and margin_voxels must be null; found {margins}")
        require(self.margin_mm is None or self.margin_mm >= 0, f"margin_mm must not be negative; found {margins[0]}")
        whole = self.margin_voxels is None or (type(self.margin_voxels) is int and self.margin_voxels >= 0)
        require(whole, f"margin_voxels must be a whole number from 0 up; found {self.margin_voxels!r}")
        flag = type(self.merge_overlapping) is bool
        require(flag, f"merge_overlapping must be true or false; found {self.merge_overlapping!r}")
        require(self.islands in get_args(IslandPolicy), f"islands must be drop or keep; found {self.islands!r}")
        require(self.island_reach_mm >= 0, f"island_reach_mm must not be negative; found {self.island_reach_mm}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSettings:
    """How uncertainty is sampled.

    Attributes:
        mc_samples: T, Monte-Carlo passes of each fold and checkpoint in stage 2; with
            mirroring they are shared out among the mirrored images in turn. Of no effect
            where `sources` leave mc_dropout out. 0, with mc_dropout as the only source,
            predicts once without dropout and gives no uncertainty.
        seed: Of the passes. The same ROI of the same image draws the same masks.
        sources: What makes stage 2's samples differ: Monte-Carlo dropout ("mc_dropout"),
            mirrored images ("tta"), several folds or checkpoints ("ensemble"), or
            several of them together. Default mc_dropout. Several folds, and mirroring
            where the stage has it switched on, enter the samples unnamed as well. None
            gives no uncertainty.
        measure: What is made of the samples of either stage: "variance" (default),
            "predictive_entropy" or "mutual_information"; entropies in nats.
        stage1_sources: The same for stage 1, which stays deterministic: "tta",
            "ensemble" or both. Default none, which gives no uncertainty of stage 1.
        batch_size: How many of stage 2's samples of a window run together through the
            stochastic part of the network. Default 1. More keep a GPU busier, take more of its
            memory and draw other dropout masks; on a CPU they gain nothing.

    Example:
        >>> nnc.SamplingSettings(mc_samples=10).measure
        'variance'
    """

    mc_samples: int = 20
    seed: int = 0
    sources: tuple[Source, ...] = ("mc_dropout",)
    measure: Measure = "variance"
    stage1_sources: tuple[CoarseSource, ...] = ()
    batch_size: int = 1

    def __post_init__(self) -> None:
        valid = self.mc_samples == 0 or self.mc_samples >= 2
        require(valid, f"mc_samples must be 0 or at least 2, one sample has no variance; found {self.mc_samples}")
        whole = type(self.seed) is int and 0 <= self.seed < 2**32
        require(whole, f"seed must be a whole number in 0…2³²−1; found {self.seed!r}")
        _require_sources("sources", self.sources, get_args(Source))
        _require_sources("stage1_sources", self.stage1_sources, get_args(CoarseSource))
        require(self.measure in MEASURES, f"measure must be one of {MEASURES}; found {self.measure!r}")
        whole = type(self.batch_size) is int and self.batch_size >= 1
        require(whole, f"batch_size must be a whole number from 1 up; found {self.batch_size!r}")
        drops = self.mc_samples > 0 or "mc_dropout" not in self.sources or self.sources == ("mc_dropout",)
        require(drops, f"mc_samples 0 means no dropout; leave mc_dropout out of sources; found {self.sources}")

    def of_stage1(self) -> SamplingPlan | None:
        """Return what stage 1 samples, or None."""
        if not self.stage1_sources:
            return None
        return SamplingPlan(sources=self.stage1_sources, measure=self.measure, deterministic=True)

    def of_stage2(self) -> SamplingPlan | None:
        """Return what stage 2 samples, or None."""
        mc_samples = self.mc_samples if "mc_dropout" in self.sources else 0
        if mc_samples == 0 and self.sources in ((), ("mc_dropout",)):
            return None
        return SamplingPlan(
            sources=self.sources, mc_samples=mc_samples, measure=self.measure, batch_size=self.batch_size
        )


def _require_sources(name: str, found: tuple[str, ...], known: tuple[str, ...]) -> None:
    valid = isinstance(found, tuple) and set(found) <= set(known) and len(set(found)) == len(found)  # pyright: ignore[reportUnnecessaryIsInstance] - JSON may hold a string
    require(valid, f"{name} must be some of {known}, each once; found {found!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeSpec:
    """All settings of a cascade.

    Attributes:
        preset: Which preset it began as.
        stage1: How the coarse network predicts.
        stage2: How the ROI network predicts.
        anatomy: What the anatomy rules ask of a candidate.
        roi: Where stage 2 looks.
        sampling: How uncertainty is sampled.
        lungs: Where lung masks come from.

    Raises:
        SettingsError: A value is out of range.

    Example:
        >>> spec = nnc.CascadeSpec(sampling=nnc.SamplingSettings(mc_samples=10))
        >>> spec.preset, nnc.CascadeSpec.of_preset("paper").roi.islands
        ('recommended', 'keep')
    """

    preset: Preset = "recommended"
    stage1: StageSettings = field(default_factory=StageSettings)
    stage2: StageSettings = field(default_factory=lambda: StageSettings(mirroring=False))
    anatomy: AnatomySettings = field(default_factory=AnatomySettings.recommended)
    roi: RoiSettings = field(default_factory=RoiSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    lungs: LungSource = field(default_factory=LungSource)

    def __post_init__(self) -> None:
        require(self.preset in get_args(Preset), f"preset must be one of {get_args(Preset)}; found {self.preset!r}")
        unscaled = self.stage1.temperature == 1
        require(unscaled, f"stage 1 takes no temperature, only stage 2 does; found {self.stage1.temperature}")

    @classmethod
    def of_preset(cls, preset: Preset) -> CascadeSpec:
        """Return one of the two presets of docs/design.md, "Presets"."""
        if preset == "paper":
            return cls(
                preset="paper",
                anatomy=AnatomySettings.paper(),
                roi=RoiSettings(islands="keep"),
                sampling=SamplingSettings(mc_samples=10),
            )
        return cls()

    def to_json(self) -> dict[str, Any]:
        """Return the contents of `cascade.json`."""
        return {"version": SPEC_VERSION, **to_json(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], *, where: str) -> CascadeSpec:
        """Read the contents of `cascade.json`; what is absent keeps its default.

        Raises:
            BundleError: The version is unknown, or a setting is unknown or refused.
        """
        if content.get("version") != SPEC_VERSION:
            raise BundleError(
                f"{where}: bundle version {content.get('version')!r}; this release reads version {SPEC_VERSION}; "
                "make the bundle again with nnc-make-bundle, or install the release that made it"
            )
        parts: dict[str, type[Any]] = {
            "stage1": StageSettings,
            "stage2": StageSettings,
            "anatomy": AnatomySettings,
            "roi": RoiSettings,
            "sampling": SamplingSettings,
            "lungs": LungSource,
        }
        try:
            values: dict[str, Any] = {
                name: _part(parts[name], value, where=f"{where}, {name}") if name in parts else value
                for name, value in content.items()
                if name != "version"
            }
            return from_json(cls, values, where=where)
        except SettingsError as error:
            raise BundleError(one_line(error)) from error


def _part(kind: type[Any], block: Any, *, where: str) -> Any:
    """Build a part of the settings; whatever its class stumbles over is the part's fault."""
    try:
        return from_json(kind, _with_paths(block, where=where), where=where)
    except (AttributeError, OverflowError) as error:
        raise SettingsError(f"{where}: {error}") from error


def _with_paths(block: Any, *, where: str) -> Any:
    """Return a block with its paths, which JSON holds as text, as paths; what is no block is left as it is."""
    if not isinstance(block, Mapping):
        return block
    texts: dict[str, Any] = {name: block[name] for name in _PATHS if block.get(name) is not None}
    for name, text in texts.items():
        require(isinstance(text, str), f"{where}: {name} must be text or null; found {text!r}")
    return {**block, **{name: Path(text) for name, text in texts.items()}}
