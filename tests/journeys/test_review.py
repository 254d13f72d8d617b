"""A review in a browser: the work list, and masks that are corrected with mouse and keys and saved on the scan's grid."""

import nibabel as nib
import numpy as np
import pytest
from browser import READY, needs_browser, open_browser
from drawn_scan import drawn
from nibabel.affines import apply_affine
from reviewed_folder import AFFINES, TOKEN, contents, serving, the_scan, write_reviewed

from strokelesion.pipeline.derivatives.result_names import CLASSES_MAP, MASK
from strokelesion.pipeline.review.decisions import read_decisions
from strokelesion.pipeline.review.saving import MANUAL_CLASSES, MANUAL_MASK, read_labels

pytestmark = needs_browser
LABELS = drawn()[1].labels
MAIN_MM, SUB_MM = (11.5, 24.5, 17.5), (31.5, 11.5, 29)
# A voxel away from both lesions.
FREE = (20, 40, 30)
# Where the mask is according to the page, in the scan's millimeters.
DRAWN_MM = """() => {
  const [nx, ny] = editor.size, found = [];
  editor.bitmap.forEach((label, n) => {
    const voxel = [n % nx, Math.floor(n / nx) % ny, Math.floor(n / (nx * ny))];
    if (label) found.push([...Array.from(viewer.frac2mm(viewer.vox2frac(voxel), 0, true)).slice(0, 3), label]);
  });
  return found;
}"""
# The place on the canvas of a position in millimeters, after going there.
PLACE = """(mm) => {
  viewer.scene.crosshairPos = viewer.mm2frac(mm, 0, true);
  viewer.drawScene();
  const [x, y] = viewer.frac2canvasPos(viewer.scene.crosshairPos);
  return [x / viewer.uiData.dpr, y / viewer.uiData.dpr];
}"""


RIM = """() => {
  const [nx, ny] = editor.size, at = (n) => [n % nx, Math.floor(n / nx) % ny, Math.floor(n / (nx * ny))];
  const inside = editor.found.find((lesion) => editor.bitmap[lesion[0]] === 2).map(at);
  editor.percent.forEach((_, n) => {
    const isNear = inside.some((voxel) => at(n).every((x, k) => Math.abs(x - voxel[k]) < 2));
    if (isNear && !editor.bitmap[n]) editor.percent[n] = 40;
  });
}"""
SLIDE = """(value) => {
  byId("threshold").value = value;
  for (const kind of ["input", "change"]) byId("threshold").dispatchEvent(new Event(kind));
}"""


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


@pytest.fixture
def page_of(browser):
    """Open a page; errors of its scripts and requests to elsewhere fail the test."""
    contexts, errors = [], []

    def open_page(address):
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: errors.append(request.url) if is_elsewhere(request.url) else None)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


def is_elsewhere(url):
    return not url.startswith(("http://127.0.0.1:", "file:", "data:", "blob:"))


def place(page, mm):
    """Return the place in the window of a position in the scan's millimeters, where the crosshair then is."""
    box = page.locator("#gl").bounding_box()
    x, y = page.evaluate(PLACE, [float(value) for value in mm])
    return box["x"] + x, box["y"] + y


def click_at(page, mm):
    page.mouse.click(*place(page, mm))


def drag(page, start_mm, end_mm):
    """Draw along a line, which lies in a slice."""
    end, start = place(page, end_mm), place(page, start_mm)
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=8)
    page.mouse.up()


def voxels_of(page, affine):
    """Return the drawn voxels of the scan and their labels, from the millimeters that the page gives."""
    drawn_mm = np.array(page.evaluate(DRAWN_MM)).reshape(-1, 4)
    voxels = apply_affine(np.linalg.inv(affine), drawn_mm[:, :3])
    np.testing.assert_allclose(voxels, voxels.round(), atol=0.01)
    labels = np.zeros_like(LABELS)
    labels[tuple(voxels.round().astype(int).T)] = drawn_mm[:, 3]
    return labels


