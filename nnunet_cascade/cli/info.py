"""`nnc-info`: what is installed, what this machine has, and what a bundle contains."""

from __future__ import annotations

import argparse

from nnunet_cascade.cli.commands import COMMANDS
from nnunet_cascade.cli.common import DONE, FAILED, CommandParser, new_command


def build_parser() -> CommandParser:
    """Describe the command."""
    parser = CommandParser(
        "nnc-info",
        "Show the installed versions, the devices, nnU-Net's folders and trainers, and the contents of a bundle.",
        "nnc-info -m BUNDLE",
    )
    files = parser.options("input and output")
    files.path("-m", "BUNDLE", "also show what this bundle contains, and check its files")
    files.switch("--json", "print JSON")
    return parser


def _body(args: argparse.Namespace) -> int:
    import json

    from nnunet_cascade.workflows.installation_info import collect_info, found_problems, info_lines

    found = collect_info(args.m)
    problems = found_problems(found)
    info = {**found, "commands": COMMANDS, "problems": problems}
    print(json.dumps(info, indent=1, ensure_ascii=False) if args.json else "\n".join(info_lines(info)))
    return FAILED if problems else DONE


main = new_command(build_parser, _body, __name__)
