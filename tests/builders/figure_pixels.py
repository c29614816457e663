"""A figure as pixels, in which a test finds what was drawn."""

import numpy as np
from builders.drawn_figures import GRID
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from nnunet_cascade.report.figures.drawing import compose_figure

CODES = ("LPS", "RAS", "LAS", "SPL", "AIR", "PSL")
PANELS = ("CT", "Ground truth", "Stage 1", "After anatomy rules", "Stage 2: tumor and uncertainty")
CT, GROUND_TRUTH, STAGE1, ANATOMY, RESULT = range(5)


class Drawn:
    """A figure as pixels, and where the millimetres of its panels lie in them."""

    def __init__(self, request):
        self.figure = compose_figure(request)
        canvas = FigureCanvasAgg(self.figure)
        canvas.draw()
        self.pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
        self.panels = self.figure.axes

    def texts(self, panel=None):
        of = self.figure if panel is None else self.panels[panel]
        return [text.get_text() for text in of.findobj(lambda artist: hasattr(artist, "get_text"))]

    def artists(self):
        """What draws a text that is not empty."""
        return [item for item in self.figure.findobj(lambda item: hasattr(item, "get_parse_math")) if item.get_text()]

    def said(self, panel=None):
        return " ".join(" ".join(self.texts(panel)).split())

    def pixel(self, panel, row, column):
        """Row and column of the picture at the centre of a pixel of the slice."""
        _, dy, dx = GRID.spacing_mm
        x, y = self.panels[panel].transData.transform(((column + 0.5) * dx, (row + 0.5) * dy))
        return round(self.pixels.shape[0] - y), round(x)

    def shade(self, panel, row, column):
        y, x = self.pixel(panel, row, column)
        return self.pixels[y, x]

    def colored(self, panel, color):
        """Where a panel has a color, in pixels (rows, columns) of the picture."""
        near = np.abs(self.pixels - np.array([round(255 * part) for part in to_rgb(color)])).max(axis=-1) <= 24
        box = self.panels[panel].get_window_extent()
        inside = np.zeros_like(near)
        height = self.pixels.shape[0]
        inside[round(height - box.y1) : round(height - box.y0), round(box.x0) : round(box.x1)] = True
        return np.argwhere(near & inside)

    def edges(self, panel, box):
        """First and last row and column of a box of voxels, in pixels."""
        top, left = self.pixel(panel, box.start[1] - 0.5, box.start[2] - 0.5)
        bottom, right = self.pixel(panel, box.stop[1] - 0.5, box.stop[2] - 0.5)
        return np.array([top, left, bottom, right])
