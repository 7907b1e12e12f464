"""The made-up page as a file, and a browser to look at it; skipped where no Chromium is installed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.explorer import HOSTILE, Looked, shown
from vit_registers.report.explorer.build import Frame


@pytest.fixture(scope="session")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, as a file in a folder with a space in its name."""
    folder = tmp_path_factory.mktemp("an explorer")
    (folder / "explorer.html").write_text(Frame(f"A study {HOSTILE}", "made").page(shown()), encoding="utf-8")
    return folder / "explorer.html"


@pytest.fixture
def looked(browser: Any, page_file: Path) -> Iterator[Looked]:
    """The page; when the test ends it has asked for nothing but itself, and complained of nothing."""
    found = Looked(browser, page_file)
    yield found
    found.page.close()
    assert found.complaints == []
    assert [url for url in found.requests if not url.startswith(found.url)] == []
