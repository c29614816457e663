"""A folder of results, read as far as it can be: half done, of another version, damaged, or without records."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nnunet_cascade.case_folders.case_files import MAPS
from nnunet_cascade.case_folders.case_record import VERSION, CaseRecord
from nnunet_cascade.case_folders.unchecked_json import UncheckedJson, read_json_lenient
from nnunet_cascade.errors import SettingsError
from nnunet_cascade.images import ENDING
from nnunet_cascade.report.reading.case_row import DECISIVE, CaseRow, row_of_record
from nnunet_cascade.report.reading.own_files import is_own_file
from nnunet_cascade.report.reading.privacy import without_paths
from nnunet_cascade.report.reading.setting_rows import SettingRows, differing, setting_rows, unknown_settings
from nnunet_cascade.versions import __version__

_PART = re.compile(r"run_part(\d+)\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """What a folder of results tells.

    Attributes:
        path: The folder.
        rows: Its cases, by name.
        records: Of the cases that have one.
        problems: What is wrong with the run, in a sentence each; what is wrong with a case stands in its row.
        settings: In words, by dotted name.
        model: SHA-256 by stage.
        versions: By package.
        facts: When the run began and the like, in words by name.
    """

    path: Path
    rows: tuple[CaseRow, ...]
    records: Mapping[str, CaseRecord]
    problems: tuple[str, ...]
    settings: SettingRows
    model: Mapping[str, str]
    versions: Mapping[str, str]
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Stories:
    """What the stories of a folder tell, `run.json` or those of the parts, by file name; and their lines by case."""

    told: Mapping[str, UncheckedJson]
    problems: tuple[str, ...]
    lines: Mapping[str, UncheckedJson]

    @property
    def first(self) -> UncheckedJson:
        """The whole run's, or that of the first part; nothing where there is none."""
        return next(iter(self.told.values()), UncheckedJson())


def read_run(folder: Path) -> RunFolder:
    """Read a folder of results.

    Args:
        folder: Of `nnc-cascade-predict` or `nnc-anatomy-filter`, whatever became of the run; or one of nnU-Net's,
            which has masks alone.

    Raises:
        SettingsError: It is no folder, or holds neither a run's story nor a record nor a mask.
    """
    if not folder.is_dir():
        raise SettingsError(f"{folder} is no folder; expected the output of nnc-cascade-predict")
    stories = _read_stories(folder)
    masks = _masks(folder)
    records, damaged = _read_records(folder, {*stories.lines, *masks})
    cases = sorted({*stories.lines, *masks, *records, *damaged})
    if not cases and not stories.told and not stories.problems:
        raise SettingsError(f"{folder} holds no run.json, no record and no <case>{ENDING}: no results to report on")
    paths = _command_paths(stories)
    rows = tuple(
        _without_paths(
            _row(case, folder, line=stories.lines.get(case), record=records.get(case), damaged=damaged.get(case, "")),
            (*paths, *_image_path(records.get(case))),
        )
        for case in cases
    )
    first = stories.first if stories.told else UncheckedJson(next(iter(records.values()), CaseRecord()).to_json())
    return RunFolder(
        path=folder,
        rows=rows,
        records=records,
        problems=(*stories.problems, *_shared_problems(rows, first)),
        settings=setting_rows(first.at("settings")),
        model={stage: told.text for stage, told in first.at("model").items() if stage in {"stage1", "stage2", "lungs"}},
        versions={name: first.at("versions", name).text for name in DECISIVE if first.at("versions", name).text},
        facts=_facts(first),
    )


def _read_stories(folder: Path) -> _Stories:
    """Read `run.json`, or where there is none what the parts left, and tell what is not through."""
    paths = [folder / "run.json"] if (folder / "run.json").is_file() else sorted(folder.glob("run_part*.json"))
    paths = [path for path in paths if path.name == "run.json" or _PART.fullmatch(path.name)]
    read = {path.name: read_json_lenient(path) for path in paths}
    told = {name: story for name, (story, problem) in read.items() if not problem}
    lines: dict[str, UncheckedJson] = {}
    for story in told.values():
        for case, line in story.at("cases").items():
            if case not in lines or line.at("status").text == "done":
                lines[case] = line
    problems = [problem for _, problem in read.values() if problem]
    left = sum(story.at("counts", "left").count or 0 for story in told.values())
    problems += [f"{left} of the run's cases are not through; run it again with --continue_prediction"] if left else []
    return _Stories(told, (*problems, *_missing_parts(told)), lines)


def _missing_parts(told: Mapping[str, UncheckedJson]) -> list[str]:
    if "run.json" in told or not told:
        return []
    number = max(story.at("num_parts").count or 1 for story in told.values())
    parts = {int(match[1]) for name in told if (match := _PART.fullmatch(name))}
    missing = [str(part) for part in range(min(number, 10_000)) if part not in parts]
    few = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
    return [f"of {number} parts of the run {len(missing)} left no readable story: {few}"] if missing else []