@pytest.mark.parametrize("axes", AFFINES)
def test_what_is_drawn_in_the_page_is_on_the_disk_in_the_grid_of_the_scan_and_there_again(axes, page_of, tmp_path):
    affine, name = AFFINES[axes], f"sub-{axes}"
    main, sub, free = (apply_affine(affine, voxel) for voxel in ((11, 24, 17), (31, 11, 29), FREE))
    along = affine[:3, np.abs(affine[0, :3]).argmax()]  # a step to the side, in the axial slice
    folder = write_reviewed(tmp_path / "out", [axes])
    automatic = the_scan(folder, name).path(MASK).read_bytes()
    with serving(folder) as client:
        page = page_of(f"{client.address}pages/{name}.html")
        page.wait_for_selector(READY)
        np.testing.assert_array_equal(voxels_of(page, affine), LABELS)

        page.fill("#initials", "AB")
        page.locator("#size").fill("1")
        page.keyboard.press("d")
        click_at(page, free)  # one voxel
        one = LABELS.copy()
        one[FREE] = 1
        np.testing.assert_array_equal(voxels_of(page, affine), one)
        drag(page, free, free + 6 * along)
        line = voxels_of(page, affine)
        assert (line != one).sum() >= 5
        page.keyboard.press("e")
        click_at(page, free)
        page.keyboard.press("x")
        click_at(page, sub)
        assert (voxels_of(page, affine) == 2).sum() == 0
        page.keyboard.press("z")
        expected = line.copy()
        expected[FREE] = 0
        np.testing.assert_array_equal(voxels_of(page, affine), expected)
        page.keyboard.press("c")
        click_at(page, main)
        expected[LABELS == 1] = 2
        page.keyboard.press("x")
        click_at(page, sub)
        expected[LABELS == 2] = 0
        np.testing.assert_array_equal(voxels_of(page, affine), expected)
        page.keyboard.press("s")
        page.get_by_text("Saved beside the automatic mask").wait_for()

        scan = the_scan(folder, name)
        np.testing.assert_array_equal(read_labels(scan), expected)
        assert scan.path(MASK).read_bytes() == automatic
        assert nib.load(scan.path(MANUAL_MASK)).header == nib.load(scan.path(MASK)).header
        assert read_decisions(folder)[name].status == "corrected"
        page.reload()
        page.wait_for_selector(READY)
        np.testing.assert_array_equal(voxels_of(page, affine), expected)
        assert page.locator("#status").inner_text() == "corrected"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return write_reviewed(tmp_path_factory.mktemp("results") / "out")


def test_an_older_save_of_a_second_page_is_refused_with_a_message_and_its_drawing_stays(page_of, tmp_path):
    folder = write_reviewed(tmp_path / "out")
    with serving(folder) as client:
        first, second = (page_of(f"{client.address}pages/sub-RAS.html") for _ in range(2))
        for page in (first, second):
            page.wait_for_selector(READY)
            page.fill("#initials", "AB")
            page.keyboard.press("Enter")
            page.keyboard.press("x")
            click_at(page, apply_affine(AFFINES["RAS"], MAIN_MM if page is first else SUB_MM))
        first.keyboard.press("s")
        first.get_by_text("Saved beside").wait_for()
        before = contents(folder)
        second.keyboard.press("s")
        second.get_by_text("was changed elsewhere").wait_for()
        assert contents(folder) == before
        assert set(np.unique(read_labels(the_scan(folder)))) == {0, 2}
        assert set(np.unique(voxels_of(second, AFFINES["RAS"]))) == {0, 1}


def test_a_lesion_grows_and_shrinks_with_the_probability(results, page_of):
    """The probability is 90 % in the lesions and 10 % elsewhere; here, a rim of 40 % is put around one of them."""
    with serving(results) as client:
        page = page_of(f"{client.address}pages/sub-RAS.html")
        page.wait_for_selector(READY)
        page.evaluate(RIM)
        page.keyboard.press("g")
        click_at(page, apply_affine(AFFINES["RAS"], SUB_MM))
        assert page.locator("#percent").inner_text() == "90 %"
        sizes = {}
        for threshold in (40, 95, 41, 90):
            page.evaluate(SLIDE, threshold)
            sizes[threshold] = int((voxels_of(page, AFFINES["RAS"]) == 2).sum())
        size = int((LABELS == 2).sum())
        assert sizes == {40: 6 * 6 * 5, 95: 0, 41: size, 90: size}
        page.evaluate(SLIDE, 95)
        click_at(page, apply_affine(AFFINES["RAS"], SUB_MM))  # what is added has the probability of this voxel
        np.testing.assert_array_equal(voxels_of(page, AFFINES["RAS"]) > 0, LABELS > 0)


