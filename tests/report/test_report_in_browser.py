"""What a browser makes of a report: nothing here is told by the pages' text alone."""

import io
import json
import shutil
from contextlib import contextmanager
from urllib.parse import quote

import numpy as np
import pytest
from builders.small_run import SHAPE, SPACING_MM, SmallRun
from matplotlib.image import imread

from nnunet_cascade.errors import ReportError
from nnunet_cascade.report.build import make_report
from nnunet_cascade.report.collect import ReportRequest
from nnunet_cascade.report.figures.palette import heat
from nnunet_cascade.report.pages.names import folder_names
from nnunet_cascade.report.viewing.niivue import place_niivue
from nnunet_cascade.report.viewing.viewer import LAYERS

EVIL = "<img src=x onerror=alert(1)>"
TURNED = "turned"
SOFTWARE = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage")
VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


@pytest.fixture(scope="module")
def chromium():
    """Debian's Chromium, drawing without a GPU."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no chromium; apt-get install chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=SOFTWARE)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report on three cases, with the viewer's library."""
    root = tmp_path_factory.mktemp("in_browser")
    try:
        place_niivue(root)
    except ReportError as error:
        pytest.skip(f"the viewer's library cannot be had: {error}")
    run = SmallRun(root / "run")
    run.write("case_1", flags=["roi_clipped"])
    run.write(EVIL, flags=[EVIL])
    run.write(TURNED, orientation="AIR", dropped=0)
    made = make_report(ReportRequest(results=run.results, output=root / "report", truths=run.truths, processes=1))
    assert made.problems == ()
    return made.index.parent


@pytest.fixture
def open_page(chromium):
    """Open a page in a browser of a given width; at the end nothing may have complained or been asked of others."""
    complaints, requests, pages = [], [], []

    @contextmanager
    def opened(url, width=1280, **options):
        context = chromium.new_context(viewport={"width": width, "height": 700}, **options)
        context.add_init_script(VIOLATIONS)
        page = context.new_page()
        page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: requests.append(request.url))
        pages.append(url)
        page.goto(url)
        yield page
        complaints.extend(page.evaluate("window.violations"))
        context.close()

    yield opened
    assert complaints == []
    allowed = ("file:", "data:", "blob:") if pages[0].startswith("file:") else ("http://127.0.0.1:", "data:", "blob:")
    assert [url for url in requests if not url.startswith(allowed)] == []


def case_url(server, case):
    """The page of a case, as the index links it."""
    return f"{server.url}cases/{quote(folder_names([case])[case])}/index.html"


def picture(page):
    """What is drawn, (Y, X, channels) from 0 to 1, when it is ready."""
    page.locator("#viewer").scroll_into_view_if_needed()
    page.wait_for_selector("#viewer-app[data-state=ready]", timeout=120_000)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    drawn = imread(io.BytesIO(page.locator("#viewer-canvas").screenshot()))
    return drawn[5:-5, 5:-5, :3]  # without the ring of the focus


def differ(one, other):
    """Whether more of two pictures differs than noise would."""
    return np.mean(np.abs(one - other).max(axis=-1) > 0.05) > 2e-4


def values(page):
    """What is told of the place under the cross, by name."""
    rows = page.locator("#viewer-values > div")
    return dict(row.split("\n") if "\n" in row else row.split(":\n") for row in rows.all_inner_texts())


@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_fits_its_window_and_a_name_that_is_html_is_shown_and_not_obeyed(server, open_page, width):
    with open_page(server.url, width) as page:
        for address in (server.url, case_url(server, "case_1"), case_url(server, EVIL)):
            page.goto(address)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("h1").inner_text() == EVIL
        assert page.locator("img[src=x]").count() == 0


def test_a_table_that_is_wider_than_the_page_goes_on_by_keyboard(server, open_page):
    with open_page(server.url, 390) as page:
        box = page.locator(".scroll:has(#cases)")
        assert box.evaluate("box => box.scrollWidth > box.clientWidth")
        assert "local" in box.evaluate("box => getComputedStyle(box).backgroundAttachment")  # a shadow where it goes on
        box.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function("box => box.scrollLeft > 0", arg=box.element_handle())


