"""Codes that several kinds of DICOM objects use."""

from __future__ import annotations

from pydicom.sr.coding import Code

ALTERED_STRUCTURE = Code("49755003", "SCT", "Morphologically Altered Structure")
"""The category of tumors."""
PRIMARY_NEOPLASM = Code("86049000", "SCT", "Neoplasm, Primary")
"""The type of primary tumors."""
LUNG = Code("39607008", "SCT", "Lung")
"""Where they were looked for."""
NO_UNITS = Code("1", "UCUM", "no units")
"""Of numbers that are counts or ratios."""
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
"""The family of algorithms that all of ours belong to."""
