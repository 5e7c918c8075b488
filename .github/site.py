"""Draws README's picture of the site: a dataset's page in headless Chromium, which must be on the PATH.

python .github/site.py
"""

import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from vaebench.boards import overlay, site

PAGE = "datasets/mnist.html"
WINDOW = {"width": 1280, "height": 800}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        site.write(overlay.opened("leaderboards"), Path(folder), lambda *_: None)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport=WINDOW, color_scheme="light")
        page.goto((Path(folder) / PAGE).as_uri())
        page.evaluate("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager'; })")
        page.evaluate("Promise.all([...document.images].map((image) => image.decode()))")
        shown = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        browser.close()
    shown.quantize(128, dither=Image.Dither.NONE).save(Path(__file__).with_name("site.png"), optimize=True)


if __name__ == "__main__":
    main()
