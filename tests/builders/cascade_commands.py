"""Running commands and comparing folders, for the tests of the whole chain."""

import hashlib
import subprocess
import sys
from pathlib import Path

DATASET, ROI_DATASET = 501, 601
TINY = ["epochs=1", "iterations_per_epoch=3", "validation_iterations_per_epoch=1", "recipe=adamw"]
TRAIN_CASCADE = [
    "-d", str(DATASET), "--roi_dataset", str(ROI_DATASET), "--folds", "2", "-device", "cpu", "--max_candidates", "2",
    "--stage1_spacing_mm", "8", "8", "8", "--stage1_patch_size", "24", "24", "32", "--stage1_batch_size", "2",
    "--stage1_features", "4", "8", "8", "--stage1_window_hu", "-1000", "400", "--stage1_set", *TINY,
    "--stage2_spacing_mm", "6", "6", "6", "--stage2_patch_size", "16", "16", "16", "--stage2_batch_size", "2",
    "--stage2_features", "4", "8", "--stage2_window_hu", "-1000", "400", "--stage2_set", *TINY, "mc_samples=2",
]  # fmt: skip


def run(command, *arguments, expected=0):
    """Run a command of this environment; it must end with the expected exit code."""
    program = [sys.executable, str(Path(sys.executable).parent / command), *map(str, arguments)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == expected, f"{command} {arguments}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


def digest(folder):
    """One hash of every file below a folder."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
