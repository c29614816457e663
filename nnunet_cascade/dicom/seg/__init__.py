"""DICOM SEG: segments to masks and masks to segments."""
