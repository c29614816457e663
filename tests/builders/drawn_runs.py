"""Folders of a run whose networks are drawn: everything behind them, records and files is the real thing.

Stage 1 finds a tumor in the left lung, one between the lungs and a speck; stage 2 confirms a part of the first in a
share of its samples, so that volumes have a spread.
"""

import json
from dataclasses import replace

import numpy as np
from builders.drawn_chests import GRID, IN_LEFT, LUNGS, MIDDLE, SPECK, blocks, chest_ct

from nnunet_cascade.case_folders.run_report import CaseLine, RunContext, RunReport, write_run
from nnunet_cascade.images import write_image
from nnunet_cascade.postprocessing.anatomy import filter_candidates
from nnunet_cascade.postprocessing.lungs.result import LungMask
from nnunet_cascade.prediction.outputs import write_case
from nnunet_cascade.prediction.refinement import Refinement
from nnunet_cascade.prediction.result import AnatomyResult, LungsOrReason, RefinedCase, assemble_result
from nnunet_cascade.prediction.roi import plan_rois
from nnunet_cascade.prediction.spec import CascadeSpec
from nnunet_cascade.prediction.stage_model import CoarsePrediction
from nnunet_cascade.scans.scans import Scan
from nnunet_cascade.uncertainty.sampling_types import SamplingSummary
from nnunet_cascade.uncertainty.volumes import RegionSampleMasks

SAMPLES = 8
SAMPLING = SamplingSummary(sources=("mc_dropout",), members=1, mirrors=1, mc_samples=SAMPLES, measure="variance")
SPEC = CascadeSpec()


class DrawnRun:
    """A folder of results with CTs and true labels beside it."""

    def __init__(self, root, name="run", spec=SPEC):
        self.root, self.spec = root, spec
        self.results, self.images, self.labels = root / name, root / "images", root / "labels"
        for folder in (self.results, self.images, self.labels):
            folder.mkdir(exist_ok=True)

    def write(self, case, *, found=(IN_LEFT, MIDDLE, SPECK), agreeing=6, sampled=True, thinner=0):
        """Draw a case; `agreeing` of the 8 samples see all of it, the others but one slice."""
        ct = self.images / f"{case}_0000.nii.gz"
        write_image(chest_ct(), GRID, ct)
        write_image(blocks(IN_LEFT), GRID, self.labels / f"{case}.nii.gz")
        result = _result(self.spec, blocks(*found) > 0, agreeing if sampled else None, thinner)
        told = {"image": Scan(case=case, path=ct).to_json()}
        write_case(result, self.results, case, spec=self.spec, notes=("trained on phantoms",), varying=told)
        return self

    def finish(self, *, failed=(), command=(), left=0):
        """Write the run's story: cases with a record are done, the others failed as said."""
        done = sorted(path.stem for path in self.results.glob("*.json") if path.stem != "run")
        lines = [CaseLine(case=case, status="done") for case in done]
        lines += [CaseLine(case=case, status="failed", error=error) for case, error in dict(failed).items()]
        context = RunContext(begun=0.0, command=tuple(command))
        report = RunReport(output=self.results, context=context, settings=self.spec.to_json(), total=len(lines) + left)
        write_run(lines, report)
        return self

    def change(self, case, **values):
        """Change keys of a record, as somebody might."""
        path = self.results / f"{case}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    def record(self, case):
        return json.loads((self.results / f"{case}.json").read_text())


def _result(spec, stage1, agreeing, thinner):
    lungs = LungMask.of(LUNGS, GRID, source="threshold")
    spec = replace(spec, anatomy=replace(spec.anatomy, top_k="all"))
    filtered = filter_candidates(stage1, GRID, lungs, spec.anatomy)
    rois = plan_rois(filtered.kept, GRID, spec.roi)
    seen = filtered.kept_mask()
    seen[:, :, : np.argmax(seen.any(axis=(0, 1))) + thinner] = False
    sample_masks = (
        {roi.id: (roi.box, _sample_masks(seen[roi.box.slices], agreeing)) for roi in rois} if agreeing else {}
    )
    share = (agreeing or SAMPLES) / SAMPLES
    probability = np.where(seen, share, 0).astype(np.float32)
    judgement = AnatomyResult(
        coarse=CoarsePrediction(stage1, None),
        lungs=LungsOrReason(lungs),
        filtered=filtered,
        rois=rois,
        stage1_given=True,
    )
    refinement = Refinement(
        probability=probability,
        uncertainty=probability * (1 - probability) if agreeing else None,
        sample_masks=sample_masks,
        moved_results=False,
    )
    sampling = SAMPLING if agreeing else None
    return assemble_result(RefinedCase(grid=GRID, judgement=judgement, refinement=refinement, sampling=sampling), spec)


def _sample_masks(seen, agreeing):
    """Let some samples see all, the others one slice of it."""
    one_slice = np.zeros_like(seen)
    if seen.any():
        first = int(np.argmax(seen.any(axis=(1, 2))))
        one_slice[first] = seen[first]
    bits = [seen if sample < agreeing else one_slice for sample in range(SAMPLES)]
    planes = np.packbits(np.stack(bits), axis=0, bitorder="little")[None]
    return RegionSampleMasks(planes=planes, samples_per_member=SAMPLES, windows=1)
