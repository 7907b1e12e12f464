"""One self-contained page of a diagnosis: no script, style, font or picture comes from anywhere else.

Its content security policy lets the browser run one script and one style, told by their checksums, and load nothing.
All text is escaped, for names of models and of images are somebody else's.
"""

from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from vit_registers.data.images import load_image
from vit_registers.data.manifest import Manifest
from vit_registers.doctor import drawing
from vit_registers.doctor.diagnosis import SINK, Diagnosis
from vit_registers.doctor.drawing import Line, Scale
from vit_registers.doctor.effects import Estimate
from vit_registers.doctor.examine import BEFORE, Examination
from vit_registers.extraction.plan import Rows
from vit_registers.models.preprocess import Preprocess
from vit_registers.views.scenes import encode

SHOWN = 6  # images
LOWEST = 0.5  # of the median norm, and of even attention: where the colours of maps begin


def page(found: Examination, diagnosis: Diagnosis, manifest: Manifest) -> str:
    """The page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vit_registers.doctor", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["estimate"] = estimate
    style, script = (_source(environment, name) for name in ("page.css.j2", "page.js.j2"))
    rows = shown(found)
    return environment.get_template("page.html.j2").render(
        diagnosis=diagnosis,
        style=Markup(style),  # our own file
        script=Markup(script),
        policy=policy(style, script),
        charts=_charts(diagnosis),
        data=_maps(found, rows, manifest),
        rule=_rule(found),
        sink=SINK,
        before=BEFORE,
    )


def _source(environment: jinja2.Environment, name: str) -> str:
    """A file beside the template, as it is."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def policy(style: str, script: str) -> str:
    """Content security policy: this style, this script, pictures in the page itself, and nothing else."""
    return (
        f"default-src 'none'; img-src data:; style-src {encode.source(style)}; script-src {encode.source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def estimate(given: Estimate | None, unit: str, signed: bool = False) -> str:
    """A number with its interval, as its unit is written."""
    if given is None:
        return ""
    values = [given.value, *(given.interval or ())]
    value, *interval = (_number(each, unit, signed) for each in values)
    percent = " %" if unit == "share" else ""
    return f"{value}{percent}" + (f" [{interval[0]}, {interval[1]}]" if interval else "")


def _number(value: float, unit: str, signed: bool) -> str:
    """As many digits as a number of this unit deserves."""
    value *= 100.0 if unit == "share" else 1.0
    decimals = {"share": 2, "cosine": 3, "patches": 1}.get(
        unit, 0 if abs(value) >= 100.0 else 1 if abs(value) >= 10.0 else 2
    )
    return f"{value:{'+' if signed else ''},.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def shown(found: Examination) -> Rows:
    """Images of the page: those with most outlier patches, where there are none those with the highest norm."""
    rows = found.rows if found.repair is None else found.repair.rows
    norms, layers = found.first.norms[rows], found.judged.layers
    if found.judged.found:
        order = np.argsort(-found.judged.tokens.positions[rows].sum(axis=1), kind="stable")
    else:
        ratios = norms / np.maximum(np.asarray(layers.thresholds)[:, None], 1e-12)
        order = np.argsort(-ratios.max(axis=(1, 2)), kind="stable")
    return np.asarray(rows[order[:SHOWN]])


def _rule(found: Examination) -> str:
    """By what rule these were taken, in words."""
    if not found.judged.found:
        return "Those of the images whose largest patch norm is highest for its block."
    of = "the images that registers were tried on" if found.repair and not found.repair.same_images else "all images"
    return f"Those of {of} that have most outlier patches."


def _maps(found: Examination, rows: Rows, manifest: Manifest) -> dict[str, Any]:
    """What the script draws: norms over the median of their block, and attention of [CLS] over even attention."""
    backbone, repair = found.backbone, found.repair
    passes = {BEFORE: found.first} if repair is None else repair.passes
    within = rows if repair is None else np.searchsorted(repair.rows, rows)
    median = np.median(found.first.norms, axis=(0, 2))[None, :, None]
    norms = {name: one.norms[within] / median for name, one in passes.items()}
    attention = {
        name: one.attention[within] * one.layout.length for name, one in passes.items() if one.attention is not None
    }
    limits = np.asarray(found.judged.layers.thresholds)[None, :, None]
    above = {name: one.norms[within] > limits for name, one in passes.items()}
    highest = max(float(of.max()) for of in norms.values())
    scales = {"norms": Scale(LOWEST, max(highest, 1.5 * found.settings.threshold))}
    if attention:
        scales["attention"] = Scale(LOWEST, max(2.0, *(float(of.max()) for of in attention.values())))
    units = {"norms": "times the median norm of the block", "attention": "times even attention"}
    return {
        "grid": list(backbone.layout.grid),
        "blocks": backbone.depth,
        "block": found.judged.layers.layer,
        "conditions": list(passes),
        "kinds": list(scales),
        "colours": encode.colours(),
        "scales": {name: scale.to_json(units[name]) for name, scale in scales.items()},
        "images": [
            {
                "name": manifest.file(int(row)).name,
                "picture": drawing.picture(_pixels(manifest, int(row), backbone.preprocess)),
                "norms": {name: scales["norms"].bytes_of(of[i]) for name, of in norms.items()},
                "attention": {name: scales["attention"].bytes_of(of[i]) for name, of in attention.items()},
                "above": {name: drawing.bits(of[i]) for name, of in above.items()},
            }
            for i, row in enumerate(rows)
        ],
    }


def _pixels(manifest: Manifest, row: int, preprocess: Preprocess) -> Any:
    """An image as the model saw it (3, h, w), before it was normalised."""
    return preprocess.pixels(load_image(manifest.file(row))).numpy()


def _charts(diagnosis: Diagnosis) -> dict[str, Any]:
    """Norms, outliers and sinks by block; outliers by number of neurons moved."""
    layers, sinks, blocks = diagnosis.layers, diagnosis.sinks, [str(layer.layer) for layer in diagnosis.layers]
    norms = [
        Line("largest", [layer.largest for layer in layers]),
        Line("99th percentile", [layer.p99 for layer in layers]),
        Line("median", [layer.median for layer in layers]),
        Line("threshold", [layer.threshold for layer in layers], dashed=True),
    ]
    found = {
        "norms": drawing.chart(norms, blocks, logarithmic=True),
        "outliers": drawing.chart([Line("outlier patches", [each.share for each in layers])], blocks, False, True),
        "sinks": drawing.chart(
            [
                Line("the most attended token", [sink.attention for sink in sinks]),
                Line("heads with a sink", [sink.heads for sink in sinks]),
            ],
            blocks,
            False,
            True,
        ),
    }
    if diagnosis.doses:
        doses = [Line("outlier patches left", [dose["share"] for dose in diagnosis.doses])]
        found["doses"] = drawing.chart(doses, [str(dose["neurons"]) for dose in diagnosis.doses], False, True)
    return found
