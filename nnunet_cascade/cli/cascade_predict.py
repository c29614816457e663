"""`nnc-cascade-predict`: both stages on a folder of CTs, image files or DICOM."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nnunet_cascade.cli import options
from nnunet_cascade.cli.common import (
    FAILED,
    CommandParser,
    Options,
    cuda_devices,
    new_command,
    report_cases,
    require_cuda,
)
from nnunet_cascade.errors import SettingsError
from nnunet_cascade.uncertainty_measures import MEASURES

if TYPE_CHECKING:
    from nnunet_cascade.cohort.cohort import CohortRequest, Workers
    from nnunet_cascade.cohort.dicom_exports import DicomExports
    from nnunet_cascade.cohort.engine import Engine
    from nnunet_cascade.cohort.jobs import CohortJob
    from nnunet_cascade.prediction.spec import CascadeSpec, SamplingSettings
    from nnunet_cascade.scans.scans import FoundScans


def build_parser() -> CommandParser:
    """Describe the command."""
    parser = CommandParser(
        "nnc-cascade-predict",
        "Find and segment lung tumors in CTs with a trained cascade.",
        "nnc-cascade-predict -i IMAGES -o RESULTS -m BUNDLE",
        "nnc-cascade-predict -i DICOM_FOLDER -o RESULTS -m BUNDLE --dicom seg report --continue_prediction",
    )
    files = parser.options("input and output")
    meaning = "folder of <case>_0000.nii.gz, one such file, or a folder of DICOM series in any layout"
    files.path("-i", "IN", meaning, required=True)
    files.path("-o", "OUT", "folder for the results", required=True)
    files.path("-m", "BUNDLE", "folder made by nnc-make-bundle or nnc-train-cascade", required=True)
    options.add_trust(files)
    options.add_case_names(files)
    meaning = "also write these DICOM objects to OUT/dicom/<case>/, or all of them if none is named; needs CTs in DICOM"
    files.add("--dicom", meaning, nargs="*", choices=options.DICOM_KINDS)
    stages = parser.options("stage 1 and candidates")
    meaning = "use existing masks <case>.nii.gz instead of stage 1; every value above 0 is tumor"
    stages.path("--stage1_predictions", "DIR", meaning)
    options.add_operating_point(stages)
    options.add_top_k(stages, default="the bundle's")
    options.add_margins(stages, default="the bundle's")
    _add_uncertainty(parser.options("uncertainty"))
    options.add_lungs(parser)
    _add_speed(parser.options("speed and machines"))
    options.add_sharing(parser.options("resume, and distribute cases over several runs"))
    return parser


def _add_uncertainty(group: Options) -> None:
    group.whole("--mc_samples", "T", "number of stochastic passes, 0 for none; default: the bundle's")
    meaning = "what varies between the samples of stage 2: dropout, mirroring, or the trained folds and checkpoints; "
    sources = ("mc_dropout", "tta", "ensemble", "none")
    group.add("--uncertainty_sources", f"{meaning}default: the bundle's", nargs="+", choices=sources)
    group.add(
        "--uncertainty_measure", "measure in the uncertainty maps; default: the bundle's", choices=tuple(MEASURES)
    )
    meaning = "also write an uncertainty map of stage 1, from mirroring or from the trained folds and checkpoints"
    group.add("--stage1_uncertainty", meaning, nargs="+", choices=("tta", "ensemble", "none"))


def _add_speed(group: Options) -> None:
    options.add_device(group)
    group.number("-step_size", "SHARE", "step of the sliding windows, as a share of a patch; default: the bundle's")
    group.switch("--disable_tta", "do not mirror, in either stage")
    group.whole("--sample_batch_size", "N", "stochastic passes in one batch; default: the bundle's")
    group.whole("-npp", "N", "cases that a worker reads in advance", default=1)
    group.whole("-nps", "N", "cases that a worker writes while it predicts others", default=1)
    meaning = "processes that each load the models; they share the GPUs or cores; default: one per GPU, or one"
    group.whole("--workers", "N", meaning)
    meaning = "where workers run: on this machine, or on a Ray cluster (GPUs there only with -device cuda)"
    group.add("--engine", meaning, choices=("local", "ray"), default="local")
    meaning = "number format of the networks on a CPU; bfloat16 needs a CPU with instructions for it"
    group.add("--precision", meaning, choices=("float32", "bfloat16"), default="float32")


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
    left_out, unreadable = request.told.get("left_out", ()), request.told.get("unreadable_files", 0)
    not_exported = [] if request.exports is None else request.exports.failed
    notes = [f"{len(left_out)} CT series skipped because they are not volumes"] if left_out else []
    notes += [options.unassigned_files(unreadable)] if unreadable else []
    notes += [f"{len(not_exported)} case(s) not exported as DICOM"] if not_exported else []
    code = report_cases(failed, len(request.cases), report, *notes)
    return FAILED if not_exported or unreadable else code


def _request(args: argparse.Namespace) -> CohortRequest:
    """Return what is asked, checked as far as it can be without a model."""
    from nnunet_cascade.bundles.bundle import read_notes, read_spec
    from nnunet_cascade.case_folders.lock import Part
    from nnunet_cascade.case_folders.run import part_of
    from nnunet_cascade.case_folders.run_report import RunContext
    from nnunet_cascade.cohort.cohort import CohortRequest
    from nnunet_cascade.cohort.jobs import CohortJob
    from nnunet_cascade.scans.search import search_scans

    begun, share = time.time(), Part(num_parts=args.num_parts, part_id=args.part_id)
    options.require_other_folder(args.o, args.i, args.m, args.stage1_predictions, args.lungs)
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
        resume=args.resume,
        workers=workers,
        context=RunContext(begun=begun, command=args.argv, share=share),
        told=found.to_json(),
        exports=_exports(found, args),
    )


def _exports(found: FoundScans, args: argparse.Namespace) -> DicomExports | None:
    """Return what writes DICOM of each case, if --dicom is given."""
    if args.dicom is None:
        return None
    from nnunet_cascade.cohort.dicom_exports import DicomExports
    from nnunet_cascade.dicom_export.export import KINDS, ExportRequest, Kind

    if not all(scan.is_dicom for scan in found.scans.values()):
        raise SettingsError(
            f"--dicom: {args.i} holds image files, which DICOM objects cannot reference; give the DICOM series, "
            "or export later with nnc-export-dicom --series"
        )
    options.require_highdicom()
    asked: list[Kind] = [kind for kind in KINDS if kind in args.dicom or not args.dicom]
    return DicomExports(ExportRequest(results=args.o, kinds=tuple(asked)))


def _workers(args: argparse.Namespace) -> Workers:
    """Return who predicts: by default one worker per GPU, or one on the CPU."""
    from nnunet_cascade.cohort.cohort import Workers

    on_ray = args.engine == "ray"
    devices = (args.device or "cpu",) if on_ray else _devices(args.device)
    count = len(devices) if args.workers is None else args.workers
    ray: dict[str, Any] = {"engine": "ray", "make": _ray} if on_ray else {}
    return Workers(count=count, devices=devices, **ray)


def _devices(asked: str | None) -> tuple[str, ...]:
    """List where workers run; PyTorch is asked only if a GPU may be meant."""
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
    sampling = _sampling(spec.sampling, args)
    spec = options.with_operating_point(options.with_top_k(spec, args), args)
    spec = replace(spec, sampling=sampling, roi=options.with_margins(spec.roi, args))
    for stage in ("stage1", "stage2"):
        settings = getattr(spec, stage)
        settings = replace(settings, step_size=args.step_size) if args.step_size is not None else settings
        spec = replace(spec, **{stage: replace(settings, mirroring=settings.mirroring and not args.disable_tta)})
    return replace(spec, lungs=options.changed_lungs(spec.lungs, args))


def _sampling(sampling: SamplingSettings, args: argparse.Namespace) -> SamplingSettings:
    """Return the settings of sampling with what the options change; --disable_tta removes mirroring."""
    names = {"sources": args.uncertainty_sources, "stage1_sources": args.stage1_uncertainty}
    asked = {name: _sources(given) for name, given in names.items() if given is not None}
    if args.disable_tta:
        if any("tta" in sources for sources in asked.values()):
            raise SettingsError("--disable_tta and tta as a source of samples exclude each other; give one")
        of_bundle = {"sources": sampling.sources, "stage1_sources": sampling.stage1_sources}
        asked = {name: tuple(s for s in asked.get(name, kept) if s != "tta") for name, kept in of_bundle.items()}
    if args.stage1_predictions is not None and asked.get("stage1_sources"):
        raise SettingsError("--stage1_uncertainty needs the prediction of stage 1; leave --stage1_predictions out")
    others = {"mc_samples": args.mc_samples, "measure": args.uncertainty_measure, "batch_size": args.sample_batch_size}
    changes: dict[str, Any] = {**asked, **{name: value for name, value in others.items() if value is not None}}
    return replace(sampling, **changes)


def _sources(given: Sequence[str]) -> tuple[str, ...]:
    if "none" in given and len(given) > 1:
        raise SettingsError(f"none cannot be combined; found {' '.join(given)}")
    return tuple(name for name in given if name != "none")


main = new_command(build_parser, _body, __name__)
