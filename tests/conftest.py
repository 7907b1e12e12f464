"""What all tests run under."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

# Before torch is loaded, here or in what tests start. Threads that wait for each other by spinning take the cores from
# whatever runs beside them: a training of two seconds takes twenty beside another.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium that resolves no name and reaches no host."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        offline = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking"]
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=offline)
        yield started
        started.close()
