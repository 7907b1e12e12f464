"""The page stands by itself: it asks for nothing, runs only its own script, and shows what others wrote as text."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from vit_registers.doctor import pictures
from vit_registers.doctor.diagnosis import diagnose
from vit_registers.doctor.effects import Estimate
from vit_registers.doctor.examine import MOVED, Settings, examine
from vit_registers.doctor.page import estimate, page, shown
from vit_registers.doctor.watched import Watched
from vit_registers.extraction.images import Images
from vit_registers.models import backbone as backbones

NAME = "<script>alert('x')</script> & \"co\""
VOID = {"meta", "input", "line", "polyline", "circle", "br", "img", "link"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Parsed(HTMLParser):
    """Tags in order with their attributes, the text within each, and whether they close as they open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)


def made_page(made: Path, name: str, title: str, **settings) -> str:
    backbone = replace(backbones.load(made / "models" / name), name=title)
    seen = pictures.read(made / "images", 50)
    found = examine(backbone, Watched(Images(seen.manifest, backbone.preprocess), quiet=True), 14, Settings(**settings))
    return page(found, diagnose(found, seen, 1), seen.manifest)


@pytest.fixture(scope="module")
def html(made: Path) -> str:
    return made_page(made, "planted", NAME)


@pytest.fixture(scope="module")
def plain(made: Path) -> str:
    return made_page(made, "plain", "plain")


def test_it_parses_and_names_the_model_as_text(html: str) -> None:
    parsed = Parsed(html)
    assert "".join(parsed.texts["title"]) == f"{NAME}: outlier tokens"
    assert "".join(parsed.texts["h1"]) == NAME
    assert sum(tag == "script" for tag, _ in parsed.tags) == 2  # the data and the script of the page
    assert [attributes["type"] for tag, attributes in parsed.tags if tag == "script" and attributes] == [
        "application/json"
    ]


@pytest.mark.parametrize("which", ["html", "plain"])
def test_it_asks_for_nothing(which: str, request: pytest.FixtureRequest) -> None:
    text = request.getfixturevalue(which)
    parsed = Parsed(text)
    assert "http:" not in text
    assert "https:" not in text
    assert not re.search(r"url\(|@import|\bfetch\b|XMLHttpRequest|WebSocket", text)
    loading = {"src", "href", "srcset", "action", "data", "poster", "background"}
    assert not [attributes for _, attributes in parsed.tags if loading & set(attributes)]
    assert not [
        name for _, attributes in parsed.tags for name in attributes if name.startswith("on") or name == "style"
    ]


def test_its_policy_lets_run_what_is_in_it_and_nothing_else(html: str) -> None:
    parsed = Parsed(html)
    given = next(
        a["content"] for t, a in parsed.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    style = re.findall(r"<style>(.*?)</style>", html, flags=re.DOTALL)
    script = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    assert (len(style), len(script)) == (1, 1)
    checksums = [base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() for t in (style[0], script[0])]
    assert given == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{checksums[0]}'; script-src 'sha256-{checksums[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )


def test_the_maps_hold_the_norms_of_the_images_with_most_outliers(made: Path, html: str) -> None:
    content = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, flags=re.DOTALL)[0]
    data = json.loads(content)
    backbone = backbones.load(made / "models" / "planted")
    seen = pictures.read(made / "images", 50)
    found = examine(backbone, Watched(Images(seen.manifest, backbone.preprocess), quiet=True), 14, Settings())
    rows = shown(found)
    assert found.repair is not None
    assert [image["name"] for image in data["images"]] == [seen.manifest.file(int(row)).name for row in rows]
    counts = found.judged.tokens.positions.sum(axis=1)
    assert sorted(counts[found.repair.rows])[::-1][: len(rows)] == counts[rows].tolist()
    scale = data["scales"]["norms"]
    place = found.repair.rows.tolist().index(int(rows[0]))
    for name in data["conditions"]:
        values = np.frombuffer(base64.b64decode(data["images"][0]["norms"][name]), dtype=np.uint8).reshape(3, 16)
        expected = found.repair.passes[name].norms[place] / np.median(found.first.norms, axis=(0, 2))[:, None]
        back = scale["low"] * (scale["high"] / scale["low"]) ** (values / 255.0)
        np.testing.assert_allclose(back, np.clip(expected, scale["low"], scale["high"]), rtol=0.02)
        above = np.unpackbits(np.frombuffer(base64.b64decode(data["images"][0]["above"][name]), dtype=np.uint8))
        limits = np.asarray(found.judged.layers.thresholds)[:, None]
        assert (
            above[:48].reshape(3, 16).astype(bool).tolist()
            == (found.repair.passes[name].norms[place] > limits).tolist()
        )
    assert MOVED in data["conditions"]


def test_what_was_not_sought_is_not_shown(plain: str) -> None:
    assert "They were not sought: a register neuron is one that fires at outliers, and there are none." in plain
    assert "would change" not in plain


@pytest.mark.parametrize(
    ("given", "unit", "signed", "expected"),
    [
        (Estimate(0.0123, (0.01, 0.02)), "share", False, "1.23 % [1.00, 2.00]"),
        (Estimate(-0.0123, (-0.02, 0.001)), "share", True, "−1.23 % [−2.00, +0.10]"),
        (Estimate(123.456, None), "norm", False, "123"),
        (Estimate(0.98765, (0.9, 1.0)), "cosine", False, "0.988 [0.900, 1.000]"),
        (None, "norm", True, ""),
    ],
)
def test_numbers_are_written_with_their_intervals(given, unit: str, signed: bool, expected: str) -> None:
    assert estimate(given, unit, signed) == expected


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("which", ["html", "plain"])
def test_a_browser_runs_it_without_complaint(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(request.getfixturevalue(which))
    assert CHROMIUM is not None
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'u'}",
    ]
    command = [CHROMIUM, *options, "--virtual-time-budget=2000", "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr, done.stderr
    images = 6
    maps = 4 if which == "html" else 2  # of norms and of attention, before and after
    assert done.stdout.count("<canvas") == images * maps + 2  # and two scales
    assert done.stdout.count("<article") == images
    assert (
        len(re.findall(r'aria-label="Patch norms, as it is of \d\d\.png, block \d, \d+ outliers"', done.stdout))
        == images
    )
