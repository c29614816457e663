"""Series to read and write."""

from builders.placed_series import as_read, axial_grid, placed_grid, series_of, write_slices  # noqa: F401 - fixtures
