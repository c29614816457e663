"""`nnc-install-bundle`: a bundle that somebody sent, checked before it is used."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from math import inf
from pathlib import Path

from nnunet_cascade.cli.common import DONE, add_trust, new_parser, run_command
from nnunet_cascade.errors import SettingsError


def build_parser() -> argparse.ArgumentParser:
    """Describe the command."""
    parser = new_parser("nnc-install-bundle", "Check a bundle that nnc-export-bundle packed, and unpack it.")
    parser.add_argument("file", type=Path, metavar="FILE.zip", help="as nnc-export-bundle wrote it")
    parser.add_argument("-o", type=Path, metavar="FOLDER", help="bundle to make; it must not be there yet")
    parser.add_argument("--check", action="store_true", help="only check; nothing is left on the disk")
    parser.add_argument("--max_gb", type=float, default=50.0, help="refuse what unpacks to more, in 10⁹ bytes")
    add_trust(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser(), _body, argv)


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.bundles.archive import ArchiveLimits

    if args.check == (args.o is not None):
        raise SettingsError("give either -o FOLDER or --check")
    if not 0 < args.max_gb < inf:
        raise SettingsError(f"--max_gb {args.max_gb}; expected a positive number")
    from nnunet_cascade.bundles.sharing import check_bundle, install_bundle

    limits = ArchiveLimits(bytes=int(args.max_gb * 1e9))
    if args.check:
        check_bundle(args.file, limits=limits, trusted=args.trust_checkpoint)
        print(f"{args.file} is whole and loads; next: nnc-install-bundle {args.file} -o FOLDER")
        return DONE
    install_bundle(args.file, args.o, limits=limits, trusted=args.trust_checkpoint)
    print(
        f"{args.o}\nread {args.o / 'MODEL_CARD.md'} first; next: nnc-cascade-predict -i IMAGES -o RESULTS -m {args.o}"
    )
    return DONE
