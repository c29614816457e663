"""Which regions of a patient become which label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from nnunet_cascade.errors import DicomError, SettingsError

Names = Mapping[int, Sequence[str]]
"""For the number of each region (ROI, segment) what it is called, the most trusted name first."""
_MOST = 255  # values of a byte, which labels are written in
_IGNORE = "ignore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A label of the dataset and the regions it is made from.

    Attributes:
        name: Name in dataset.json.
        regions: Names of the region. Case and outer blanks do not matter; `*` stands for any
            characters, `?` for any one.
        merge: Unite all regions that match. Otherwise the first name that exists counts, and only
            one region may have it.
        required: A patient without the label is skipped. Otherwise the label is empty there.
        needs: A region that must exist whatever else matches; empty for none.

    Raises:
        SettingsError: A name or all spellings are missing.
    """

    name: str
    regions: tuple[str, ...]
    merge: bool = False
    required: bool = True
    needs: str = ""

    def __post_init__(self) -> None:
        if not self.name.strip() or not all(region.strip() for region in self.regions) or not self.regions:
            raise SettingsError(f"label {self.name!r} from {self.regions}; expected a name and at least one region")
        if self.name.strip().lower() == "background":
            raise SettingsError('a label named "background"; that is what lies outside all labels: choose another name')

    @classmethod
    def parsed(cls, text: str, *, merge: bool = False, required: bool = True) -> Label:
        """Read NAME=REGION[,REGION…] as on the command line.

        Raises:
            SettingsError: It is not of that form.
        """
        name, equals, regions = text.partition("=")
        if not equals:
            raise SettingsError(f"label {text!r}; expected NAME=REGION[,REGION...], such as tumor=GTV-1,GTV1")
        spellings = tuple(region.strip() for region in regions.split(",") if region.strip())
        return cls(name=name.strip(), regions=spellings, merge=merge, required=required)

    def chosen(self, names: Names) -> tuple[int, ...]:
        """Return the numbers of the regions this label is made from; none if it may be missing.

        Raises:
            DicomError: A required region is not there, or a name stands for two regions.
        """
        if self.needs and not _matching(self.needs, names):
            raise DicomError(f"found no region named {self.needs!r}; there are: {_there(names)}")
        found = [numbers for spelling in self.regions if (numbers := _matching(spelling, names))]
        if not found:
            if self.required:
                raise DicomError(f"found no region named {_listed(self.regions)}; there are: {_there(names)}")
            return ()
        if self.merge:
            return tuple(sorted({number for numbers in found for number in numbers}))
        if len(found[0]) > 1:
            alike = _there({number: names[number] for number in found[0]})
            raise DicomError(
                f"found {len(found[0])} regions named {_listed(self.regions)} ({alike}); "
                "expected one: name it exactly, or merge them"
            )
        return (found[0][0],)


def require_distinct(labels: Sequence[Label]) -> None:
    """Raise a SettingsError unless there are 1 to 255 labels, no name stands twice, and "ignore" comes last."""
    names = [label.name for label in labels]
    if not 1 <= len(names) <= _MOST or len(set(names)) < len(names):
        raise SettingsError(f"{len(names)} labels {names[:5]}; expected 1 to {_MOST}, each name once")
    if _IGNORE in names[:-1]:
        raise SettingsError(f'a label "{_IGNORE}" before others; nnU-Net expects it last: give it last')


def _matching(spelling: str, names: Names) -> list[int]:
    """Return the regions of a name; a region goes by a less trusted name only if none has it as a more trusted one."""
    depth = max((len(called) for called in names.values()), default=0)
    for trust in range(depth):
        found = [number for number, called in names.items() if trust < len(called) and _is(spelling, called[trust])]
        if found:
            return found
    return []


def _is(spelling: str, name: str) -> bool:
    # A bracket is a bracket here: names of regions hold them.
    pattern = spelling.strip().casefold().replace("[", "[[]")
    return fnmatchcase(name.strip().casefold(), pattern)


def _listed(names: Sequence[str]) -> str:
    return " or ".join(repr(name) for name in names)


def _there(names: Names) -> str:
    return ", ".join(repr(called[0]) for called in names.values() if called) or "none"
