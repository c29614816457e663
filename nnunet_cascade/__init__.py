"""Coarse-to-fine, uncertainty-aware lung tumor segmentation as an nnU-Net v2 plug-in.

Names in `__all__` are the public interface: import this package, as in `import nnunet_cascade as nnc`, and use
`nnc.load_cascade` and so on. Each is imported when it is first used.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nnunet_cascade.api.cascade import Cascade, Prediction, load_cascade, read_spec
    from nnunet_cascade.api.tasks import evaluate, find_lungs, read_ct, write_image
    from nnunet_cascade.errors import (
        BundleError,
        CascadeError,
        DatasetError,
        DeviceError,
        DicomError,
        DropoutError,
        EmptyLungsError,
        GridMismatchError,
        InputImageError,
        LungMaskError,
        NoLungsError,
        ReportError,
        RunError,
        SettingsError,
        StepFailedError,
        WeightsError,
        WrongTypeError,
    )
    from nnunet_cascade.evaluation.case import CaseScore
    from nnunet_cascade.geometry import Box, Grid
    from nnunet_cascade.images import Volume
    from nnunet_cascade.postprocessing.anatomy import FilteredCandidates, filter_candidates
    from nnunet_cascade.postprocessing.candidates import Candidate, Stage2Finding, Verdict
    from nnunet_cascade.postprocessing.lungs.result import LungMask
    from nnunet_cascade.postprocessing.lungs.source import LungSource
    from nnunet_cascade.postprocessing.scoring.score import CandidateScore, ScoreFit
    from nnunet_cascade.postprocessing.settings import AnatomySettings
    from nnunet_cascade.prediction.result import CaseResult
    from nnunet_cascade.prediction.roi import Islands, Roi
    from nnunet_cascade.prediction.spec import CascadeSpec, RoiSettings, SamplingSettings, StageSettings
    from nnunet_cascade.scans.scans import Scan
    from nnunet_cascade.scans.search import find_scans
    from nnunet_cascade.settings.training import TrainingSettings
    from nnunet_cascade.training.pipeline import train_cascade
    from nnunet_cascade.training.planning import PlanRequest
    from nnunet_cascade.training.request import StageTraining, TrainingRequest
    from nnunet_cascade.uncertainty.lesions import Lesion
    from nnunet_cascade.uncertainty.sampling_types import SamplingSummary
    from nnunet_cascade.uncertainty.volumes import VolumeSpread, VolumeSpreads
    from nnunet_cascade.versions import __version__

__all__ = [
    "AnatomySettings",
    "Box",
    "BundleError",
    "Candidate",
    "CandidateScore",
    "Cascade",
    "CascadeError",
    "CascadeSpec",
    "CaseResult",
    "CaseScore",
    "DatasetError",
    "DeviceError",
    "DicomError",
    "DropoutError",
    "EmptyLungsError",
    "FilteredCandidates",
    "Grid",
    "GridMismatchError",
    "InputImageError",
    "Islands",
    "Lesion",
    "LungMask",
    "LungMaskError",
    "LungSource",
    "NoLungsError",
    "PlanRequest",
    "Prediction",
    "ReportError",
    "Roi",
    "RoiSettings",
    "RunError",
    "SamplingSettings",
    "SamplingSummary",
    "Scan",
    "ScoreFit",
    "SettingsError",
    "Stage2Finding",
    "StageSettings",
    "StageTraining",
    "StepFailedError",
    "TrainingRequest",
    "TrainingSettings",
    "Verdict",
    "Volume",
    "VolumeSpread",
    "VolumeSpreads",
    "WeightsError",
    "WrongTypeError",
    "__version__",
    "evaluate",
    "filter_candidates",
    "find_lungs",
    "find_scans",
    "load_cascade",
    "read_ct",
    "read_spec",
    "train_cascade",
    "write_image",
]

_HOMES = {  # all others are errors
    "api.cascade": "Cascade Prediction load_cascade read_spec",
    "api.tasks": "evaluate find_lungs read_ct write_image",
    "evaluation.case": "CaseScore",
    "geometry": "Box Grid",
    "images": "Volume",
    "postprocessing.anatomy": "FilteredCandidates filter_candidates",
    "postprocessing.candidates": "Candidate Stage2Finding Verdict",
    "postprocessing.lungs.result": "LungMask",
    "postprocessing.lungs.source": "LungSource",
    "postprocessing.scoring.score": "CandidateScore ScoreFit",
    "postprocessing.settings": "AnatomySettings",
    "prediction.result": "CaseResult",
    "prediction.roi": "Islands Roi",
    "prediction.spec": "CascadeSpec RoiSettings SamplingSettings StageSettings",
    "scans.scans": "Scan",
    "scans.search": "find_scans",
    "settings.training": "TrainingSettings",
    "training.pipeline": "train_cascade",
    "training.request": "StageTraining TrainingRequest",
    "training.planning": "PlanRequest",
    "uncertainty.lesions": "Lesion",
    "uncertainty.sampling_types": "SamplingSummary",
    "uncertainty.volumes": "VolumeSpread VolumeSpreads",
    "versions": "__version__",
}


if not TYPE_CHECKING:  # else a type checker would take any name for one of these

    def __getattr__(name: str) -> object:
        """Import a name of `__all__`."""
        if name not in __all__:
            raise AttributeError(f"module 'nnunet_cascade' has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415 - nothing is imported before it is used

        home = next((module for module, names in _HOMES.items() if name in names.split()), "errors")
        globals()[name] = found = getattr(import_module(f"nnunet_cascade.{home}"), name)
        return found


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return [*globals(), *__all__]
