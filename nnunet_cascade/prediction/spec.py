"""Everything that decides what a cascade predicts, as one frozen value: `cascade.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from nnunet_cascade.errors import BundleError, SettingsError, one_line
from nnunet_cascade.postprocessing.lungs.source import LungSource
from nnunet_cascade.postprocessing.scoring.score import CandidateScore
from nnunet_cascade.postprocessing.settings import AnatomySettings
from nnunet_cascade.settings.serialization import from_json, require, to_json
from nnunet_cascade.uncertainty.sampling_types import CoarseSource, SamplingPlan, Source
from nnunet_cascade.uncertainty_measures import MEASURES, Measure

SPEC_VERSION = 1
_PATHS = ("path", "weights")

Preset = Literal["recommended", "paper"]
IslandPolicy = Literal["drop", "keep"]
Orientation = Literal["stored", "LPS", "RAS"]
Average = Literal["logits", "probabilities"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSettings:
    """How one stage predicts.

    Attributes:
        folds: Folds whose models predict together: numbers, or "all".
        checkpoint: File name in each fold's folder.
        further_checkpoints: File names of more checkpoints in these folders, which predict together
            with the first. Default: none.
        tumor_label: Name of the tumor in the model's dataset.json, or "" if that has only one
            foreground label. Several names, such as a primary tumor and lymph nodes, are one tumor:
            their probabilities are added up. Stage 2 has only one label.
        threshold: A voxel is tumor from this share on: the tumor's probability divided by the sum
            of it and that of the strongest other label. 0.5 is nnU-Net's own decision if the tumor
            is one label. A lower value makes stage 1 miss fewer tumors and find more false ones.
        step_size: Step of the sliding window, as a share of the patch.
        mirroring: Average over mirrored images. In stage 2 this adds to the variance.
        orientation: Orientation of the images that the network sees: as stored in the file, which
            is what nnU-Net's default reader does, or reoriented to a code such as that of the
            training data. Results are always on the image's own grid.
        temperature: T in sigmoid(logit(p) / T), which scales stage 2's mean tumor probability
            before the mask and the probability map are made. 1 (default) changes nothing. The
            measures of uncertainty use the unscaled samples. A mask of threshold 0.5 does not
            depend on T.
        average: How folds and checkpoints are averaged where nothing is sampled: as logits, as nnU-Net does (default),
            or as probabilities (stage 1 of preset `recommended`). With logits, a fold that is very sure of no tumor
            overrules all that see one.

    Example:
        >>> nnc.StageSettings(folds=(0, 1, 2), mirroring=False).checkpoints
        ('checkpoint_final.pth',)
    """

    folds: tuple[int | Literal["all"], ...] = (0,)
    checkpoint: str = "checkpoint_final.pth"
    further_checkpoints: tuple[str, ...] = ()
    tumor_label: str | tuple[str, ...] = ""
    threshold: float = 0.5
    step_size: float = 0.5
    mirroring: bool = True
    orientation: Orientation = "stored"
    temperature: float = 1.0
    average: Average = "logits"

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
        _require_names("tumor_label", self.tumor_label)
        flag = type(self.mirroring) is bool
        require(flag, f"mirroring must be true or false; found {self.mirroring!r}")
        require(0 < self.threshold < 1, f"threshold must lie between 0 and 1; found {self.threshold}")
        require(0 < self.step_size <= 1, f"step_size must lie in 0…1; found {self.step_size}")
        known = get_args(Orientation)
        require(self.orientation in known, f"orientation must be one of {known}; found {self.orientation!r}")
        averages = get_args(Average)
        require(self.average in averages, f"average must be one of {averages}; found {self.average!r}")
        positive = math.isfinite(self.temperature) and self.temperature > 0
        require(positive, f"temperature must be a positive number; found {self.temperature}")

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """File names of all checkpoints of a fold."""
        return (self.checkpoint, *self.further_checkpoints)

    @property
    def tumor_names(self) -> tuple[str, ...]:
        """Names of all labels that are tumor; none if the model has only one."""
        if isinstance(self.tumor_label, str):
            return (self.tumor_label,) if self.tumor_label else ()
        return self.tumor_label


def _require_names(name: str, found: Any) -> None:
    """Raise unless it is a text, or several texts that differ."""
    names: Any = found if isinstance(found, tuple) else ()
    texts = len(names) > 0 and all(isinstance(each, str) and each for each in names)
    valid = isinstance(found, str) or (texts and len(set(names)) == len(names))
    require(valid, f"{name} must be a text or a list of different texts; found {found!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiSettings:
    """Where stage 2 looks and what becomes of what it finds there.

    Attributes:
        margin_mm: Margin on every side of a candidate's bounding box; None if `margin_voxels` is
            given instead. Default 16.
        margin_voxels: The same in voxels of the image, along each axis. Default None.
        merge_overlapping: Replace regions that overlap by the smallest box that contains them,
            until none overlap. Default False: what is predicted twice is averaged.
        max_candidates: At most so many candidates of a case go to stage 2: those with the best score
            before stage 2, or the first by `rank_by` without a score. The case is flagged if there
            are more. Default 16; null sets no limit.
        islands: What to do with a component that is far from every kept candidate: drop or keep it.
            The case is flagged in both cases.
        island_reach_mm: A component belongs to a kept candidate if their surfaces are at most this
            far apart.

    Example:
        >>> nnc.RoiSettings(margin_mm=None, margin_voxels=12).islands
        'drop'
    """

    margin_mm: float | None = 16.0
    margin_voxels: int | None = None
    merge_overlapping: bool = False
    max_candidates: int | None = 16
    islands: IslandPolicy = "drop"
    island_reach_mm: float = 3.0

    def __post_init__(self) -> None:
        margins = (self.margin_mm, self.margin_voxels)
        require(margins.count(None) == 1, f"one of margin_mm and margin_voxels must be null; found {margins}")
        require(self.margin_mm is None or self.margin_mm >= 0, f"margin_mm must not be negative; found {margins[0]}")
        whole = self.margin_voxels is None or (type(self.margin_voxels) is int and self.margin_voxels >= 0)
        require(whole, f"margin_voxels must be a whole number from 0 up; found {self.margin_voxels!r}")
        most = self.max_candidates
        counts = most is None or (type(most) is int and most >= 1)
        require(counts, f"max_candidates must be a whole number from 1 up, or null; found {most!r}")
        flag = type(self.merge_overlapping) is bool
        require(flag, f"merge_overlapping must be true or false; found {self.merge_overlapping!r}")
        require(self.islands in get_args(IslandPolicy), f"islands must be drop or keep; found {self.islands!r}")
        require(self.island_reach_mm >= 0, f"island_reach_mm must not be negative; found {self.island_reach_mm}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSettings:
    """How uncertainty is sampled.

    Attributes:
        mc_samples: T, the number of Monte-Carlo passes of each fold and checkpoint in stage 2. With
            mirroring, the passes take the mirrored images in turn. Not used if `sources` do not
            contain mc_dropout. 0, with mc_dropout as the only source, predicts once without dropout
            and gives no uncertainty.
        seed: Random seed of the passes. The same ROI of the same image gets the same dropout masks.
        sources: What varies between the samples of stage 2: Monte-Carlo dropout ("mc_dropout"),
            mirrored images ("tta"), several folds or checkpoints ("ensemble"), or several of these.
            Default mc_dropout. Several folds, and mirroring if the stage uses it, vary between the
            samples even if they are not named. Without sources there is no uncertainty.
        measure: What is computed from the samples of both stages: "variance" (default),
            "predictive_entropy" or "mutual_information". Entropies are in nats.
        stage1_sources: The same for stage 1, which stays deterministic: "tta", "ensemble" or both.
            Default: none, and no uncertainty of stage 1.
        batch_size: How many samples of a window of stage 2 run together through the stochastic part
            of the network. Default 1. A larger value keeps a GPU busier, needs more of its memory
            and draws other dropout masks. On a CPU it gains nothing.

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
        preset: The preset that the settings started from.
        stage1: How the coarse network predicts.
        stage2: How the ROI network predicts.
        anatomy: The anatomy rules for candidates.
        roi: Where stage 2 looks.
        sampling: How uncertainty is sampled.
        lungs: Where lung masks come from.
        scoring: The score that judges candidates after stage 2; None lets the rules decide alone.

    Raises:
        SettingsError: A value is out of range.

    Example:
        >>> spec = nnc.CascadeSpec(sampling=nnc.SamplingSettings(mc_samples=10))
        >>> spec.preset, nnc.CascadeSpec.of_preset("paper").roi.islands
        ('recommended', 'keep')
    """

    preset: Preset = "recommended"
    stage1: StageSettings = field(default_factory=lambda: StageSettings(average="probabilities"))
    stage2: StageSettings = field(default_factory=lambda: StageSettings(mirroring=False))
    anatomy: AnatomySettings = field(default_factory=AnatomySettings.recommended)
    roi: RoiSettings = field(default_factory=RoiSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    lungs: LungSource = field(default_factory=LungSource)
    scoring: CandidateScore | None = None

    def __post_init__(self) -> None:
        require(self.preset in get_args(Preset), f"preset must be one of {get_args(Preset)}; found {self.preset!r}")
        unscaled = self.stage1.temperature == 1
        require(unscaled, f"stage 1 takes no temperature, only stage 2 does; found {self.stage1.temperature}")

    @classmethod
    def of_preset(cls, preset: Preset) -> CascadeSpec:
        """Return one of the two presets of docs/decisions/0015-presets.md."""
        if preset == "paper":
            return cls(
                preset="paper",
                stage1=StageSettings(),
                anatomy=AnatomySettings.paper(),
                roi=RoiSettings(islands="keep"),
                sampling=SamplingSettings(mc_samples=10),
            )
        return cls()

    def to_json(self) -> dict[str, Any]:
        """Return the contents of `cascade.json`."""
        content: dict[str, Any] = {"version": SPEC_VERSION, **to_json(self), "anatomy": self.anatomy.to_dict()}
        # As earlier releases wrote it, where nothing is asked that they did not know.
        if self.roi.max_candidates is None:
            del content["roi"]["max_candidates"]
        if self.scoring is None:
            del content["scoring"]
        for stage in ("stage1", "stage2"):
            if content[stage]["average"] == "logits":
                del content[stage]["average"]
        return content

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
        parts: dict[str, Any] = {name: kind for name, kind in get_type_hints(cls).items() if is_dataclass(kind)}
        try:
            values: dict[str, Any] = {
                name: _part(parts[name], value, where=f"{where}, {name}") if name in parts else value
                for name, value in content.items()
                if name != "version"
            }
            if values.get("scoring") is not None:
                values["scoring"] = CandidateScore.from_json(values["scoring"], where=f"{where}, scoring")
            return from_json(cls, values, where=where)
        except SettingsError as error:
            raise BundleError(one_line(error)) from error


def _part(kind: type[Any], block: Any, *, where: str) -> Any:
    """Build a part of the settings; whatever its class stumbles over is the part's fault."""
    try:
        return from_json(kind, _with_paths(_as_before(kind, block), where=where), where=where)
    except (AttributeError, OverflowError) as error:
        raise SettingsError(f"{where}: {error}") from error


def _as_before(kind: type[Any], block: Any) -> Any:
    """Complete a whole block of an earlier release, which did not limit the candidates; others are left as they are."""
    missing = {each.name for each in fields(kind)} - set(block) if isinstance(block, Mapping) else set[str]()
    return {**block, "max_candidates": None} if missing == {"max_candidates"} else block


def _with_paths(block: Any, *, where: str) -> Any:
    """Return a block with its paths, which JSON holds as text, as paths; what is no block is left as it is."""
    if not isinstance(block, Mapping):
        return block
    texts: dict[str, Any] = {name: block[name] for name in _PATHS if block.get(name) is not None}
    for name, text in texts.items():
        require(isinstance(text, str), f"{where}: {name} must be text or null; found {text!r}")
    return {**block, **{name: Path(text) for name, text in texts.items()}}