def test_a_click_on_a_head_sorts_the_table_the_next_one_turns_it_around_and_filters_leave_what_fits(server, open_page):
    with open_page(server.url) as page:
        names = page.locator("#cases tbody tr th")
        before = names.all_inner_texts()
        assert sorted(before) == sorted(["case_1", EVIL, TURNED])
        page.click("#cases thead button:text-is('Case')")
        assert names.all_inner_texts() == sorted(before)
        page.click("#cases thead button:text-is('Case')")
        assert names.all_inner_texts() == sorted(before)[::-1]
        page.click("#cases thead button:text-is('Dropped')")
        assert names.all_inner_texts()[-1] == TURNED

        shown = page.locator("#cases tbody tr:visible th")
        page.select_option("[name=flag]", "roi_clipped")
        assert shown.all_inner_texts() == ["case_1"]
        page.click("text=Show all")
        page.wait_for_selector(f"#cases tr:visible >> text={TURNED}")
        page.fill("[name=text]", "onerror")
        assert shown.all_inner_texts() == [EVIL]


@pytest.mark.parametrize("width", [1280, pytest.param(390, marks=pytest.mark.long)])
def test_the_viewer_draws_the_ct_and_follows_slices_window_and_opacity(server, open_page, width):
    with open_page(case_url(server, "case_1"), width) as page:
        first = picture(page)
        assert first.std() > 0.05
        assert len(np.unique(np.rint(first * 255))) > 10

        page.locator("#viewer-canvas").focus()
        page.keyboard.press("ArrowUp")
        assert differ(first, picture(page))
        page.keyboard.press("ArrowDown")
        assert not differ(first, picture(page))
        page.locator("#viewer-canvas").hover(position={"x": 100, "y": 120})
        page.mouse.wheel(0, 100)
        assert differ(first, picture(page))
        page.click("[name=go]")
        page.locator("[name=slice][data-axis='2']").fill("2")
        assert differ(first, picture(page))
        page.click("[name=go]")
        assert not differ(first, picture(page))

        page.click("button:text('mediastinum')")
        assert differ(first, picture(page))
        page.click("button:text('lung')")
        assert not differ(first, picture(page))
        page.fill("[name=width]", "3000")
        assert differ(first, picture(page))
        page.click("button:text('lung')")

        page.locator("[name=opacity][data-layer=tumor]").fill("1")
        assert differ(first, picture(page))
        page.locator("[name=opacity][data-layer=tumor]").fill("0.5")
        assert not differ(first, picture(page))
        assert page.evaluate("document.documentElement.scrollWidth") <= width

        # On a narrow page the sliders lie far below the canvas: hovering scrolls back to it.
        x, y = page.locator("#viewer-canvas").bounding_box()["width"] / 2, 100
        page.locator("#viewer-canvas").hover(position={"x": x, "y": y})
        box = page.locator("#viewer-canvas").bounding_box()
        page.mouse.down(button="right")
        page.mouse.move(box["x"] + x + 50, box["y"] + y + 40, steps=3)
        page.mouse.up(button="right")
        assert differ(first, picture(page))
        assert (page.input_value("[name=level]"), page.input_value("[name=width]")) != ("-600", "1500")


@pytest.mark.parametrize(
    ("width", "layers"),
    [(1280, ("candidates", "truth")), pytest.param(390, [layer.name for layer in LAYERS], marks=pytest.mark.long)],
)
def test_each_layer_is_shown_and_hidden(server, open_page, width, layers):
    with open_page(case_url(server, "case_1"), width) as page:
        first = picture(page)
        for layer in layers:
            box = page.locator(f"[name=layer][value={layer}]")
            begun = box.is_checked()
            box.set_checked(not begun)
            assert differ(first, picture(page)), layer
            box.set_checked(begun)
            assert not differ(first, picture(page)), layer


def pixels_at(page, z, y, x):
    """The axial slice through a voxel (foot to head, front to back, right to left), and its colors about the voxel."""
    page.check("[name=plane][value='0']")
    page.locator("[name=slice][data-axis='2']").fill(str(z))
    drawn = picture(page)
    lit = np.argwhere(drawn.max(axis=-1) > 0.02)
    (top, left), (bottom, right) = np.quantile(lit, (0, 1), axis=0)
    (_, height, width), (_, dy, dx) = SHAPE, SPACING_MM
    scale = min(drawn.shape[0] / (height * dy), drawn.shape[1] / (width * dx))
    middle = [(size - 1) / 2 for size in drawn.shape[:2]]
    row = round(middle[0] + (y + 0.5 - height / 2) * dy * scale)
    column = round(middle[1] + (x + 0.5 - width / 2) * dx * scale)
    assert top < row < bottom
    assert left < column < right
    return drawn[row - 2 : row + 3, column - 2 : column + 3].reshape(-1, 3)


