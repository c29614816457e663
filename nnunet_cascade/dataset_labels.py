"""Which labels a `dataset.json` of nnU-Net has, and which of them, and of a network's channels, are the tumor."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from nnunet_cascade.errors import DatasetError, SettingsError

CUT_FROM = "nnunet_cascade_cut_from"
"""Key in the `dataset.json` of crops, which nnU-Net copies to their models: `dataset` and `tumor_labels`, values."""
_NO_TUMOR = ("background", "ignore")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetLabels:
    """The labels of a dataset or of a model.

    Attributes:
        values: Of each foreground label, by name, in the order of `dataset.json`. A region may have several.
        known: All values, also those of background and ignore.
        is_region_based: Whether a network has one channel for each label, in the order of
            `values`, with a probability of its own. Otherwise the number of a channel is the
            value of its label, and the probabilities of all channels add up to 1.
        where: Names the file in messages.
    """

    values: Mapping[str, frozenset[int]]
    known: frozenset[int]
    is_region_based: bool
    where: str

    @classmethod
    def of(cls, dataset_json: Mapping[str, Any], *, where: str) -> DatasetLabels:
        """Read the labels of a `dataset.json`.

        Raises:
            DatasetError: They are not as nnU-Net's.
        """
        labels: Any = dataset_json.get("labels")
        if not isinstance(labels, Mapping):
            raise DatasetError(
                f"{where}: labels is {_short(labels)}; expected numbers by name, as in nnU-Net's dataset.json"
            )
        found = cast("Mapping[str, Any]", labels)
        values = {name: _numbers(name, value, where=where) for name, value in found.items()}
        background = frozenset({0})
        return cls(
            values={name: own for name, own in values.items() if name not in _NO_TUMOR and own != background},
            known=background.union(*values.values()),
            is_region_based=any(isinstance(value, (list, tuple)) and len(value) > 1 for value in found.values()),
            where=where,
        )

    def values_of(self, asked: Collection[str | int]) -> frozenset[int]:
        """Return the label values of the tumor.

        Args:
            asked: Labels of which the tumor is the union: names, or values as text or number. If
                empty, the only label.

        Raises:
            SettingsError: A name or a value is no label, or there are several labels and none is asked for.
        """
        if not asked and len(self.values) != 1:
            raise SettingsError(f"{self.where} has the labels {self._names}; say which is tumor by --tumor_label")
        every = frozenset[int]().union(*self.values.values())
        found: set[int] = set()
        for label in asked or self.values:
            if isinstance(label, str) and label in self.values:
                found |= self.values[label]
            elif (isinstance(label, int) or label.isdecimal()) and int(label) in every:
                found.add(int(label))
            else:
                raise SettingsError(f"{self.where} has no label {str(label)!r}; found {self._names}")
        return frozenset(found)

    def names_of(self, tumor: Collection[int]) -> tuple[str, ...]:
        """Return the names of the labels that are the tumor; of regions, the one that has exactly its values.

        Raises:
            SettingsError: A value is no label, no region has exactly these values, or several have.
        """
        wanted = self.values_of(frozenset(tumor)) if tumor else frozenset[int]()
        if self.is_region_based:
            names = [name for name, own in self.values.items() if own == wanted]
        else:
            names = [name for name, own in self.values.items() if own <= wanted]
        if not names or (self.is_region_based and len(names) > 1):
            which = "several regions are" if names else "no region is"
            raise SettingsError(
                f"{self.where}: {which} exactly {_listed(tumor)}; found {self}; name that of the tumor by --tumor_label"
            )
        return tuple(names)

    def channels_of(self, tumor: Collection[int]) -> tuple[int, ...]:
        """Return the channels whose probabilities add up to that of the tumor.

        Returns:
            Numbers of channels: of labels one for each value, of regions a single one; none if
            not exactly one region has these values.
        """
        if not self.is_region_based:
            return tuple(sorted(tumor))
        found = [number for number, own in enumerate(self.values.values()) if own == frozenset(tumor)]
        return tuple(found) if len(found) == 1 else ()

    @property
    def _names(self) -> str:
        return ", ".join(self.values)

    def __str__(self) -> str:
        """Return names and values, such as `primary 1, both [1, 2]`."""
        return ", ".join(f"{name} {min(own) if len(own) == 1 else sorted(own)}" for name, own in self.values.items())


def _numbers(name: str, value: Any, *, where: str) -> frozenset[int]:
    each = value if isinstance(value, (list, tuple)) else [value]
    return frozenset(_whole(each, told=f"{where}: label {name} is {_short(value)}"))


def _whole(values: Any, *, told: str) -> tuple[int, ...]:
    try:
        found = tuple(int(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        found = ()
    if not found:
        raise DatasetError(f"{told}; expected a whole number, or a list of them")
    return found


def _listed(values: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(values)))


def _short(found: Any) -> str:
    text = repr(found)
    return text if len(text) <= 80 else f"{text[:77]}…"
