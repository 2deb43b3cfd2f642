"""The pages and the panels in a real browser: what a reader meets, on a desk and on a phone."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from conftest import ROOT
from PIL import Image

from fer_utils.report import fingerprint
from fer_utils.report.__main__ import render_pages

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), 0
)
WITHOUT = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
           "--disable-background-networking", "--disable-component-update"]  # fmt: skip
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
PAGES = ["index", *CHAPTERS]
WIDTHS = {"desk": 1280, "phone": 390}
LARGEST = 3_000_000  # bytes of a page
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
PATIENCE = 300_000  # ms: until a cell has run on a busy machine

WITHOUT_DRIVER = "no browser driver: pip install -e '.[browser]'"
playwright = pytest.importorskip("playwright.sync_api", reason=WITHOUT_DRIVER)
Axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason=WITHOUT_DRIVER).Axe
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BROWSER, reason="no Chromium on this machine: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=BROWSER, args=WITHOUT)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The stored run's pages, rendered anew from what the notebooks hold."""
    folder = tmp_path_factory.mktemp("site")
    made = render_pages(fingerprint.chapters(ROOT / "notebooks"), folder, code=False)
    (folder / "html").mkdir()
    for path, page in made.items():
        path.write_bytes(page)
    return folder / "html"


@pytest.fixture(params=WIDTHS)
def page(browser, request):
    """An empty page of that width, which notes what it asks for and what it complains of."""
    context = browser.new_context(viewport={"width": WIDTHS[request.param], "height": 900})
    page = context.new_page()
    page.asked, page.complaints = [], []
    page.on("request", lambda asked: page.asked.append(asked.url))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda said: said.type in ("error", "warning")
            and page.complaints.append(said.text))  # fmt: skip
    yield page
    context.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_fits_its_width_and_has_no_barrier(site, page, name):
    path = site / f"{name}.html"
    assert path.stat().st_size <= LARGEST
    page.goto(path.as_uri())
    assert page.locator("h1").count() == 1
    assert page.asked[0] == path.as_uri()
    assert {url.partition(":")[0] for url in page.asked[1:]} <= {"data"}

    page.evaluate("document.querySelectorAll('details').forEach(box => box.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    cut = page.evaluate("""[...document.querySelectorAll("h1, h2, h3, p, img, summary, dd")]
        .filter(part => part.getBoundingClientRect().right > innerWidth + 1
                        && part.checkVisibility() && !part.closest(".skip, .unseen"))
        .map(part => part.outerHTML.slice(0, 80))""")
    assert cut == []

    found = Axe().run(page, options={"runOnly": WCAG}).response
    assert found["passes"]
    assert [(rule["id"], rule["nodes"][0]["html"][:120]) for rule in found["violations"]] == []
    assert page.complaints == []


def focused(page):
    return page.evaluate("document.activeElement.matches(':focus-visible') ? "
                         "document.activeElement.textContent.trim() : ''")  # fmt: skip


def test_a_page_can_be_read_with_the_keyboard_alone(site, page):
    page.goto((site / "03_confusion_matrix.html").as_uri())
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the text"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    for _ in range(30):
        page.keyboard.press("Tab")
        if focused(page) == "Show code":
            break
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.parentElement.open")


# -- JupyterLab ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab as `make lab` opens it, on a copy of the notebooks (it saves by itself)."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    cells = ["from fer_utils import explore\nfrom fer_utils.runs import Run",
             "explore.saliency(Run.load('fer2013'))", "explore.filters(Run.load('fer2013'))"]  # fmt: skip
    own = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    own.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(own, folder / "notebooks" / "panels.ipynb")
    start = re.search(r"default_url=(\S+)", (ROOT / "Makefile").read_text())[1]
    whole = folder / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    whole.parent.mkdir(parents=True)  # all cells are in the page, also those out of sight
    whole.write_text('{"windowingMode": "none"}')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {f"JUPYTER_{kind}_DIR": str(folder / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    places |= {"JUPYTER_CONFIG_PATH": str(ROOT / ".jupyter")}
    places |= {"JUPYTERLAB_SETTINGS_DIR": str(folder), "JUPYTERLAB_WORKSPACES_DIR": str(folder)}
    environment = os.environ | places | {"PYTHONPATH": str(ROOT), "FER_DATA": "", "FER_VOTES": ""}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
               f"--ServerApp.root_dir={folder}", f"--port={port}", "--ServerApp.port_retries=0",
               "--IdentityProvider.token=test", f"--LabApp.default_url={start}"]  # fmt: skip
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL,
                                  stdout=log, stderr=log)  # fmt: skip
    try:
        for _ in range(240):
            time.sleep(0.5)
            assert server.poll() is None, (folder / "log").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api").close()
                break
            except OSError:
                continue
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def desk(browser):
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(PATIENCE)
    yield context.new_page()
    context.close()


def run_all(page):
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
    page.get_by_text(re.compile(r"\| Idle$")).wait_for()  # earlier, Run All is lost
    page.locator(".lm-MenuBar-item", has_text=re.compile("^Run$")).click()
    page.locator(".lm-Menu-item", has_text=re.compile("^Run All Cells$")).click()


def panel_of(page, label):
    """The panel that has a list of that name, once it stands."""
    boxes = page.locator(".jp-OutputArea-output .widget-vbox")
    panel = boxes.filter(has=page.locator("label", has_text=re.compile(f"^{label}$")))
    panel.locator("select").first.wait_for()
    return panel


def choose(panel, label, value, told):
    """Choose from a list; wait until the panel says so; the picture, or None."""
    panel.locator(".widget-dropdown").filter(
        has=panel.page.locator("label", has_text=re.compile(f"^{label}$"))
    ).locator("select").select_option(value)
    panel.locator("p", has_text=told).wait_for()
    picture = panel.locator("img")
    return picture.get_attribute("src") if picture.count() else None


def test_lab_opens_on_the_overview_and_a_chapter_runs_from_it(lab, desk):
    desk.goto(f"{lab}/?token=test")
    heads = desk.locator(".jp-RenderedMarkdown h2 a[href*=ipynb]")
    heads.first.wait_for()
    assert heads.count() == len(CHAPTERS)
    heads.filter(has_text=re.compile("^3 ·")).click()
    run_all(desk)
    panel = panel_of(desk, "label")
    assert choose(panel, "label", "Happy", "labelled Happy were read as Neutral") is None
    choose(panel, "split", "PublicTest", "PublicTest: ")
    desk.locator(".jp-Cell", has_text="What this does not show").wait_for()
    assert desk.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    assert desk.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0


def test_panels_answer_a_choice_and_an_upload(lab, desk, tmp_path):
    # a workspace of its own: else the other test's notebook opens again, and may be the one that runs
    desk.goto(f"{lab}/lab/workspaces/panels/tree/notebooks/panels.ipynb?token=test")
    run_all(desk)
    panel = panel_of(desk, "method")
    seen = [choose(panel, "method", name, f"Map: {name} for") for name in ("gradient", "Grad-CAM")]
    seen.append(choose(panel, "class", "Sad", "for Sad"))
    Image.new("RGB", (70, 60), "grey").save(tmp_path / "mine.png")
    (tmp_path / "bad.png").write_text("no picture")
    for name, told in (
        ("mine.png", "Face yours: mine.png, network fer2013"),
        ("bad.png", "bad.png: "),
    ):
        with desk.expect_file_chooser() as chooser:
            panel.locator("button", has_text="a picture of yours").click()
        chooser.value.set_files(tmp_path / name)
        panel.locator("p", has_text=told).wait_for()
        seen += [p.get_attribute("src") for p in panel.locator("img").all()]
    assert len(set(seen)) == len(seen) == 4
    cards = panel_of(desk, "filter")
    one, other = (choose(cards, "filter", k, f"Filter {k} responds") for k in ("31", "32"))
    assert one != other
