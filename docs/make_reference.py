"""Write the reference pages from the parsers, the settings and the flags: `make reference`."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from inspect import getdoc
from pathlib import Path
from textwrap import dedent
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import nnunet_cascade as nnc
from nnunet_cascade.cli.commands import SECTIONS, module_of
from nnunet_cascade.dataset_conversion.labels import Label
from nnunet_cascade.dataset_conversion.settings import ConversionSettings
from nnunet_cascade.flags import Flag
from nnunet_cascade.phantom.settings import PhantomSettings
from nnunet_cascade.postprocessing.lungs.source import LungSource
from nnunet_cascade.postprocessing.settings import AnatomySettings
from nnunet_cascade.prediction.spec import CascadeSpec, RoiSettings, SamplingSettings, StageSettings
from nnunet_cascade.settings.training import TrainingSettings
from nnunet_cascade.versions import NOTICE

FOLDER = Path(__file__).parent / "reference"
_MARK = "<!-- Written by docs/make_reference.py; run `make reference` instead of editing. -->"
_COMMANDS = f"""# Commands

{_MARK}

{NOTICE}

This page has the text of each command's `-h`. Flags have nnU-Net's names where they mean the same. Every command has
`-h` and `--version`. `python -m nnunet_cascade NAME` runs a command, too. It exits with 0 (done), 1 (some case failed),
2 (wrong usage) or 130 (interrupted)."""
_SETTINGS = f"""# Settings

{_MARK}

A value out of range, or a misspelled name, is an error that says what was expected."""
_BUNDLES = """## Bundles

They are in the bundle's `cascade.json`, each part under its name. Every result repeats them.
[How they were chosen](../decisions/0015-presets.md)."""
_TRAINING = """## Training

They are in the plans, in the block `nnunet_cascade`. `nnc-plan --set` and `nnc-train-cascade --stage1_set`,
`--stage2_set` write them."""
_CONVERSION = """## Conversion

The options of [`nnc-convert-dicom`](commands.md#nnc-convert-dicom) set them."""
_KINDS: tuple[tuple[str, tuple[type, ...]], ...] = (
    (_BUNDLES, (CascadeSpec, StageSettings, AnatomySettings, RoiSettings, SamplingSettings, LungSource)),
    (_TRAINING, (TrainingSettings,)),
    (_CONVERSION, (ConversionSettings, Label)),
    ("## Phantoms\n\nOnly from Python.", (PhantomSettings,)),
)
_FLAGS = f"""# Flags and verdicts

{_MARK}

A flag asks you to look at something. No flag is an error. This table says where each kind is explained.

| where you find it | what it describes | explained in |
|---|---|---|
| `flags` of `<case>.json`, `summary.csv`, the report | scan, lungs and result | [below](#flags-of-a-case) |
| `verdict` of a candidate in `<case>.json` | the rule that kept or dropped it | [Results](../outputs.md#candidates) |
| `flags` in `conversion.json` | a converted series and its labels | [Converting](../converting.md#conversion-json) |
| `left_out` in `conversion.json` | a skipped patient | [Converting](../converting.md#why-a-patient-is-left-out) |
| `status`, `error` of `run.json` | why a case failed | [Results](../outputs.md#the-run) |

[Unusual scans](../unusual-scans.md) lists which scan sets which flag. A test checks each line.

## Flags of a case

| flag | meaning |
|---|---|"""
_PYTHON = f"""# Python

{_MARK}

Names in `nnunet_cascade.__all__` follow semantic versioning; everything else may change without notice.

{NOTICE}

```python
import nnunet_cascade as nnc

cascade = nnc.load_cascade("demo/bundle", device="cpu")  # once; "auto" takes a GPU if there is one
result = cascade.predict("ct.nii.gz")  # or a folder of DICOM slices, a Volume, a SimpleITK image
print(result.flags, [(candidate.kept, candidate.verdict.reason) for candidate in result.candidates])
result.save("from_python")
```

`save` writes the files that `nnc-cascade-predict` writes of the case, the same bytes. Only `varying` in the record
differs, as between any two runs of the command; dates and UIDs of DICOM objects follow from the time of prediction.
`run.json` and `summary.csv` are of a whole run; only the command writes them.

[Reading a result](../outputs.md) explains the files, the rules of the verdicts and the flags.

Paths are `str` or `Path`, devices `str` or `torch.device`, arrays always (Z, Y, X). In the signatures, `CtSource` is
what `predict` takes as a CT; `MaskSource` is a file of labels, or an array of booleans or labels; `Mask` is such an
array (in a result always of booleans), and `Image` one of float32. A prediction starts no other process: it works in a
notebook and in a daemonic worker, as Airflow and Celery have them. Threads wait for each other. Each error is a
`CascadeError` with one line that says what was found, what was expected and what to do.

The examples below use `import nnunet_cascade as nnc`, `import numpy as np` and the `cascade` from above. A test runs
them."""
_NAMES = MappingProxyType(
    {
        "Predict": (
            "load_cascade",
            "Cascade",
            "Prediction",
            "CaseResult",
            "read_ct",
            "find_scans",
            "Scan",
            "read_spec",
        ),
        "Single steps": ("find_lungs", "filter_candidates", "evaluate", "write_image"),
        "Train": ("train_cascade", "TrainingRequest", "StageTraining", "PlanRequest"),
        "Settings": (
            *("CascadeSpec", "StageSettings", "AnatomySettings", "RoiSettings", "SamplingSettings", "LungSource"),
            "TrainingSettings",
        ),
        "Images": ("Volume", "Grid", "Box"),
        "Results": (
            *("LungMask", "FilteredCandidates", "Candidate", "Stage2Finding", "Verdict", "Roi", "Islands"),
            "Lesion",
            *("CandidateScore", "ScoreFit"),
            *("VolumeSpreads", "VolumeSpread", "SamplingSummary", "CaseScore"),
        ),
        "Errors": tuple(name for name in nnc.__all__ if name.endswith("Error")),
    }
)
_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields|Example|Source):$", re.MULTILINE)
_QUOTED = re.compile(r"(: |-> )'([^']*)'")
_PAGE = re.compile(r"docs/([\w/-]+\.md)")
_CODE = re.compile(r"[<>*_=\[\]]|^--?[a-z]")
_ATTRIBUTE = re.compile(r"    (\w+): (.*)")