def _masks(folder: Path) -> set[str]:
    """Name the cases that have a mask; maps beside a mask are none, unless they have a record of their own."""
    stems = {path.name.removesuffix(ENDING) for path in folder.glob(f"*{ENDING}") if not path.name.startswith(".")}
    recorded = {stem for stem in stems if (folder / f"{stem}.json").is_file()}
    bases = {path.stem for path in folder.glob("*.json")} | stems
    maps = {stem for stem in stems if any(stem.endswith(end) and stem.removesuffix(end) in bases for end in MAPS)}
    return (stems - maps) | recorded


def _read_records(folder: Path, cases: Iterable[str]) -> tuple[dict[str, CaseRecord], dict[str, str]]:
    """Read the records of a folder; a damaged file is one where its name is a case's."""
    names, records, damaged = set(cases), dict[str, CaseRecord](), dict[str, str]()
    for path in sorted(folder.glob("*.json")):
        if path.name.startswith(".") or path.name == "run.json" or _PART.fullmatch(path.name):
            continue
        content, problem = read_json_lenient(path)
        record = CaseRecord.from_json(content.value)
        if not problem and record.case == path.stem:
            records[path.stem] = record
        elif path.stem in names:
            damaged[path.stem] = problem or f"{path.name} is damaged: it is no record of {path.stem}"
    return records, damaged


def _row(case: str, folder: Path, *, line: UncheckedJson | None, record: CaseRecord | None, damaged: str) -> CaseRow:
    """Return what is known of a case from its record, its mask and its line in the run's story."""
    mask = is_own_file(folder, f"{case}{ENDING}")
    failed = line is not None and line.at("status").text == "failed"
    error = line.at("error").text if line is not None else ""
    if record is None:
        if failed:
            return CaseRow(case=case, status="failed", problems=(error or "the run does not say why",))
        if damaged:
            return CaseRow(case=case, status="unreadable", problems=(damaged,))
        if mask and line is None:
            return CaseRow(case=case, status="mask only", problems=("there is no record beside its mask",))
        return CaseRow(case=case, status="missing", problems=("the run calls it done, and there is no record of it",))
    row = row_of_record(case, record, folder)
    problems = [*_version_problems(record), *_content_problems(record, row)]
    if failed:
        problems.insert(0, f"the run could not do it ({error or 'it does not say why'}); below is an earlier result")
    status = "failed" if failed else "done" if mask else "missing"
    return replace(row, status=status, problems=tuple(problems))


def _version_problems(record: CaseRecord) -> list[str]:
    if record.version > VERSION:
        newer = f"version {record.version} of its record is newer than {VERSION}: what is not understood is left out"
        return [f"{newer}; update nnunet-cascade"]
    found = record.versions.get("nnunet-cascade")
    if found == __version__:
        return []
    made_by = f"version {found}" if found else "an unknown version"
    return [f"its record is of {made_by} of this package, read by {__version__}: what is not understood is left out"]


def _content_problems(record: CaseRecord, row: CaseRow) -> list[str]:
    gone = [file.name for file in row.files if not file.there]
    found = [f"missing or of another size than its record tells: {', '.join(gone)}"] if gone else []
    lacking = [name for name in ("flags", "tumor", "candidates", "files", "settings") if getattr(record, name) is None]
    unknown = unknown_settings(UncheckedJson(record.settings))
    found += [f"its record tells nothing readable of: {', '.join(lacking)}"] if lacking else []
    return found + ([f"{unknown} of its settings are unknown to this version and not shown"] if unknown else [])


def _shared_problems(rows: Sequence[CaseRow], first: UncheckedJson) -> list[str]:
    of_run = setting_rows(first.at("settings"))
    others = [row.case for row in rows if row.settings and of_run and differing(row.settings, of_run)]
    few = ", ".join(others[:5]) + (" …" if len(others) > 5 else "")
    return [f"{len(others)} cases were made with other settings than the run's: {few}"] if others else []


def _command_paths(stories: _Stories) -> tuple[str, ...]:
    """List the arguments of the run's command that may be paths: its messages name files below them."""
    words = [word for story in stories.told.values() for word in story.at("varying", "command").texts()]
    return tuple(dict.fromkeys(word for word in words if "/" in word or "\\" in word))


def _image_path(record: CaseRecord | None) -> tuple[str, ...]:
    image = None if record is None else record.varying.image
    return () if image is None else (image.path,)


def _without_paths(row: CaseRow, known: tuple[str, ...]) -> CaseRow:
    candidates = [
        replace(each, verdict=replace(each.verdict, reason=without_paths(each.verdict.reason, known)))
        for each in row.record.candidates or ()
    ]
    record = replace(
        row.record,
        notes=tuple(without_paths(note, known) for note in row.record.notes),
        candidates=None if row.record.candidates is None else tuple(candidates),
    )
    return replace(row, problems=tuple(without_paths(problem, known) for problem in row.problems), record=record)


def _facts(first: UncheckedJson) -> dict[str, str]:
    seconds = first.at("varying", "seconds").number
    told = {
        "begun": first.at("varying", "begun").text,
        "took": "" if seconds is None else f"{seconds:.0f} s",
        "precision": first.at("precision").text,
    }
    return {name: value for name, value in told.items() if value}
