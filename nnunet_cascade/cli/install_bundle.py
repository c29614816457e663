"""`nnc-install-bundle`: check a bundle from somebody else and unpack it."""

from __future__ import annotations

import argparse
from math import inf

from nnunet_cascade.cli.common import DONE, CommandParser, new_command
from nnunet_cascade.cli.options import add_trust
from nnunet_cascade.errors import SettingsError


def build_parser() -> CommandParser:
    """Describe the command."""
    parser = CommandParser(
        "nnc-install-bundle",
        "Check a bundle that nnc-export-bundle packed, and unpack it.",
        "nnc-install-bundle cascade.zip -o BUNDLE",
    )
    files = parser.options("input and output")
    files.path("file", "FILE.zip", "file that nnc-export-bundle wrote")
    files.path("-o", "BUNDLE", "folder to make; it must not exist yet")
    checks = parser.options("checks")
    checks.switch("--check", "only check, and leave nothing on the disk")
    checks.number("--max_gb", "GB", "refuse files that unpack to more than this, in 10⁹ bytes", default=50.0)
    add_trust(checks)
    return parser


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.bundles.archive import ArchiveLimits

    if args.check == (args.o is not None):
        raise SettingsError("give either -o BUNDLE or --check")
    if not 0 < args.max_gb < inf:
        raise SettingsError(f"--max_gb {args.max_gb}; expected a positive number")
    from nnunet_cascade.bundles.sharing import check_bundle, install_bundle

    limits = ArchiveLimits(bytes=int(args.max_gb * 1e9))
    if args.check:
        check_bundle(args.file, limits=limits, trusted=args.trust_checkpoint)
        print(f"{args.file} is complete and loads; next: nnc-install-bundle {args.file} -o BUNDLE")
        return DONE
    install_bundle(args.file, args.o, limits=limits, trusted=args.trust_checkpoint)
    print(
        f"{args.o}\nread {args.o / 'MODEL_CARD.md'} first; next: nnc-cascade-predict -i IMAGES -o RESULTS -m {args.o}"
    )
    return DONE


main = new_command(build_parser, _body, __name__)