def commands_page() -> str:
    """Describe every command by its own parser."""
    parts = [_COMMANDS]
    for title, commands in SECTIONS.items():
        parts += [f"## {title}", *(_command(command) for command in commands)]
    return "\n\n".join(parts) + "\n"


def _command(command: str) -> str:
    parser = module_of(command).build_parser()
    description = (parser.description or "").removesuffix(NOTICE).strip()
    examples = "\n".join(line.strip() for line in (parser.epilog or "").splitlines()[1:])
    block = f"<!-- not run: the example of the help -->\n```bash\n{examples}\n```"
    parts = [f"### {command}", _marked(description), block]
    for group in parser._action_groups:  # noqa: SLF001 - argparse lists them nowhere else
        actions = [action for action in group._group_actions if action.dest not in {"help", "version"}]  # noqa: SLF001
        if actions:
            listed = "\n".join(_option(parser, action) for action in actions)
            parts.append(f"**{str(group.title).capitalize()}**\n\n{listed}")
    return "\n\n".join(parts)


def _option(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = parser._get_formatter()  # noqa: SLF001 - nothing else gives the text of a single option
    names = formatter._format_action_invocation(action)  # noqa: SLF001
    required = " (required)" if action.required and action.option_strings else ""
    return f"- `{names}`{required}: {_marked(formatter._expand_help(action))}"  # noqa: SLF001


def _marked(text: str) -> str:
    """Mark names of files, options and settings as code, so that nothing in them is taken for markup."""
    words: list[str] = []
    for word in _PAGE.sub(r"[docs/\1](../\1)", text).split():
        bare = word.lstrip("(").rstrip(",.;:)")
        words.append(word if "`" in word or "](" in word or not _CODE.search(bare) else word.replace(bare, f"`{bare}`"))
    return " ".join(words)


def settings_page() -> str:
    """Describe every setting by its dataclass."""
    parts = [_SETTINGS]
    for text, kinds in _KINDS:
        parts += [text, *(_dataclass(kind) for kind in kinds)]
    return "\n\n".join(parts) + "\n"


def _dataclass(kind: type) -> str:
    meanings, hints = dict(_attributes(getdoc(kind) or "")), get_type_hints(kind)
    summary = (getdoc(kind) or "").partition("\n\n")[0]
    return f"### {kind.__name__}\n\n{summary}\n\n" + "\n".join(
        f"- `{field.name}` (`{_type(hints[field.name])}`{_default(field)}): {_joined(meanings[field.name])}"
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
    )


def _type(hint: Any) -> str:
    """Return a type as it is written, with the words of a `Literal` instead of its name."""
    parts = get_args(hint)
    if get_origin(hint) is Literal:
        return " | ".join(f'"{word}"' for word in parts)
    if get_origin(hint) in {Union, UnionType}:
        return " | ".join(_type(part) for part in parts)
    if get_origin(hint) is tuple:
        return f"tuple[{', '.join('...' if part is ... else _type(part) for part in parts)}]"
    return "None" if hint is NoneType else str(hint.__name__)


def _attributes(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each attribute of a docstring, and its lines."""
    for found in re.split(r"\n(?=    \w+: )", text.partition("Attributes:")[2].split("\n\n")[0]):
        first, *further = found.strip("\n").splitlines() or [""]
        match = _ATTRIBUTE.fullmatch(first)
        if match:
            yield match[1], [match[2], *further]


def _joined(lines: list[str]) -> str:
    return _marked(" ".join(line.strip() for line in lines))


def _default(field: dataclasses.Field[object]) -> str:
    if field.default is dataclasses.MISSING:
        return "" if field.default_factory is dataclasses.MISSING else ", default: its own defaults"
    default = repr(field.default).replace("'", '"')
    return f", default `{default}`"


def flags_page() -> str:
    """List the flags of a case with their meanings."""
    return "\n".join([_FLAGS, *(f"| `{flag}` | {flag.meaning} |" for flag in Flag)]) + "\n"


def python_page() -> str:
    """Describe every public name by its docstring."""
    parts = [_PYTHON]
    for title, names in _NAMES.items():
        parts += [f"## {title}", *(_name(name, title) for name in names)]
    parts += ["## Version", "`nnunet_cascade.__version__` is the version of the package."]
    return "\n\n".join(parts) + "\n"


def _name(name: str, title: str) -> str:
    described = getattr(nnc, name)
    text = inspect.getdoc(described) or ""
    if title == "Settings":  # another page lists them
        text = re.sub(r"\nAttributes:\n.*?(?=\n\n|$)", "", text, flags=re.DOTALL)
    parts = [f"### {name}", *_signature(described), *_sections(text)]
    if title == "Settings":
        parts.append(f"[All of them](settings.md#{name.lower()}).")
    if isinstance(described, type) and title in {"Predict", "Train", "Settings", "Results"}:
        for method, value in _members(described):
            value = getattr(value, "__func__", value)  # noqa: PLW2901 - a class method
            shown = not method.startswith("_") and not method.endswith("record")
            if shown and (inspect.isfunction(value) or isinstance(value, property)):
                parts += [f"#### {name}.{method}", *_signature(value), *_sections(inspect.getdoc(value) or "")]
    return "\n\n".join(parts)


def _members(described: type) -> Iterator[tuple[str, Any]]:
    """Yield what a class defines, and what it has from bases that have no place of their own on the page."""
    for kind in described.__mro__:
        if kind.__module__.startswith(nnc.__name__) and (kind is described or kind.__name__ not in nnc.__all__):
            yield from vars(kind).items()


def _signature(described: Any) -> list[str]:
    """Return the signature of a function, as a block."""
    if not inspect.isfunction(described):
        return []
    signature = _QUOTED.sub(r"\1\2", str(inspect.signature(described)))
    return [f"```text\n{described.__name__}{signature}\n```"]


def _sections(text: str) -> Iterator[str]:
    """Turn a Google docstring into Markdown."""
    summary, *rest = _SECTION.split(text)
    yield _paragraphs(summary)
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        own, _, more = dedent(body.strip("\n")).partition("\n\n") if title != "Example" else (dedent(body), "", "")
        if title == "Example":
            yield f"```pycon\n{own.strip()}\n```"
        elif title in {"Args", "Attributes", "Raises"}:
            items = re.split(r"\n(?=\S)", own)
            yield f"**{title}**\n\n" + "\n".join(_item(item) for item in items)
        else:
            yield f"**{title}** {_joined(own.splitlines())}"
        if more:
            yield _paragraphs(more)


def _item(text: str) -> str:
    name, _, meaning = text.partition(": ")
    return f"- `{name}`: {_joined(meaning.splitlines())}"


def _paragraphs(text: str) -> str:
    return "\n\n".join(_joined(each.splitlines()) for each in text.strip().split("\n\n"))


PAGES = MappingProxyType(
    {
        "commands.md": commands_page,
        "settings.md": settings_page,
        "flags.md": flags_page,
        "python.md": python_page,
    }
)


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
        sys.stdout.write(f"{FOLDER / name}\n")


if __name__ == "__main__":
    main()
