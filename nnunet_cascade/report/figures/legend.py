"""What stands above and below the panels, as lines of text."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nnunet_cascade.report.figures.facts import DrawnCandidate
from nnunet_cascade.report.figures.rows import FigureRows
from nnunet_cascade.report.figures.sources import FigureSources
from nnunet_cascade.report.figures.text import plain

_MOST_CANDIDATES = 8
_MOST_FLAGS = 12


def heading(sources: FigureSources, rows: FigureRows) -> tuple[str, str]:
    """Return the title: the case and where it is shown; then volume and flags."""
    facts, at = sources.facts, ", ".join(in_mm(height_mm) for height_mm in reversed(rows.heights_mm))
    volume = "volume unknown" if facts.volume_ml is None else f"tumor {facts.volume_ml:.1f} ml"
    lesions = "" if not facts.lesions else f" in {_counted(len(facts.lesions), 'lesion')}"
    sure = "" if facts.mean_in_tumor is None else f", mean {in_words(facts.measure)} {facts.mean_in_tumor:.3f}"
    flags = f"flags: {', '.join(facts.flags[:_MOST_FLAGS])}" if facts.flags else "no flags"
    told = f"{volume}{lesions}{sure} · {flags}" if facts.known else "no record: verdicts, volume and flags are unknown"
    return plain(f"{sources.request.case} · axial, {at}"), plain(told)


def in_mm(height_mm: float) -> str:
    """Return where a slice lies."""
    return f"S {round(height_mm, 1) + 0.0:.1f} mm".replace("-", "−")


def in_words(measure: str) -> str:
    """Return a measure's name with spaces."""
    return measure.replace("_", " ")


def shown_candidates(sources: FigureSources, rows: FigureRows) -> dict[int, DrawnCandidate]:
    """Return the candidates that the slices meet, by number."""
    labels = rows.candidates.planes
    there = set() if labels is None else set(np.unique(labels).tolist())
    return {candidate.id: candidate for candidate in sources.facts.candidates if candidate.id in there}


def verdicts(sources: FigureSources, rows: FigureRows) -> list[str]:
    """Return a line for each candidate that is shown, then for the largest others, then how many there are besides."""
    shown = shown_candidates(sources, rows)
    others = [candidate for candidate in sources.facts.candidates if candidate.id not in shown]
    named = list(shown.values())[:_MOST_CANDIDATES]
    room = _MOST_CANDIDATES - len(named)
    more = len(shown) - len(named) + len(others[room:])
    lines = [_verdict(candidate) for candidate in named]
    lines += [f"{_verdict(candidate)} (on other slices)" for candidate in others[:room]]
    if more:
        lines.append(f"and {_counted(more, 'more candidate')}, which the record {sources.request.case}.json tells of")
    return [plain(line) for line in lines or _no_candidates(sources)]


def _no_candidates(sources: FigureSources) -> Iterable[str]:
    return ["stage 1 found no candidate"] if sources.facts.known else ["no record: candidates are unknown"]


def _verdict(candidate: DrawnCandidate) -> str:
    said = {True: "kept", False: "dropped", None: "no verdict"}[candidate.kept]
    return f"{candidate.id}  {said}, {candidate.volume_ml:.2f} ml: {candidate.reason or 'no reason is told'}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
