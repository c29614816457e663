"""Weights of another network as a checkpoint that stock nnU-Net's -pretrained_weights loads."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cascade.errors import CascadeError, DatasetError, SettingsError, one_line
from nnunet_cascade.files import sha256_of
from nnunet_cascade.networks.backbones import BACKBONES
from nnunet_cascade.networks.checkpoints import write_checkpoint
from nnunet_cascade.networks.pretrained import Fitted, fit_weights, read_weights
from nnunet_cascade.nnunet_folders import read_json
from nnunet_cascade.plugin import nnunet_cascade_trainers
from nnunet_cascade.prediction.allowlist import require_known_label_manager, require_known_network
from nnunet_cascade.settings.training import TrainingSettings
from nnunet_cascade.trainers.cascade_trainer import seed_of
from nnunet_cascade.versions import versions


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedWeights:
    """What became of the weights of a file.

    Attributes:
        fitted: Which were taken and which not.
        record: Where they come from and what they are for, as JSON can hold it; stands in the checkpoint.
    """

    fitted: Fitted
    record: dict[str, Any]


def import_weights(  # noqa: PLR0913 - the words of its command
    source: Path, *, plans: Path, configuration: str, trainer: str, output: Path, trusted: bool = False
) -> ImportedWeights:
    """Fit the weights of a file into the network a trainer builds, and write them as nnU-Net's checkpoint.

    What the file has not stays as the seed of the plans initializes fold 0, and is the same for all folds.

    Args:
        source: A MONAI file of a self-supervised encoder, or an nnU-Net checkpoint.
        plans: Plans file; dataset.json lies next to it.
        configuration: Of the plans.
        trainer: Name of a trainer of this package.
        output: Written next to, then renamed.
        trusted: Let the plans name a network of any origin, which is imported and called. No code of `source` is
            run in either case.

    Raises:
        SettingsError: There is no such trainer, configuration or output folder.
        WeightsError: The file is broken, or too little of it fits.
        BundleError: The plans name a network, layers or a label manager that are not nnU-Net's, and are not trusted.
        DatasetError: Plans or dataset.json cannot be read, or no network can be built from them.
        OSError: The checkpoint cannot be written.
    """
    kind = _trainer(trainer)
    _require_output(output, source)
    network, used = _network(kind, plans, configuration, trusted=trusted)
    encoder = BACKBONES[kind.backbone].encoder_prefix if hasattr(kind, "backbone") else ("encoder.",)
    fitted = fit_weights(read_weights(source), network, encoder=encoder, where=str(source))
    record = {
        "file": source.name,
        "sha256": sha256_of(source),
        "trainer": trainer,
        **used,
        "names_in_file": f"{fitted.origin}*",
        "names_in_network": f"{fitted.place}*",
        "weights_taken": len(fitted.taken),
        "weights": len(fitted.taken) + len(fitted.left) + len(fitted.of_other_shape),
        "numbers_taken": fitted.numbers_taken,
        "numbers": fitted.numbers,
        "versions": versions(),
    }
    write_checkpoint(output, {"network_weights": fitted.weights, "imported_from": record})
    return ImportedWeights(fitted=fitted, record=record)


def _trainer(name: str) -> Any:
    """Find one of our trainers by name."""
    known = nnunet_cascade_trainers.__all__
    if name not in known:
        lower = {each.lower(): each for each in known}
        nearest = get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
        hint = f"did you mean {lower[nearest[0]]}? " if nearest else ""
        raise SettingsError(f"no trainer {name}; {hint}expected one of {', '.join(known)}")
    return getattr(nnunet_cascade_trainers, name)


def _require_output(output: Path, source: Path) -> None:
    if output.is_dir() or not output.parent.is_dir():
        raise SettingsError(f"{output} cannot be written; expected the name of a file in a folder that is there")
    if output.exists() and source.exists() and output.samefile(source):
        raise SettingsError(f"{output} is where the weights come from; give another name")


def _network(kind: Any, plans: Path, configuration: str, *, trusted: bool) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Build the network a trainer would train, and say from what.

    Whatever nnU-Net stumbles over is the plans' fault.
    """
    planned, dataset = read_json(plans), read_json(plans.parent / "dataset.json")
    configurations: Any = planned.get("configurations")
    if not isinstance(configurations, dict):
        raise DatasetError(f"{plans} has no configurations; expected a plans file such as nnUNetPlans.json")
    if configuration not in configurations:
        raise SettingsError(f"{plans} has no configuration {configuration}; found {', '.join(configurations)}")
    try:
        manager: Any = PlansManager(kind.legal_plans(planned, configuration))
        chosen = manager.get_configuration(configuration)
        if not trusted:
            require_known_network(chosen, where=plans)
            require_known_label_manager(manager.plans, where=plans)
        heads = manager.get_label_manager(dataset).num_segmentation_heads
        channels = determine_num_input_channels(manager, chosen, dataset)
        seed = TrainingSettings.from_plans(manager.plans).seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, fold=0))
            network = kind.build_network_architecture(manager, chosen, channels, heads, True)
        used = {
            "dataset": str(manager.dataset_name),
            "plans": str(manager.plans_name),
            "configuration": configuration,
            "patch_size": [int(side) for side in chosen.patch_size],
            "input_channels": int(channels),
            "output_channels": int(heads),
            "seed": seed,
        }
    except CascadeError:
        raise
    except Exception as error:
        reason = one_line(error, longest=200)
        raise DatasetError(
            f"{plans}: no network can be built ({type(error).__name__}: {reason}); expected nnU-Net's plans, "
            "with dataset.json beside them"
        ) from error
    return network, used
