"""How the edge channel is scaled: by fixed numbers in the plans, the same for every crop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_cascade.prediction.edge_channel import EDGE_CHANNEL

_SCALE = {"mean": 0.0, "std": 100.0, "percentile_00_5": 0.0, "percentile_99_5": 1000.0}
"""In HU per mm: clipped to 0…1000 and divided by 100."""


def with_edge_scale(plans: Mapping[str, Any], dataset_json: Mapping[str, Any]) -> dict[str, Any]:
    """Return plans in which the edge channel has the fixed scale; unchanged if the dataset has no such channel.

    nnU-Net would scale it by mean and standard deviation of each crop, and crops of training are larger than those of
    prediction.

    Args:
        plans: With configurations. Left unchanged.
        dataset_json: Of the dataset, with the names of its channels.
    """
    names: Mapping[str, str] = dataset_json.get("channel_names", {})
    edges = [int(number) for number, name in names.items() if name == EDGE_CHANNEL]
    configurations = {name: _scaled(values, edges) for name, values in plans["configurations"].items()}
    properties = dict(plans["foreground_intensity_properties_per_channel"])
    for number in map(str, edges):
        properties[number] = {**properties.get(number, {}), **_SCALE}
    return {**plans, "configurations": configurations, "foreground_intensity_properties_per_channel": properties}


def _scaled(configuration: Mapping[str, Any], edges: list[int]) -> dict[str, Any]:
    """Return a configuration whose edge channels nnU-Net clips and scales by the numbers of the plans."""
    changed = dict(configuration)
    for name, value in (("normalization_schemes", "CTNormalization"), ("use_mask_for_norm", False)):
        if name in changed:
            changed[name] = [value if place in edges else known for place, known in enumerate(changed[name])]
    return changed
