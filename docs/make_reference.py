"""Write the reference pages from the parsers, the settings and the flags: `make reference`."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Iterator
from inspect import getdoc
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

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
    parts = [f"### {command}", _marked(description), f"```bash\n{examples}\n```"]
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
    for word in text.split():
        bare = word.lstrip("(").rstrip(",.;:)")
        words.append(word if "`" in word or not _CODE.search(bare) else word.replace(bare, f"`{bare}`"))
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


PAGES = MappingProxyType({"commands.md": commands_page, "settings.md": settings_page, "flags.md": flags_page})


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
        sys.stdout.write(f"{FOLDER / name}\n")


if __name__ == "__main__":
    main()
