"""Words, lines, colors and files of figures."""

from dataclasses import replace

import numpy as np
import pytest
from builders.drawn_figures import with_record
from builders.figure_pixels import CT, Drawn
from matplotlib.colors import to_rgb
from PIL import Image
from skimage.color import rgb2lab

from nnunet_cascade.errors import InputImageError, SettingsError
from nnunet_cascade.report.figures import palette
from nnunet_cascade.report.figures.drawing import draw_figure
from nnunet_cascade.report.figures.layout import plain, width_in, wrapped
from nnunet_cascade.report.figures.palette import DROPPED, LUNGS, PREDICTED, REGION, TRUTH
from nnunet_cascade.report.figures.request import Window

HOSTILE = ("<script>alert(1)</script>", "$\\frac{1}{2}$ & $unbalanced", "a_{b}^{c} \\textbf{x} %", "line\nbreak\ttab")


def test_markup_and_formulas_are_shown_as_text(own):
    candidates = [
        {"id": number, "volume_ml": 1.0, "verdict": {"kept": False, "reason": text}}
        for number, text in enumerate(HOSTILE, start=1)
    ]
    figure = Drawn(with_record(own, candidates=candidates, flags=list(HOSTILE)))
    shown = [" ".join(text.split()) for text in HOSTILE]
    assert f"flags: {', '.join(shown)}" in figure.said()
    for number, text in enumerate(shown, start=1):
        assert f"{number} dropped, 1.00 ml: {text}" in figure.said()
    assert not any(item.get_parse_math() or item.get_usetex() for item in figure.artists())


def test_long_reasons_and_names_are_wrapped_inside_the_figure(own):
    reason, name = "W" * 700 + " and so on" * 300, "W" * 200
    candidate = {"id": 1, "volume_ml": 1.0, "verdict": {"kept": False, "reason": reason}}
    figure = Drawn(replace(with_record(own, candidates=[candidate]), case=name))
    width = figure.pixels.shape[1]
    assert max(item.get_window_extent().x1 for item in figure.artists()) <= width
    assert "…" in figure.said()


def test_signs_that_the_font_lacks_stand_as_their_numbers():
    assert plain("肺 ß µ") == "\\u80ba ß µ"
    assert plain("a\x00b\u202ec") == "a b c"


def test_wrapping_keeps_every_sign_and_breaks_long_words():
    text = "one two three " + "x" * 50
    lines = wrapped(text, width_in=0.8, size_pt=8)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert max(width_in(line, 8) for line in lines) <= 0.8
    assert wrapped("", width_in=1, size_pt=8) == [""]
    assert wrapped("a b c d", width_in=0.01, size_pt=8, most_lines=2) == ["a", "…"]


def test_every_kind_of_line_has_a_style_of_its_own_and_those_of_a_panel_differ_without_color():
    lines = (TRUTH, PREDICTED, DROPPED, LUNGS, REGION)
    assert len({line.dashes for line in lines}) == len(lines)
    assert [line.name for line in lines if line.hatch] == ["dropped candidate"]
    for one, other in ((PREDICTED, DROPPED), (PREDICTED, LUNGS), (DROPPED, LUNGS), (PREDICTED, REGION)):
        lightness = rgb2lab([[to_rgb(line.color) for line in (one, other)]])[0, :, 0]
        assert abs(np.diff(lightness)) >= 15


def test_more_uncertainty_is_lighter_and_all_of_it_lighter_than_tissue_below():
    shades = rgb2lab(palette.heat(np.linspace(0, 1, 20, dtype=np.float32))[:, :3] / 255)[:, 0]
    assert (np.diff(shades) > 0).all()
    tissue = rgb2lab([[[palette.HEAT_BRIGHTNESS] * 3]])[0, 0, 0]
    assert shades[5:].min() > tissue


def test_windows_have_names_or_two_numbers_and_run_from_black_to_white():
    for text, level_hu, width_hu in (("mediastinum", 40, 400), ("-50.5,350", -50.5, 350)):
        assert Window.parsed(text) == Window(level_hu=level_hu, width_hu=width_hu)
    for text in ("liver", "1", "1,2,3", "40,-1", "nan,400", "40,0", "a,b", ""):
        with pytest.raises(SettingsError, match="window"):
            Window.parsed(text)
    shades = Window(level_hu=0, width_hu=200).shades(np.array([-500, -100, 0, 100, 900]))
    assert shades.tolist() == [0, 0, 128, 255, 255]


def test_the_window_changes_the_picture_and_is_told(request_of, drawn):
    bone = Drawn(replace(request_of, window=Window.parsed("bone")))
    assert bone.shade(CT, 3, 25)[0] < drawn.shade(CT, 3, 25)[0] - 50
    assert "CT window 400, 1800 HU." in bone.said()


@pytest.mark.parametrize(("ending", "begins"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_files_are_what_their_ending_says_and_tell_nothing_of_the_hour(request_of, tmp_path, ending, begins):
    path = tmp_path / f"figure.{ending}"
    draw_figure(request_of, path)
    content = path.read_bytes()
    assert content.startswith(begins)
    assert b"CreationDate" not in content
    assert b"dc:date" not in content
    assert b"nnunet-cascade" in content


def test_a_png_names_the_software_alone(request_of, tmp_path):
    path = tmp_path / "figure.png"
    draw_figure(request_of, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    with Image.open(path) as image:
        assert list(image.text) == ["Software"]
        assert image.text["Software"].startswith("nnunet-cascade ")


def test_a_figure_that_fails_leaves_the_file_that_was_there(own, tmp_path):
    path = tmp_path / "figure.png"
    path.write_bytes(b"before")
    with pytest.raises(InputImageError):
        draw_figure(replace(own, slice_mm=(999.0,)), path)
    assert path.read_bytes() == b"before"
    assert not list(tmp_path.glob(".*"))


def test_other_endings_and_numbers_of_slices_are_refused(request_of, tmp_path):
    with pytest.raises(SettingsError, match=r"figure\.gif: expected a name ending with \.png, \.pdf, \.svg"):
        draw_figure(request_of, tmp_path / "figure.gif")
    for slices in (0, 13):
        with pytest.raises(SettingsError, match=f"found {slices} slices"):
            replace(request_of, slices=slices)
