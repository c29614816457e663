"""DICOM Parametric Maps: images of numbers that keep their unit and what they are of."""
