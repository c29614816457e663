"""`nnc-cascade-predict`: both stages on a folder of CTs, image files or DICOM."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_cascade.cli.common import (
    DONE,
    FAILED,
    add_device,
    add_lungs,
    add_margins,
    add_sharing,
    add_trust,
    changed_lungs,
    cuda_devices,
    new_parser,
    parsed_top_k,
    require_cuda,
    require_other_folder,
    require_sharing,
    run_command,
    with_margins,
)
from nnunet_cascade.errors import DicomError, SettingsError

if TYPE_CHECKING:
    from nnunet_cascade.cohort.cohort import CohortRequest, Workers
    from nnunet_cascade.cohort.dicom_exports import DicomExports
    from nnunet_cascade.cohort.engine import Engine
    from nnunet_cascade.cohort.jobs import CohortJob
    from nnunet_cascade.prediction.spec import CascadeSpec, SamplingSettings
    from nnunet_cascade.scans.scans import FoundScans


def build_parser() -> argparse.ArgumentParser:
    """Describe the command."""
    parser = new_parser("nnc-cascade-predict", "Find and segment lung tumors in CTs with a trained cascade.")
    parser.add_argument(
        "-i",
        type=Path,
        required=True,
        metavar="IN",
        help="folder of <case>_0000.nii.gz, or one such file, or folder of DICOM series in any layout",
    )
    parser.add_argument("-o", type=Path, required=True, metavar="OUT", help="folder for the results")
    parser.add_argument("-m", type=Path, required=True, metavar="BUNDLE", help="folder made by nnc-make-bundle")
    parser.add_argument(
        "--stage1_predictions",
        type=Path,
        metavar="DIR",
        help="ready masks <case>.nii.gz instead of stage 1; all above 0 is tumor",
    )
    parser.add_argument("--mc_samples", type=int, help="stochastic passes, 0 for none; default: the bundle's")
    parser.add_argument(
        "--uncertainty_sources",
        nargs="+",
        choices=("mc_dropout", "tta", "ensemble", "none"),
        help="what makes stage 2's samples differ: dropout, mirroring, folds and checkpoints; default: the bundle's",
    )
    parser.add_argument(
        "--uncertainty_measure",
        choices=("variance", "predictive_entropy", "mutual_information"),
        help="what the uncertainty maps show; default: the bundle's",
    )
    parser.add_argument(
        "--stage1_uncertainty",
        nargs="+",
        choices=("tta", "ensemble", "none"),
        help="write an uncertainty map of stage 1 as well, from mirroring, or folds and checkpoints",
    )
    parser.add_argument("--top_k", help='candidates that go to stage 2, or "all"; default: the bundle\'s')
    add_margins(parser, default="the bundle's")
    parser.add_argument("-step_size", type=float, help="of the sliding windows; default: the bundle's")
    parser.add_argument("--disable_tta", action="store_true", help="no mirroring in either stage")
    parser.add_argument("--sample_batch_size", type=int, help="stochastic passes side by side; default: the bundle's")
    _add_dicom(parser)
    add_trust(parser)
    add_sharing(parser)
    _add_workers(parser)
    add_lungs(parser)
    add_device(parser)
    return parser


def _add_dicom(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how DICOM series are called, and what is written as DICOM."""
    parser.add_argument(
        "--case-names",
        "--case_names",
        choices=("uid", "patient-id"),
        default="uid",
        help="name DICOM series by a hash of a UID, which names nobody, or by Patient ID, for data with pseudonyms",
    )
    parser.add_argument(
        "--dicom",
        nargs="*",
        choices=("seg", "probability", "uncertainty", "rtstruct", "report"),
        help="also write OUT/dicom/<case>/: these, or without a value all; the CTs must be DICOM",
    )


