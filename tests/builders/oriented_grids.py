"""Grids in any orientation."""

from nnunet_cascade.geometry import Grid

ORIENTATIONS = ("LPS", "RAS", "LAS", "SPL", "AIR", "PSL")
_WORLD = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}


def grid_towards(code, shape, spacing_mm=(1.0, 1.0, 1.0)):
    """A grid whose x, y and z index grow towards the letters of a code."""
    z, y, x = (tuple(float(v) for v in _WORLD[letter]) for letter in reversed(code))
    return Grid(shape=shape, spacing_mm=spacing_mm, origin_mm=(3.0, -5.0, 7.0), axes=(z, y, x))