def test_a_measure_is_clear_where_it_is_0_and_has_the_figures_color_elsewhere(server, open_page):
    with open_page(case_url(server, "case_1")) as page:
        picture(page)
        page.uncheck("[name=layer][value=tumor]")
        before = {z: pixels_at(page, z, 18, 9) for z in (11, 12)}
        for layer, share in (("uncertainty", 0.2), ("probability", 0)):
            page.check(f"[name=layer][value={layer}]")
            page.locator(f"[name=opacity][data-layer={layer}]").fill("1")
            clear, shown = (pixels_at(page, z, 18, 9) for z in (11, 12))
            page.uncheck(f"[name=layer][value={layer}]")
            assert np.abs(clear - before[11]).max() < 0.01
            assert np.ptp(clear, axis=-1).max() < 0.01
            expected = heat(np.array([share], dtype=np.float32))[:, :3] / 255 if share else before[12]
            assert np.abs(shown - expected).max() < 0.05


def test_places_of_the_record_are_where_the_viewer_goes_and_the_patients_right_is_on_the_left(server, open_page):
    """Also where the arrays run to the front, the right and the feet, with voxels of other sizes along each axis."""
    pictures = []
    for case in ("case_1", TURNED):
        with open_page(case_url(server, case)) as page:
            picture(page)
            told = json.loads(page.locator("#viewer-data").text_content())
            found = values(page)
            shown_mm = [float(part) for part in found["x, y, z (LPS)"].replace("−", "-").removesuffix(" mm").split(",")]
            assert np.allclose(shown_mm, told["places"][0]["lps_mm"], atol=3.1)  # half a voxel: it shows one's middle
            assert (found["CT"], found["final mask"]) == ("30 HU", "yes")
            page.check("[name=plane][value='0']")
            pictures.append(picture(page))
            if case != TURNED:
                page.click("[name=next]")
                page.select_option("[name=place]", label="candidate 2, dropped")
                assert (values(page)["CT"], values(page)["final mask"]) == ("40 HU", "no")
    middles = [np.argwhere(drawn[..., 2] - drawn[..., 0] > 0.2).mean(axis=0) for drawn in pictures]
    assert middles[0][1] < pictures[0].shape[1] / 2
    assert np.allclose(*middles, atol=2)


def test_without_its_ct_a_case_shows_its_maps_on_black(server, report, open_page):
    page = report / "cases" / "case_1" / "index.html"
    page.with_name("alone.html").write_text(page.read_text().replace('"ct": "ct.nii.gz"', '"ct": ""'))
    with open_page(case_url(server, "case_1").replace("index.html", "alone.html")) as page:
        drawn = picture(page)
        blue = drawn[..., 2] - drawn[..., 0] > 0.2
        assert blue.any()
        assert np.median(drawn[~blue]) == 0
        assert "CT" not in values(page)


@pytest.mark.long
def test_a_finger_moves_the_cross(server, open_page):
    with open_page(case_url(server, "case_1"), 390, has_touch=True) as page:
        picture(page)
        before = values(page)
        box = page.locator("#viewer-canvas").bounding_box()
        fingers = page.context.new_cdp_session(page)
        point = {"x": box["x"] + 0.6 * box["width"], "y": box["y"] + 0.12 * box["height"]}
        fingers.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
        page.wait_for_timeout(100)
        fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        assert values(page) != before


def test_a_browser_without_webgl_2_is_told_so(server, open_page):
    with open_page(server.url) as page:
        page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null;")
        page.goto(case_url(server, "case_1"))
        page.wait_for_selector("#viewer-app[data-state=failed] >> text=WebGL 2")


def test_table_and_figures_work_in_files_that_are_opened(report, open_page):
    with open_page((report / "index.html").as_uri()) as page:
        page.click("#cases thead button:text-is('Case')")
        page.click("#cases >> text=case_1")
        assert page.locator("figure img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
        page.wait_for_selector("#viewer-app[data-state=failed] >> text=--serve")
