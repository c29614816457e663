"""RTSTRUCT: contours to masks and masks to contours."""
