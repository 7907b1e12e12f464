"""A made-up page of the explorer with a scene of every kind, and a page that is looked at in a browser."""

from pathlib import Path
from typing import Any

import altair as alt
import numpy as np

from vit_registers.report.explorer.build import Shown
from vit_registers.views.scenes.charts import choice, inline
from vit_registers.views.scenes.widgets import (
    Chart,
    Choice,
    Colours,
    Framed,
    Listing,
    MappedCondition,
    MappedModel,
    Maps,
    Pictures,
    Quantity,
)

HOSTILE = "<script>document.title='broken'</script>"  # a label that would be code if it were not text
GRID = (4, 5)
CELLS = GRID[0] * GRID[1]
BLOCKS = ["0", "1", "2"]


def _picture(rng: Any) -> Any:
    return rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)


def attention(rng: Any, specials: list[str]) -> Quantity:
    """Attention of every token to every token, by block and head."""
    tokens = len(specials) + CELLS
    values = rng.random((2, len(BLOCKS), 2, tokens, tokens))
    values /= values.sum(axis=-1, keepdims=True)
    patches = [f"patch {row + 1}, {column + 1}" for row in range(GRID[0]) for column in range(GRID[1])]
    axes = {"block": BLOCKS, "head": ["0", "1"], "from": specials + patches}
    return Quantity("attention", values, axes, others=specials, unit="share", gamma=2.0)


def maps() -> Maps:
    """Two models; the first with test-time registers, which have a token more."""
    rng = np.random.default_rng(0)
    models = []
    for label in ("Plain", HOSTILE):
        conditions = []
        for name, specials in (("as it is", ["[CLS]"]), ("1 test-time register", ["[CLS]", "appended token 1"])):
            norms = Quantity("patch norms", rng.lognormal(0, 2, (2, len(BLOCKS), CELLS)), {"block": BLOCKS}, bits=16)
            colours = Colours("components", rng.random((2, *GRID, 3)))
            quantities = {"norms": norms, "attention": attention(rng, specials), "components": colours}
            conditions.append(MappedCondition(name, GRID, quantities))
        models.append(MappedModel(label, np.stack([_picture(rng), _picture(rng)]), ["a", "b"], conditions))
    return Maps(models)


def chart() -> Chart:
    """Bars by block of two models."""
    rows = [
        {"model": model, "block": block, "name": name, "value": 1.0 + (1 + block) * (model == "Plain") + len(name)}
        for model in ("Plain", HOSTILE)
        for block in range(3)
        for name in ("one", "three")
    ]
    model, block = choice("model", "Plain"), choice("block", 0)
    drawn = alt.Chart(inline(rows)).transform_filter((alt.datum.model == model) & (alt.datum.block == block))
    bars = drawn.mark_bar().encode(x=alt.X("value:Q", scale=alt.Scale(domain=[0, 10])), y="name:N", tooltip=["value:Q"])
    choices = [
        Choice("model", "Model", [("Plain", "Plain"), (HOSTILE, HOSTILE)]),
        Choice("block", "Block", [(i, str(i)) for i in range(3)], slider=True, plays=True),
    ]
    return Chart(bars.add_params(model, block).properties(width="container", height=120).to_dict(), choices)


def pictures() -> Pictures:
    """One register of each of two models."""
    rng = np.random.default_rng(1)
    row = [Framed(_picture(rng), GRID, (1, 2), f"image {i} {HOSTILE}") for i in range(3)]
    return Pictures({"Plain": {"register 1": row}, HOSTILE: {"register 1": row[:1]}})


def listing() -> Listing:
    """Claims, one of them with code for its statement."""
    verdicts = ("reproduced", "contradicted", "not run")
    rows = [
        {
            "id": f"c{i}",
            "statement": f"statement {i}" if i else HOSTILE,
            "verdict": verdicts[i % 3],
            "reason": f"because {i}",
        }
        for i in range(250)
    ]
    columns = (("statement", "Statement"), ("verdict", "Verdict"))
    return Listing(columns, rows, ("verdict",), (("id", "Claim"), ("reason", "Reason")))


def shown() -> list[Shown]:
    """A scene of every kind."""
    widgets = {"maps": maps(), "chart": chart(), "pictures": pictures(), "listing": listing()}
    return [Shown(name, "Subject", f"Scene of {name}", "How to read it.", widget) for name, widget in widgets.items()]


class Looked:
    """A page that is looked at: what it asked for and what it complained about."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.page = browser.new_page(**options)
        self.page.set_default_timeout(20_000)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda r: self.requests.append(r.url) if not r.url.startswith("data:") else None)
        self.url = path.as_uri()

    def open(self, address: str = "") -> Any:
        """Go to a view by its address, and wait until it is shown."""
        name = address.removeprefix("#/").split("?")[0] or "home"
        self.page.goto("about:blank")  # or the page would only learn of another address
        self.page.goto(self.url + address)
        self.page.wait_for_selector(f"html[data-shown='{name}']", state="attached")
        return self.page