def test_a_closed_line_of_the_pen_is_filled_if_that_is_wanted(results, page_of):
    with serving(results) as client:
        page = page_of(f"{client.address}pages/sub-RAS.html")
        page.wait_for_selector(READY)
        page.locator("#size").fill("1")
        square = ((18, 36, 34), (26, 36, 34), (26, 44, 34), (18, 44, 34))
        corners = [place(page, apply_affine(AFFINES["RAS"], corner)) for corner in square]
        added = []
        for _ in range(2):
            page.keyboard.press("d")
            page.mouse.move(*corners[0])
            page.mouse.down()
            for corner in (*corners[1:], corners[0]):
                page.mouse.move(*corner, steps=8)
            page.mouse.up()
            added.append(int((voxels_of(page, AFFINES["RAS"]) > 0).sum() - (LABELS > 0).sum()))
            page.keyboard.press("z")
            page.keyboard.press("f")
        assert added == [4 * 8, 9 * 9]


def test_without_a_server_the_page_hands_out_the_corrected_mask_as_files_on_the_grid_of_the_scan(page_of, tmp_path):
    folder = write_reviewed(tmp_path / "out", ["oblique"])
    scan, affine = the_scan(folder, "sub-oblique"), AFFINES["oblique"]
    page = page_of(f"file://{folder}/pages/sub-oblique.html")
    page.wait_for_selector(READY)
    assert not page.locator("#review").is_visible()
    page.keyboard.press("x")
    click_at(page, apply_affine(affine, MAIN_MM))
    files = []
    page.on("download", lambda file: files.append(file))
    with page.expect_download(lambda download: "dseg" in download.suggested_filename):
        page.click("#save")
    expected = np.where(LABELS == 2, 2, 0)
    wanted = {MANUAL_MASK: (MASK, expected > 0), MANUAL_CLASSES: (CLASSES_MAP, expected)}
    saved = {file.suggested_filename: file.path() for file in files}
    assert set(saved) == {scan.path(file).name for file in wanted}
    for file, (automatic, voxels) in wanted.items():
        image = nib.load(saved[scan.path(file).name].rename(tmp_path / scan.path(file).name))
        np.testing.assert_array_equal(np.asarray(image.dataobj), voxels)
        assert image.header == nib.load(scan.path(automatic)).header


def test_the_work_list_goes_by_keys_and_shows_what_others_have_saved(page_of, tmp_path):
    folder = write_reviewed(tmp_path / "out", ["RAS", "LPS", "PSR"])
    order = "() => [...document.querySelectorAll('article')].filter((one) => !one.hidden).map((one) => one.dataset.name)"
    with serving(folder) as client:
        page = page_of(client.address)
        page.wait_for_selector(READY)
        page.keyboard.press("a")
        page.get_by_text("Enter your initials first").wait_for()
        assert read_decisions(folder) == {}
        page.fill("#initials", "AB")
        page.keyboard.press("Enter")
        names = page.evaluate(order)
        for key, name, status in (("a", names[0], "accepted"), ("r", names[1], "rejected")):
            page.keyboard.press(key)
            page.get_by_text(f"{name}: {status}").wait_for()
            assert (read_decisions(folder)[name].status, read_decisions(folder)[name].initials) == (status, "AB")
        page.select_option("#of-status", "pending")
        assert page.evaluate(order) == names[2:]
        client.put_decision(names[2], status="rejected", initials="CD")
        page.keyboard.press("a")
        page.get_by_text("was changed elsewhere").wait_for()
        assert read_decisions(folder)[names[2]].initials == "CD"
        page.select_option("#of-status", "")
        page.click("[data-by=status]")
        assert page.locator("article .status").all_text_contents() == ["accepted", "rejected", "rejected"]
        page.fill(f"article[data-name={names[0]}] input", "good")
        page.keyboard.press("Enter")
        page.get_by_text(f"{names[0]}: accepted").wait_for()
        assert read_decisions(folder)[names[0]].note == "good"

        page.click(f"article[data-name={names[0]}] h2 a")  # its pages lead from one to the next in the order of the list
        page.wait_for_selector(READY)
        assert page.locator("#note").input_value() == "good"
        page.keyboard.press("r")
        page.wait_for_url(lambda address: names[0] not in address)
        assert read_decisions(folder)[names[0]].status == "rejected"
        assert TOKEN in page.url


def test_without_webgl_there_are_slices_and_a_decision_can_be_made(page_of, tmp_path):
    folder = write_reviewed(tmp_path / "out")
    with serving(folder) as client:
        page = page_of(client.address)
        page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
        page.goto(f"{client.address}pages/sub-RAS.html")
        page.wait_for_selector(READY)
        assert page.locator("#mosaic").is_visible()
        assert not page.locator("#viewer").is_visible()
        page.fill("#initials", "AB")
        page.click("#accept")
        page.get_by_text("Saved: accepted").wait_for()
        assert read_decisions(folder)["sub-RAS"].status == "accepted"
