"""Codes of what the uncertainty maps show.

The variance has a code of UMLS that DICOM's context group of statistics (CID 7464) uses. For
entropy of predictions and mutual information there is none in DICOM, SNOMED CT or UMLS that
means them and not an image's texture: they have codes of our own, scheme `99NNC`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.sr.coding import Code

from nnunet_cascade.dicom.writing import LONGEST_LABEL, require_text
from nnunet_cascade.uncertainty_measures import MEASURES, Measure

OWN_SCHEME = "99NNC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One measure of uncertainty in DICOM's words.

    Attributes:
        code: What it is.
        label: In at most 16 characters.
        explanation: In at most 64.
        largest: What it can reach; the window of viewers is from 0 to it.

    Raises:
        DicomError: DICOM cannot hold a text.
    """

    code: Code
    label: str
    explanation: str
    largest: float

    def __post_init__(self) -> None:
        require_text(self.label, what="a map's label", longest=LONGEST_LABEL)
        require_text(self.explanation, what="a map's explanation")


QUANTITIES: dict[Measure, Quantity] = {
    "variance": Quantity(
        code=Code("C1711260", "UMLS", "Variance"),
        label="VARIANCE",
        explanation="population variance of the tumor probability over samples",
        largest=MEASURES["variance"].largest,
    ),
    "predictive_entropy": Quantity(
        code=Code("pred-entropy", OWN_SCHEME, "Predictive entropy"),
        label="ENTROPY",
        explanation="binary entropy of the mean tumor probability, nats",
        largest=MEASURES["predictive_entropy"].largest,
    ),
    "mutual_information": Quantity(
        code=Code("mutual-info", OWN_SCHEME, "Mutual information"),
        label="MUTUAL_INFO",
        explanation="entropy of the mean less mean entropy of the samples, nats",
        largest=MEASURES["mutual_information"].largest,
    ),
}
"""By what the settings call it; code values have at most 16 characters."""
