"""DICOM Structured Reports: findings and their measurements."""
