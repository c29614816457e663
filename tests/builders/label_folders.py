"""Small folders of true labels and of predictions by two methods, for the tests of evaluation."""

import json

import numpy as np
from builders.oriented_grids import grid_towards

from nnunet_cascade.images import ENDING, read_volume, write_image
from nnunet_cascade.morphology import label_components

SHAPE, SPACING_MM = (10, 24, 24), (3.0, 1.0, 1.0)
GRID = grid_towards("LPS", SHAPE, SPACING_MM)
CASES = 12


def balls(*boxes, value=1):
    """Blocks of one value, each `(z, y, x, size)`."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for z, y, x, size in boxes:
        labels[z : z + 2, y : y + size, x : x + size] = value
    return labels


class LabelFolders:
    """`gt`, `coarse` with more false islands from case to case, and `fine`, which is one voxel off."""

    def __init__(self, root):
        self.root = root
        for name in ("gt", "coarse", "fine"):
            (root / name).mkdir()
        for number in range(CASES):
            lesions = [(1, 2, 2, 5), (1, 2, 14, 5), (6, 14, 14, 5)][: 1 + number % 3]
            islands = [(8, y, x, 2) for y in (0, 8, 20) for x in (0, 6, 12, 20)][: 1 + number // 2]
            self.write("gt", f"case_{number:02d}", balls(*lesions))
            self.write("coarse", f"case_{number:02d}", balls(*lesions, *islands))
            self.write("fine", f"case_{number:02d}", balls(*((z, y + 1, x, size) for z, y, x, size in lesions)))

    def __getitem__(self, name):
        return self.root / name

    def write(self, folder, case, labels, grid=GRID):
        (self.root / folder).mkdir(exist_ok=True)
        write_image(labels, grid, self.root / folder / f"{case}.nii.gz")

    def score_candidates(self, folder, score):
        """Leave what a cascade with scores does: each component is a candidate with the score that its number gets.

        `score(number, touches)` takes the candidate's id and whether it lies on a lesion; None is no score.
        """
        for path in sorted((self.root / folder).glob("case_??.nii.gz")):
            case = path.name.removesuffix(ENDING)
            ids = label_components(read_volume(path).array > 0).astype(np.uint16)
            true = ids[read_volume(self.root / "gt" / path.name).array > 0]
            candidates = [{"id": each, "score": score(each, each in true)} for each in range(1, int(ids.max()) + 1)]
            self.write(folder, f"{case}_proposals", ids)
            (self.root / folder / f"{case}.json").write_text(json.dumps({"case": case, "candidates": candidates}))

    def write_labels(self, folder, **labels):
        (self.root / folder / "dataset.json").write_text(json.dumps({"labels": labels}))
