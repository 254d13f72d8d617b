"""The system's Chromium without a window, with WebGL in software, driven by Playwright."""

import shutil
from contextlib import contextmanager

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
# Matches a page of a scan, or the work list, when it can be used.
READY = "body[data-ready=yes]"
needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs a Chromium to open the page in")


@contextmanager
def open_browser():
    """Yield a browser."""
    from playwright.sync_api import sync_playwright  # skipped tests do not need it

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=OPTIONS)
        yield browser
        browser.close()
