"""Results of a cascade one can draw by hand, with labels and a bundle without models."""

import json

import numpy as np
from scipy.special import expit, logit

from nnunet_cascade.geometry import Grid
from nnunet_cascade.images import write_image
from nnunet_cascade.prediction.spec import CascadeSpec

GRID = Grid(shape=(14, 24, 22), spacing_mm=(3.0, 1.5, 1.0), origin_mm=(5.0, 6.0, 7.0))


class DrawnResults:
    """A bundle, results and labels, drawn: `sharpness` 2 promises twice the logits that are kept."""

    def __init__(self, root):
        self.root, self.bundle = root, root / "bundle"
        self.results, self.labels = root / "results", root / "labels"
        for folder in (self.bundle, self.results, self.labels):
            folder.mkdir()
        (self.bundle / "cascade.json").write_text(json.dumps(CascadeSpec().to_json()))

    def write(self, case, *, sharpness=2.0, spec=None, seed=0, uncertainty=True, folder=None):
        rng = np.random.default_rng([seed, *case.encode()])
        z, y, x = np.indices(GRID.shape)
        radius_mm = np.sqrt(((z - 7) * 3.0) ** 2 + ((y - 12) * 1.5) ** 2 + (x - 11.0) ** 2)
        kept = expit((9 - radius_mm) / 1.5)
        roi = np.zeros(GRID.shape, dtype=np.uint8)
        roi[2:12, 2:22, 1:20] = 1
        truth = rng.random(GRID.shape) < kept
        probability = (expit(sharpness * logit(kept)) * roi).astype(np.float32)
        folder = folder or self.results
        folder.mkdir(exist_ok=True)
        arrays = {"": probability >= 0.5, "_probability": probability, "_roi": roi}
        if uncertainty:
            arrays["_uncertainty"] = probability * (1 - probability)
        for suffix, array in arrays.items():
            write_image(array, GRID, folder / f"{case}{suffix}.nii.gz")
        write_image(truth.astype(np.uint8), GRID, self.labels / f"{case}.nii.gz")
        settings = json.loads(json.dumps((spec or CascadeSpec()).to_json()))
        (folder / f"{case}.json").write_text(json.dumps({"case": case, "settings": settings}))
        return probability, truth, roi > 0


def stage2(**changed):
    """Settings with some of stage 2's changed."""
    spec = CascadeSpec().to_json()
    return CascadeSpec.from_json({**spec, "stage2": {**spec["stage2"], **changed}}, where="test")
