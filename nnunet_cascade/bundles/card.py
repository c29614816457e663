"""The model card of a bundle: what it is, what it was made from, what is known of it, and what it is not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_cascade.errors import BundleError
from nnunet_cascade.prediction.spec import CascadeSpec, StageSettings
from nnunet_cascade.settings.serialization import require
from nnunet_cascade.versions import NOTICE

_FIGURES = {
    "dice": "Dice",
    "hd95_mm": "HD95 (mm)",
    "nsd_2mm": "NSD 2 mm",
    "lesion_recall": "Lesion recall",
    "lesion_precision": "Lesion precision",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What a model card says that no file of the bundle does.

    Attributes:
        license: License of the bundle, such as "CC BY 4.0".
        training_data: What the models were trained on: source, number of patients, scanners, license.
        figures: `evaluation.json` of nnc-evaluate, or None.

    Raises:
        SettingsError: License or training data are empty.
    """

    license: str
    training_data: str
    figures: Path | None = None

    def __post_init__(self) -> None:
        for name in ("license", "training_data"):
            require(bool(getattr(self, name).strip()), f"{name} is empty; a bundle for others has to say it")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is known of a stage's model.

    Attributes:
        trainer: Name of its trainer.
        configuration: Of its plans.
        plans: The plans file.
        dataset_json: Beside it.
    """

    trainer: str
    configuration: str
    plans: Mapping[str, Any]
    dataset_json: Mapping[str, Any]


def model_card(
    name: str, facts: CardFacts, spec: CascadeSpec, models: Mapping[str, ModelFacts], further: Mapping[str, Any]
) -> str:
    """Write a model card as Markdown.

    Args:
        name: Of the bundle.
        facts: What its maker says.
        spec: Its settings.
        models: By stage, "stage1" and "stage2".
        further: Its `notes`, lines of text, its `versions`, and whether it had to be `trusted`.

    Raises:
        BundleError: The figures are no `evaluation.json` of nnc-evaluate.
    """
    sections = [
        f"# {name}\n\n{NOTICE}",
        "A two-stage cascade of nnU-Net models for tumors in CT, to be used by `nnc-cascade-predict`.",
        f"- License: {_line(facts.license)}\n- Training data: {_line(facts.training_data)}",
        *(["## Notes\n\n" + "\n".join(f"- {_line(note)}" for note in further["notes"])] if further["notes"] else []),
        "## Models\n\n" + _models_table(spec, models),
        "## Settings\n\n" + "\n".join(f"- {line}" for line in _settings(spec)),
        "## Figures\n\n" + ("None were given." if facts.figures is None else _figures(facts.figures)),
        "## Limits\n\n" + "\n".join(f"- {line}" for line in _limits(models, needs_trust=further["trusted"])),
        "## Made with\n\n" + ", ".join(f"{package} {version}" for package, version in further["versions"].items()),
    ]
    return "\n\n".join(sections) + "\n"


def _models_table(spec: CascadeSpec, models: Mapping[str, ModelFacts]) -> str:
    stages: dict[str, StageSettings] = {"stage1": spec.stage1, "stage2": spec.stage2}
    rows = [_model_row(stage, stages[stage], facts) for stage, facts in models.items()]
    head = ("Stage", "Trainer", "Network of the plans", "Spacing (mm)", "Patch", "Labels", "Training cases", "Members")
    return _table(head, rows)


def _model_row(stage: str, settings: StageSettings, facts: ModelFacts) -> tuple[str, ...]:
    configuration = _configuration(facts)
    architecture: Mapping[str, Any] = configuration.get("architecture", {})
    network = str(architecture.get("network_class_name", configuration.get("UNet_class_name", "?")))
    labels = [label for label in facts.dataset_json.get("labels", {}) if label != "background"]
    return (
        stage,
        facts.trainer,
        network.rsplit(".", maxsplit=1)[-1],
        " × ".join(f"{float(edge):g}" for edge in configuration.get("spacing", ())),
        " × ".join(str(side) for side in configuration.get("patch_size", ())),
        ", ".join(labels),
        str(facts.dataset_json.get("numTraining", "?")),
        f"{len(settings.folds)} × {len(settings.checkpoints)}",
    )


def _configuration(facts: ModelFacts) -> Mapping[str, Any]:
    """Return a configuration with what it inherits."""
    configurations: Mapping[str, Any] = facts.plans["configurations"]
    found, name = dict[str, Any](), facts.configuration
    for _ in configurations:
        found = {**configurations[name], **found}
        name = configurations[name].get("inherits_from")
        if name is None:
            break
    return found


def _settings(spec: CascadeSpec) -> Iterable[str]:
    roi, anatomy, sampling = spec.roi, spec.anatomy, spec.sampling
    margin = f"{roi.margin_mm:g} mm" if roi.margin_mm is not None else f"{roi.margin_voxels} voxels"
    yield f"preset {spec.preset}; candidates that go to stage 2: {anatomy.top_k}; margin {margin}"
    yield f"stage 1's threshold {spec.stage1.threshold:g}; stage 2's {spec.stage2.threshold:g}"
    sources = ", ".join(sampling.sources) or "nothing"
    yield f"uncertainty: {sampling.measure} of {sources}, {sampling.mc_samples} samples"
    yield f"temperature {spec.stage2.temperature:g}; lung masks: {spec.lungs.kind}"


def _limits(models: Mapping[str, ModelFacts], *, needs_trust: bool) -> Iterable[str]:
    if needs_trust:
        yield "It was packed with `--trust_checkpoint`: its models may need code that is neither nnU-Net's nor ours."
    yield "What it was not trained on it has not seen: other scanners, protocols, diseases and ages may differ much."
    yield "A tumor that stage 1 misses is not found again."
    if all(facts.dataset_json.get("channel_names", {}).get("0") == "CT" for facts in models.values()):
        yield "CT in Hounsfield units; results lie on the CT's own grid."


def _figures(path: Path) -> str:
    """Set what `nnc-evaluate` found in a table, by method; no case is named."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        methods: Mapping[str, Any] = content["comparison"]["methods"]
        rows = [
            (_line(method), *(_figure({**figures["metrics"], **figures["pooled"]}.get(name)) for name in _FIGURES))
            for method, figures in methods.items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{path} is no evaluation.json of nnc-evaluate ({error!r}); give that file") from error
    return _table(("Method", *_FIGURES.values()), rows) + (
        "\n\nMeans over the cases, in brackets the 95 % interval and the number of cases; – is undefined."
    )


def _figure(found: Any) -> str:
    estimate = found.get("mean", found) if found else None
    if estimate is None or estimate["value"] is None:
        return "–"
    ends = estimate["bca"] or estimate["percentile"]
    between = f"{ends['low']:.3g} … {ends['high']:.3g}; " if ends else ""
    return f"{estimate['value']:.3g} ({between}n = {estimate['n']})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _line(text: str) -> str:
    return " ".join(text.split())