def _add_workers(parser: argparse.ArgumentParser) -> None:
    """Add the options that say who predicts, and how many cases are under way at a time."""
    parser.add_argument("-npp", type=int, default=1, help="cases that a worker reads ahead")
    parser.add_argument("-nps", type=int, default=1, help="cases that a worker writes while it predicts others")
    parser.add_argument(
        "--workers",
        type=int,
        help="processes with models of their own, which share the GPUs or cores; default: one per GPU, else one; with "
        "Ray one",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="workers on this machine, or wherever Ray has room; they use GPUs there with -device cuda alone",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the networks on CPUs; bfloat16 needs one that computes in it",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser(), _body, argv)


def _body(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from nnunet_cascade.case_folders.run_report import run_files
    from nnunet_cascade.cohort.cohort import predict_cohort

    request = _request(args)
    failed = 0
    with (
        closing(predict_cohort(request)) as outcomes,
        tqdm(total=len(request.cases), desc="predict", unit="case") as bar,
    ):
        for outcome in outcomes:
            failed += outcome.status == "failed"
            bar.set_postfix({"failed": failed} if failed else {}, refresh=False)
            bar.update()
    report, _ = run_files(args.o, request.context.share)
    print(_summary(request, failed, report))
    not_exported = request.exports is not None and request.exports.failed
    return FAILED if failed or not_exported or request.told.get("unreadable_files") else DONE


def _summary(request: CohortRequest, failed: int, report: Path) -> str:
    """Say what became of a run, for who comes back in the morning."""
    parts = [f"{len(request.cases) - failed} of {len(request.cases)} cases done"]
    left_out, unreadable = request.told.get("left_out", ()), request.told.get("unreadable_files", 0)
    if left_out:
        parts.append(f"{len(left_out)} CT series left out, which are no volumes")
    if unreadable:
        parts.append(f"{unreadable} unreadable file(s), named above, may be anybody's: a case may lack slices")
    if request.exports is not None and request.exports.failed:
        parts.append(f"{len(request.exports.failed)} case(s) not exported as DICOM")
    return "; ".join([*parts, f"{report} tells the whole report"])


def _request(args: argparse.Namespace) -> CohortRequest:
    """Return what is asked, checked as far as it can be without a model."""
    from nnunet_cascade.bundles.bundle import read_notes, read_spec
    from nnunet_cascade.case_folders.run import part_of
    from nnunet_cascade.case_folders.run_report import RunContext
    from nnunet_cascade.cohort.cohort import CohortRequest
    from nnunet_cascade.cohort.jobs import CohortJob
    from nnunet_cascade.scans.search import search_scans

    begun, share = time.time(), require_sharing(args)
    require_other_folder(args.o, args.i, args.m, args.stage1_predictions, args.lungs)
    job = CohortJob(
        bundle=args.m,
        spec=_changed(read_spec(args.m), args),
        output=args.o,
        with_stage1=args.stage1_predictions is None,
        notes=read_notes(args.m),
        trusted=args.trust_checkpoint,
        precision=args.precision,
        read_ahead=args.npp,
        write_behind=args.nps,
    )
    workers, found = _workers(args), search_scans(args.i, args.case_names)
    return CohortRequest(
        cases=part_of(found.scans, share),
        job=job,
        stage1_masks=args.stage1_predictions,
        resume=args.continue_prediction,
        workers=workers,
        context=RunContext(begun=begun, command=args.argv, share=share),
        told=found.to_json(),
        exports=_exports(found, args),
    )


def _exports(found: FoundScans, args: argparse.Namespace) -> DicomExports | None:
    """Return what writes DICOM of each case, where that is asked for."""
    if args.dicom is None:
        return None
    from nnunet_cascade.cohort.dicom_exports import DicomExports
    from nnunet_cascade.dicom_export.export import KINDS, ExportRequest, Kind

    if not all(scan.is_dicom for scan in found.scans.values()):
        raise SettingsError(
            f"--dicom: {args.i} holds image files, which DICOM cannot refer to; give the DICOM series instead, "
            "or export later with nnc-export-dicom --series"
        )
    if find_spec("highdicom") is None:
        from nnunet_cascade.dicom.seg.reading import MISSING_EXTRA

        raise DicomError(MISSING_EXTRA)
    asked: list[Kind] = [kind for kind in KINDS if kind in args.dicom or not args.dicom]
    return DicomExports(ExportRequest(results=args.o, kinds=tuple(asked)))


def _workers(args: argparse.Namespace) -> Workers:
    """Return who predicts: a worker per GPU, or one on the CPU, where nothing else is asked."""
    from nnunet_cascade.cohort.cohort import Workers

    if args.engine == "ray":
        return Workers(count=_count(args, 1), devices=(args.device or "cpu",), engine="ray", make=_ray)
    devices = _devices(args.device)
    return Workers(count=_count(args, len(devices)), devices=devices)


def _count(args: argparse.Namespace, default: int) -> int:
    return default if args.workers is None else int(args.workers)


def _devices(asked: str | None) -> tuple[str, ...]:
    """List where workers run; PyTorch is asked only where a GPU may be meant."""
    if asked in ("cpu", "mps"):
        return (asked,)
    count = cuda_devices()
    require_cuda(asked or "cpu", count)
    if asked not in (None, "cuda"):
        return (asked,)
    return tuple(f"cuda:{number}" for number in range(count)) or ("cpu",)


def _ray(job: CohortJob, workers: Workers) -> Engine:
    from nnunet_cascade.cohort.ray_engine import RayEngine

    return RayEngine(job, workers.devices[0], workers.count)


def _changed(spec: CascadeSpec, args: argparse.Namespace) -> CascadeSpec:
    """Return a bundle's settings with what the options change."""
    spec = replace(spec, sampling=_sampling(spec.sampling, args))
    if args.top_k is not None:
        spec = replace(spec, anatomy=replace(spec.anatomy, top_k=parsed_top_k(args.top_k)))
    spec = replace(spec, roi=with_margins(spec.roi, args))
    for stage in ("stage1", "stage2"):
        settings = getattr(spec, stage)
        settings = replace(settings, step_size=args.step_size) if args.step_size is not None else settings
        spec = replace(spec, **{stage: replace(settings, mirroring=settings.mirroring and not args.disable_tta)})
    return replace(spec, lungs=changed_lungs(spec.lungs, args))


def _sampling(sampling: SamplingSettings, args: argparse.Namespace) -> SamplingSettings:
    """Return what is sampled, with what the options change; without mirroring nothing is mirrored."""
    names = {"sources": args.uncertainty_sources, "stage1_sources": args.stage1_uncertainty}
    asked = {name: _sources(given) for name, given in names.items() if given is not None}
    if args.disable_tta:
        if any("tta" in sources for sources in asked.values()):
            raise SettingsError("--disable_tta and tta as a source of samples exclude each other; give one")
        of_bundle = {"sources": sampling.sources, "stage1_sources": sampling.stage1_sources}
        asked = {name: tuple(s for s in asked.get(name, kept) if s != "tta") for name, kept in of_bundle.items()}
    if args.stage1_predictions is not None and asked.get("stage1_sources"):
        raise SettingsError("--stage1_uncertainty needs stage 1's own prediction; leave --stage1_predictions out")
    changes: dict[str, Any] = dict(asked)
    if args.mc_samples is not None:
        changes["mc_samples"] = args.mc_samples
    if args.uncertainty_measure is not None:
        changes["measure"] = args.uncertainty_measure
    if args.sample_batch_size is not None:
        changes["batch_size"] = args.sample_batch_size
    return replace(sampling, **changes)


def _sources(given: Sequence[str]) -> tuple[str, ...]:
    if "none" in given and len(given) > 1:
        raise SettingsError(f"none stands alone; found {' '.join(given)}")
    return tuple(name for name in given if name != "none")
