"""Names of folders for cases, whatever the cases are called."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_ODD = re.compile(r"[^A-Za-z0-9_-]+")
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def folder_names(cases: Iterable[str]) -> dict[str, str]:
    """Return each case a folder name of letters, digits and `_.-`, which no other case has, capitals aside.

    A plain name stays; another one loses what is odd and gets the beginning of its SHA-256.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for case in sorted(cases):
        plain = _PLAIN.fullmatch(case) and not case.endswith(".") and not _DEVICES.fullmatch(case)
        name = case if plain and case.casefold() not in taken else _made(case)
        taken.add(name.casefold())
        names[case] = name
    return names


def _made(case: str) -> str:
    digest = hashlib.sha256(case.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{_ODD.sub('_', case)[:60].strip('_') or 'case'}-{digest}"
