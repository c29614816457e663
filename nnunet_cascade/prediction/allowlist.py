"""What a plans file may name: nnU-Net finds classes and functions by these names, imports them and calls them."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NoReturn

import nnunetv2
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
from nnunetv2.preprocessing.resampling.no_resampling import no_resampling_hack
from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet, resample_torch_simple
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_cascade.errors import BundleError
from nnunet_cascade.plugin import nnunet_cascade_trainers

IF_TRUSTED = (
    "--trust_checkpoint would allow it, and with it any code that the files bring; "
    "give it only if you trust where they come from"
)
_ARCHITECTURES = "dynamic_network_architectures.architectures"
_NETWORKS = frozenset(
    {
        f"{_ARCHITECTURES}.unet.PlainConvUNet",
        f"{_ARCHITECTURES}.unet.ResidualEncoderUNet",
        f"{_ARCHITECTURES}.unet.ResidualUNet",
        f"{_ARCHITECTURES}.residual_unet.ResidualEncoderUNet",  # where nnU-Net's conversion of old plans looks first
    }
)
_LAYERS = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.Identity, nn.AlphaDropout),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.LeakyReLU, nn.ReLU, nn.ReLU6, nn.PReLU, nn.ELU),
    *(nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Sigmoid, nn.Tanh, nn.Hardswish),
)
_BLOCKS = "dynamic_network_architectures.building_blocks.residual"
_IMPORTED: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(
        ("conv_op", "norm_op", "dropout_op", "nonlin"),
        frozenset(f"{place}.{layer.__name__}" for layer in _LAYERS for place in ("torch.nn", layer.__module__)),
    ),
    "block": frozenset({f"{_BLOCKS}.BasicBlockD", f"{_BLOCKS}.BottleneckD"}),
}
_RESAMPLING = {
    function.__name__: function
    for function in (resample_data_or_seg_to_shape, resample_torch_simple, resample_torch_fornnunet, no_resampling_hack)
}
_RESAMPLED = ("data", "new_shape", "current_spacing", "new_spacing")
_PREPROCESSORS = frozenset({"DefaultPreprocessor"})
_LABEL_MANAGERS = frozenset({"LabelManager"})
_READERS = frozenset(
    {"SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient", "NaturalImage2DIO", "Tiff3DIO"}
)
_NORMALIZATIONS = frozenset(
    {
        "CTNormalization",
        "NoNormalization",
        "ZScoreNormalization",
        "RescaleTo01Normalization",
        "RGBTo01Normalization",
    }
)


def require_known_names(
    manager: PlansManager, configuration: str, dataset_json: Mapping[str, Any], *, where: Path
) -> None:
    """Raise where plans or dataset.json name anything that nnU-Net would import and that is not nnU-Net's own.

    Nothing is imported for it. What prediction never looks up, such as the planner, is not asked.
    The manager has resolved inheritance and old-style architectures as nnU-Net does.

    Raises:
        BundleError: A name is not one of those nnU-Net's planner writes, or an argument is no plain value.
    """
    chosen: ConfigurationManager = manager.get_configuration(configuration)
    plans: Mapping[str, Any] = manager.plans
    require_known_network(chosen, where=where)
    _require_known_resampling(chosen.configuration, where)
    _require("preprocessor_name", chosen.configuration.get("preprocessor_name"), _PREPROCESSORS, where)
    for scheme in chosen.configuration.get("normalization_schemes", ()):
        _require("normalization_schemes", scheme, _NORMALIZATIONS, where)
    _require("image_reader_writer", plans.get("image_reader_writer"), _READERS, where)
    require_known_label_manager(plans, where=where)
    reader = dataset_json.get("overwrite_image_reader_writer", "None")
    _require("overwrite_image_reader_writer", reader, _READERS | {"None"}, where)


def known_trainer(name: str, *, where: Path) -> Any:
    """Return one of our trainers or of nnU-Net's own by name, without a look into `nnUNet_extTrainer`.

    Raises:
        BundleError: There is none of that name.
    """
    if name in nnunet_cascade_trainers.__all__:
        return getattr(nnunet_cascade_trainers, name)
    root = Path(nnunetv2.__path__[0])
    found: Any = None
    if name.isidentifier():
        with redirect_stdout(StringIO()):
            folder = str(root / "training" / "nnUNetTrainer")
            found = recursive_find_python_class(folder, name, "nnunetv2.training.nnUNetTrainer", str(root))
    own = isinstance(found, type) and issubclass(found, nnUNetTrainer) and found.__module__.startswith("nnunetv2.")
    if not own:
        _refuse("trainer_name", name, "a trainer of nnU-Net's own or of nnunet-cascade", where)
    return found


def require_known_network(configuration: ConfigurationManager, *, where: Path) -> None:
    """Raise where a configuration names another network, or other layers of it, than nnU-Net's planner writes.

    Raises:
        BundleError: A name is unknown.
    """
    architecture: Mapping[str, Any] = configuration.configuration["architecture"]
    _require("network_class_name", architecture.get("network_class_name"), _NETWORKS, where)
    arguments: Mapping[str, Any] = architecture.get("arch_kwargs", {})
    for name in architecture.get("_kw_requires_import", ()):
        _require("_kw_requires_import", name, _IMPORTED, where)
        if arguments.get(name) is not None:
            _require(name, arguments[name], _IMPORTED[name], where)


def require_known_label_manager(plans: Mapping[str, Any], *, where: Path) -> None:
    """Raise where plans name another class than nnU-Net's own for what a dataset's labels mean.

    Raises:
        BundleError: The name is unknown.
    """
    _require("label_manager", plans.get("label_manager", "LabelManager"), _LABEL_MANAGERS, where)


def _require_known_resampling(configuration: Mapping[str, Any], where: Path) -> None:
    for what in ("resampling_fn_data", "resampling_fn_seg", "resampling_fn_probabilities"):
        function = configuration.get(what)
        _require(what, function, _RESAMPLING, where)
        known = set(inspect.signature(_RESAMPLING[str(function)]).parameters) - set(_RESAMPLED)
        for name, value in configuration.get(f"{what}_kwargs", {}).items():
            _require(f"{what}_kwargs", name, known, where)
            if not isinstance(value, (bool, int, float, str, type(None))):
                _refuse(f"{what}_kwargs.{name}", value, "a plain value", where)


def _require(what: str, found: Any, known: Collection[str], where: Path) -> None:
    if not isinstance(found, str) or found not in known:
        _refuse(what, found, f"one of nnU-Net's own, such as {min(known, key=len)}" if known else "none", where)


def _refuse(what: str, found: Any, expected: str, where: Path) -> NoReturn:
    named = repr(found) if len(repr(found)) <= 80 else f"{repr(found)[:77]}…"
    raise BundleError(
        f"{where}: {what} names {named}, which would be imported and called; expected {expected}; {IF_TRUSTED}"
    )
