"""The explorer put together: every scene of a study's experiments in one page, or in a page for each model."""

import hashlib
import importlib.resources
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jinja2
import vl_convert

from vit_registers.core.errors import InputError
from vit_registers.core.files import replacing, write_text
from vit_registers.params.statistics import Explorer
from vit_registers.params.study import Params
from vit_registers.pipeline import experiment, steps
from vit_registers.pipeline.experiment import Found, Scene
from vit_registers.pipeline.paths import Paths
from vit_registers.report.facts import caption
from vit_registers.views.arrays import Arrays
from vit_registers.views.engine import drawn
from vit_registers.views.plan import plan
from vit_registers.views.scenes import encode
from vit_registers.views.scenes.charts import VEGA_LITE
from vit_registers.views.scenes.widgets import Maps, Pictures, Widget
from vit_registers.views.study import Study

PAGE = importlib.resources.files("vit_registers.report.explorer") / "page"
SCRIPTS = ("decode.js", "controls.js", "chart.js", "maps.js", "pictures.js", "listing.js", "app.js")  # in this order
MB = 10**6


@dataclass(frozen=True)
class Shown:
    """A scene as a page has it: its name, the experiment's title over it, its own, how to read it, and its widget."""

    name: str
    subject: str
    title: str
    caption: str
    widget: Widget


def run(params: Params, at: Paths) -> None:
    """Write ``explorer.html``; where that would be larger than ``explorer.one_page_mb``, pages by model beside it.

    The folder ``explorer`` holds these, and is empty otherwise. :class:`InputError` where a page is larger than
    ``explorer.limit_mb`` even so.
    """
    pages = pages_of(Frame(params.title, params.study.name), scenes(params, at), params.explorer)
    folder = at.results / "explorer"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for model, text in pages.items():
        if model:
            write_text(folder / f"{file_name(model)}.html", text)
    with replacing(at.explorer) as temporary:
        temporary.write_text(pages[""], encoding="utf-8")


def pages_of(frame: "Frame", shown: Sequence[Shown], size: Explorer) -> dict[str, str]:
    """The one page, under no name; where it is too large, an index under no name and a page for each model."""
    whole = frame.page(shown)
    pages = {"": whole} if len(whole) <= size.one_page_mb * MB else by_model(frame, shown)
    for model, text in pages.items():
        if len(text) > size.limit_mb * MB:
            of = f"of {model} " if model else ""
            raise InputError(
                f"params: explorer.limit_mb: the page {of}takes {len(text) / MB:.1f} MB, the limit is "
                f"{size.limit_mb:g}; show fewer gallery images, run fewer conditions, or raise it"
            )
    return pages


def scenes(params: Params, at: Paths) -> list[Shown]:
    """All scenes of the study's experiments that have something to show."""
    mine = {name: each for name, each in experiment.scenes().items() if each[0].name in params.experiment_names}
    files = [path for _, scene in mine.values() for path in steps.row_files(params, at, scene)]
    study = Study.read(plan(params), dict.fromkeys(files))
    found = []
    for name, (of, scene) in mine.items():
        widget = drawn(of, scene)(study, Arrays(at, scene.arrays))
        if widget is not None:
            found.append(_shown(params, name, of, scene, widget))
    return found


def _shown(params: Params, name: str, of: Found, scene: Scene, widget: Widget) -> Shown:
    return Shown(name, of.experiment.title, scene.title, caption(params, of, scene), widget)


def by_model(frame: "Frame", shown: Sequence[Shown]) -> dict[str, str]:
    """The index, under no name, with all scenes that are not of single models; and a page for each model."""
    models: dict[str, list[Shown]] = {}
    general = []
    for scene in shown:
        if isinstance(scene.widget, Maps | Pictures):
            for model, widget in scene.widget.by_model().items():
                models.setdefault(model, []).append(
                    Shown(scene.name, scene.subject, scene.title, scene.caption, widget)
                )
        else:
            general.append(scene)
    links = {model: f"explorer/{file_name(model)}.html" for model in models}
    pages = {"": frame.page(general, links=links)}
    for model, of_model in models.items():
        pages[model] = frame.page(of_model, of=model, back="../explorer.html")
    return pages


def file_name(model: str) -> str:
    """A file name for a model's label."""
    words = "".join(letter if letter.isalnum() else "-" for letter in model.lower()).strip("-")
    return f"{words}-{hashlib.sha256(model.encode()).hexdigest()[:6]}"


class Frame:
    """What all pages of a study share: scripts, style, colours, its title."""

    def __init__(self, title: str, study: str) -> None:
        surroundings = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
        self.template = surroundings.from_string((PAGE / "index.html.j2").read_text(encoding="utf-8"))
        self.title, self.study = title, study
        app = "\n".join((PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS)
        self.scripts = [vega(), f'"use strict";\n(() => {{\n{app}\n}})();']
        self.style = (PAGE / "style.css").read_text(encoding="utf-8")

    def page(self, shown: Sequence[Shown], links: Mapping[str, str] | None = None, of: str = "", back: str = "") -> str:
        """One page of some scenes; ``links`` to those of models, ``back`` to the index."""
        index = [
            {
                "name": s.name,
                "subject": s.subject,
                "title": s.title,
                "caption": s.caption,
                "kind": s.widget.to_json()["kind"],
            }
            for s in shown
        ]
        about = {"title": self.title, "study": self.study, "model": of, "scenes": index, "colours": encode.colours()}
        hashes = " ".join(encode.source(script) for script in self.scripts)
        return self.template.render(
            title=self.title,
            of=of,
            back=back,
            links=links or {},
            style=self.style,
            scripts=self.scripts,
            script_hashes=hashes,
            about=encode.as_json(about),
            scenes={scene.name: encode.as_json(scene.widget.to_json()) for scene in shown},
        )


def vega() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script, as ``window.vegaEmbed``."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    return bundle.replace("</script", "<\\/script")
