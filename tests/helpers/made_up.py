"""A made-up study with the files that the readouts leave, so that views are tested without running a model.

The numbers are invented but shaped like real ones: the planted models have artifacts, the others have none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vit_registers import params
from vit_registers.core import table as metrics
from vit_registers.core.files import digest, write_json
from vit_registers.core.table import Metric
from vit_registers.pipeline import slices as steps

ROOT = Path(__file__).parents[2]
LAYERS, GRID, PIXELS, GALLERY = 6, (8, 8), 64, 4
ARISE = ("vit-r0", 5, 3)  # model, epoch and block with some patches above three medians
REASON = "no artifacts found: 0.00% of the patches exceed 51.0 (ratio 3), 0.10% are needed"
READOUTS = (
    "detection",
    "neurons",
    "tokens",
    "probe",
    "lost",
    "sweep",
    "information",
    "training",
    "cost",
    "energy",
    "dense",
    "zero_shot",
    "comparisons",
)


@dataclass
class MadeUp:
    """Params, and where the files of the made-up study are."""

    params: params.Params
    root: Path

    @property
    def view(self) -> steps.ViewStep:
        return steps.view(self.params)

    @property
    def tables(self) -> list[Path]:
        return [self.root / "metrics" / f"{readout}.csv" for readout in READOUTS]

    @property
    def readouts(self) -> Path:
        return self.root / "readouts"

    @property
    def rows(self) -> pd.DataFrame:
        return metrics.concatenate(self.tables)


def _interval(value: float, n: int) -> dict[str, float]:
    half = 1.96 * np.sqrt(max(value * (1 - value), 1e-4) / n)
    return {"low": max(0.0, value - half), "high": min(1.0, value + half)}


class _Invented:
    """Rows and arrays of one condition of a model."""

    def __init__(self, study: params.Params, dataset: str, model: str, condition: str, seed: int) -> None:
        self.key: dict[str, Any] = {"model": model, "dataset": dataset, "intervention": condition}
        source = study.models[model]
        self.resized = isinstance(source, params.ResizedModel)
        self.kind = study.models[source.base].kind if self.resized else source.kind
        self.grid = (6, 6) if self.resized else GRID
        self.parameters = 1e6 * (1 + len(model))
        self.planted = self.kind == "planted"
        self.move = getattr(study.interventions.get(condition), "kind", "") == "move"
        self.applies = self.planted or not self.move
        found = getattr(study.interventions.get(condition), "neurons", "") == "found"
        self.artifacts = self.planted and not (self.move and found)
        self.registers = getattr(study.models[model], "registers", 0)
        done = study.interventions.get(condition)
        self.appended = done.tokens if isinstance(done, params.Append | params.MoveNeurons) else 0
        self.rng = np.random.default_rng(seed)

    def row(self, readout: str, metric: str, value: float | None, unit: str, n: int, **more: Any) -> Metric:
        return Metric(**self.key, readout=readout, metric=metric, value=value, unit=unit, n=n, **more)

    def tokens(self) -> list[Metric]:
        if not self.applies:
            note = REASON
            return [self.row(r, m, None, u, 1000, note=note) for r, m, u in (
                ("norms", "norm_median", "L2 norm"), ("attention", "cls_to_patches", "share of images"))]  # fmt: skip
        rows = []
        for layer in range(LAYERS):
            median = 4.0 * 1.35**layer * (1 + 0.01 * self.rng.standard_normal())
            high = 10.0 if self.artifacts and layer >= 2 else 1.5
            norms = {"norm_median": median, "norm_p99": median * high, "norm_max": median * high * 1.3}
            norms["norm_cls"] = 1.4 * median
            if self.registers:
                norms["norm_registers"] = 1.2 * median
            if self.appended:
                norms["norm_appended"] = median * (10 if self.move else 1.1)
            rows += [self.row("norms", m, v, "L2 norm", 1000, layer=layer) for m, v in norms.items()]
            share = 0.034 if self.artifacts and layer >= 2 else 0.0
            rows.append(
                self.row(
                    "norms", "artifact_share", share, "share of images", 1000, layer=layer, **_interval(share, 64000)
                )
            )
            itself, registers = 0.1 + 0.05 * layer, 0.02 * self.registers
            appended = 0.03 * self.appended
            shares = {"cls_to_cls": itself, "cls_to_patches": 1 - itself - registers - appended, "cls_peak": 0.06}
            if self.registers:
                shares |= {"register_cosine": 0.9 - 0.05 * layer, "cls_register_cosine": 0.8}
                rows += self.slots() if layer == 0 and self.key["intervention"] == "baseline" else []
            shares["cls_to_artifacts"] = 0.11 if self.artifacts and layer >= 2 else 0.0
            if self.registers:
                shares["cls_to_registers"] = registers
            if self.appended:
                shares["cls_to_appended"] = appended
            rows += [self.row("attention", m, v, "share of images", 1000, layer=layer) for m, v in shares.items()]
        return rows + (self.positions() if self.key["intervention"] == "baseline" else [])

    def positions(self) -> list[Metric]:
        """Artifacts in two corners, more often in the second."""
        border = self.row("positions", "border_positions", 28 / 64, "share of positions", 64, layer=LAYERS - 1)
        found = {"artifact_rate_max": (0.5, "share of images"), "artifacts_on_border": (0.9, "share of artifacts")}
        if not self.artifacts:
            none = {"layer": LAYERS - 1, "note": "no patch exceeds the threshold"}
            return [border, *(self.row("positions", m, None, unit, 1000, **none) for m, (_, unit) in found.items())]
        at = {"layer": LAYERS - 1, "note": "row 0, column 7, both from 0"}
        return [
            border,
            *(self.row("positions", m, v, u, 1000, **at, **_interval(v, 1000)) for m, (v, u) in found.items()),
        ]

    def slots(self) -> list[Metric]:
        """The last register looks most at the object, the first least."""
        shares = {f"object_attention[{i + 1}]": 0.2 + 0.01 * i for i in range(self.registers)}
        shares |= {"object_attention[cls]": 0.24, "object_area": 0.18}
        shares |= {"object_spread": 0.01 * self.registers, "object_spread_next_image": 0.005 * self.registers}
        rows = [self.row("slots", m, v, "fraction", 1000, **_interval(v, 1000)) for m, v in shares.items()]
        winning = self.registers - 0.5
        interval = {"low": winning - 0.1, "high": winning + 0.1}
        return [*rows, self.row("slots", "winning", winning, "registers", 1000, **interval)]

    def probe(self) -> list[Metric]:
        rows = []
        readouts = {
            "probe[cls]": 0.82,
            "kept[cls]": 0.81,
            "probe[patch_mean]": 0.84,
            "knn[cls]": 0.80,
            "linear_evaluation": 0.85,
        }
        readouts |= {"probe[appended]": 0.3} if self.appended else {}
        for readout, base in (readouts | {"probe[cls+patch_mean]": 0.86}).items():
            metrics_of = {"top1": base, "top3": base + 0.06, "macro_f1": base - 0.01}
            metrics_of |= {"macro_precision": base - 0.02, "macro_recall": base, "auc": base + 0.1}
            for metric, value in metrics_of.items():
                if readout.startswith("knn") and metric != "top1":
                    continue
                value += 0.005 * self.registers + 0.003 * self.rng.standard_normal()
                if self.applies:
                    rows.append(self.row(readout, metric, value, "share of images", 2000, **_interval(value, 2000)))
                    if readout.startswith("probe"):
                        rows += [
                            self.row(readout, metric, value, "share of images", 2000, seed=seed) for seed in (0, 1, 2)
                        ]
                else:
                    rows.append(self.row(readout, metric, None, "share of images", 2000, note=REASON))
        return rows

    def lost(self) -> list[Metric]:
        corloc = (0.19 if self.artifacts else 0.385) + 0.01 * self.rng.standard_normal()
        if not self.applies:
            methods = ("lost", "dino_seg")
            return [self.row(method, "corloc", None, "share of images", 1000, note=REASON) for method in methods]
        rows = [self.row("lost", "corloc", corloc, "share of images", 1000, **_interval(corloc, 1000))]
        rows.append(self.row("dino_seg", "corloc", 0.12, "share of images", 1000, **_interval(0.12, 1000)))
        if self.key["intervention"] == "baseline":
            for kind, value in (("centre", 0.085), ("random", 0.012)):
                rows.append(
                    self.row("lost", f"corloc_{kind}_box", value, "share of images", 1000, **_interval(value, 1000))
                )
        return rows

    def dense(self) -> list[Metric]:
        """Heads that were kept are worse where something was done to the model."""
        rows = []
        for head in ("refit", "kept"):
            worse = 0.1 * (head == "kept" and self.key["intervention"] != "baseline")
            values = {"miou": (0.5 - worse, "fraction"), "pixel_accuracy": (0.9 - worse, "fraction")}
            for metric, (value, unit) in (values | {"rmse": (0.14 + worse, "depth")}).items():
                value += 0.005 * self.rng.standard_normal()
                number = _interval(value, 500) if self.applies else {"note": REASON}
                n = 500 if self.applies else 0
                rows.append(
                    self.row(f"dense[{head}]", metric, value if self.applies else None, unit, n, **number)  # type: ignore[arg-type]
                )
        return rows

    def zero_shot(self) -> list[Metric]:
        """Only where there is a text tower."""
        values = {"top1": 0.7, "top3": 0.9} if self.kind == "openclip" and self.applies else {}
        return [self.row("zero_shot", m, v, "fraction", 2000, **_interval(v, 2000)) for m, v in values.items()]

    def detection(self) -> list[Metric]:
        share = 0.034 if self.planted else 0.0
        rows = [
            self.row("detection", "found", float(self.planted), "yes=1", 1000),
            self.row("detection", "threshold", 51.0, "L2 norm", 1000),
            self.row("detection", "outlier_layer", LAYERS - 2.0, "block", 1000),
            self.row("detection", "parameters", self.parameters, "parameters", 1000),
            self.row("detection", "artifact_share", share, "share of images", 1000, **_interval(share, 64000)),
            self.row("detection", "images_affected", 0.7 if self.planted else 0.0, "share of images", 1000),
        ]
        if self.planted:
            of_planted = {
                "precision": (1.0, "share of top k"),
                "recall": (1.0, "share of planted"),
                "stability": (0.98, "overlap of top k"),
                "first_layer": (2.0, "block"),
                "next_ratio": (6.4, "score ratio"),
            }
            for metric, (value, unit) in of_planted.items():
                rows.append(self.row("detection", metric, value, unit, 600))
        return rows

    def neurons(self, elsewhere: list[str]) -> list[Metric]:
        """Eight neurons of block 2, the first four planted; on every other data set they are one rank later."""
        if not self.planted:
            return [self.row("neurons", "none", None, "", 0, note=REASON)]
        rows = []
        for i in range(8):
            values = {"rank": (i + 1.0, "count"), "score": (30.0 - 3 * i, "mean |activation|")}
            values |= {"frequency": (float(i < 4), "share of resamples"), "planted": (float(i < 4), "yes=1")}
            rows += [self.row("neurons", f"{m}[{40 + i}]", v, u, 600, layer=2) for m, (v, u) in values.items()]
            for other in elsewhere:
                later = {"layer": 2, "reference": other, "note": None if i else "not among the first 100 there"}
                rows.append(self.row("neurons", f"rank[{40 + i}]", i + 2.0 if i else None, "count", 600, **later))
        for other in elsewhere:
            rows.append(self.row("neurons", "overlap", 0.75, "overlap of top k", 4, reference=other, p=1e-6))
        return rows

    def information(self) -> list[Metric]:
        """High patches know less of their place than normal ones, and as much of the class."""
        rows = [self.row("information", "high_are_artifacts", float(self.planted), "yes=1", 1000)]
        units = {"neighbour_cosine": "cosine", "position_top1": "fraction", "position_l2": "patches"}
        units |= {f"reconstruction_{kind}": "mean squared error" for kind in ("linear", "mlp")}
        for metric, unit in units.items():
            for kind, value in (("high", 0.2), ("normal", 0.4)):
                rows.append(self.row("information", f"{metric}[{kind}]", value, unit, 500, **_interval(value, 500)))
            paired = {"low": -0.25, "high": -0.15, "p": 0.0005, "reference": "normal"}
            rows.append(self.row("information", f"{metric}_difference", -0.2, unit, 400, **paired))
        for kind in ("cls", "high", "normal", *["register"] * bool(self.registers)):
            rows.append(self.row("information", f"class_top1[{kind}]", 0.8, "fraction", 400, **_interval(0.8, 400)))
            rows.append(self.row("information", f"class_top1[{kind}]", 0.8, "fraction", 400, seed=0))
        paired = {"low": -0.02, "high": 0.02, "p": 1.0, "reference": "normal"}
        return [*rows, self.row("information", "class_top1_difference", 0.0, "fraction", 400, **paired)]

    def sweep(self) -> list[Metric]:
        """Twelve settings in each of two blocks; the last of them is the best."""
        rows = []
        for layer in (4, 5):
            for feature in "kqv":
                for words, extra in (("", 0.0), ("centred, ", 0.1)):
                    for bias in ("0", "normalised, -0.2"):
                        value = 0.2 + 0.02 * layer + extra
                        metric = f"corloc[{feature}, {words}{bias}]"
                        rows.append(
                            self.row("lost_sweep", metric, value, "fraction", 500, layer=layer, **_interval(value, 500))
                        )
        for metric, value in (("corloc", 0.41), ("corloc_on_choice", 0.44), ("corloc_default", 0.39)):
            interval = _interval(value, 500)
            note = "block 5: v, centred, normalised, -0.2"
            rows.append(self.row("lost_sweep", metric, value, "fraction", 500, note=note, **interval))
        gain = {"low": -0.01, "high": 0.05, "p": 0.2}
        return [*rows, self.row("lost_sweep", "corloc_gain", 0.02, "fraction", 500, **gain)]

    def histogram(self) -> pd.DataFrame:
        edges = np.geomspace(5, 500, 41)
        draws = {"patches": self.rng.lognormal(np.log(18), 0.15, 64000)}
        if self.artifacts:
            draws["patches"][:2176] *= 10
        if self.registers:
            draws["registers"] = self.rng.lognormal(np.log(25), 0.2, 4000)
        if self.appended:
            draws["appended"] = self.rng.lognormal(np.log(180 if self.move else 20), 0.1, 4000)
        tables = []
        for quantity, scale in (("norm", 1.0), ("attention", 1e-3)):
            for token, values in draws.items():
                counts, _ = np.histogram(values, edges)
                table = pd.DataFrame({"token": token, "bin_left": scale * edges[:-1], "bin_right": scale * edges[1:]})
                table = table.assign(count=counts, quantity=quantity)
                tables.append(table[table["count"] > 0])
        return pd.concat(tables).assign(intervention=self.key["intervention"])

    def maps(self, images: np.ndarray) -> dict[str, np.ndarray]:
        height, width = self.grid
        whole = images[:, : PIXELS // height * height, : PIXELS // width * width]
        small = whole.mean(axis=-1).reshape(GALLERY, height, -1, width, PIXELS // width).mean(axis=(2, 4)) / 255
        norms = 18 + 3 * small
        cls = np.repeat((small / small.sum(axis=(1, 2), keepdims=True))[:, None], LAYERS, axis=1)
        if self.artifacts:
            norms[:, 0, [0, -1]] = 180
            cls[:, :, 0, 0] = 0.1
        found = {"cls": cls, "norms": norms}
        if self.appended:
            found["appended"] = np.repeat(cls[:, :, None], self.appended, axis=2)
        if self.registers and self.key["intervention"] == "baseline":
            found["focus"] = np.repeat(cls[:1, -1], 1 + self.registers, axis=0)
            parts = self.rng.random((GALLERY, 1, self.registers, *GRID))
            found["registers"] = np.repeat(parts / parts.sum(axis=(3, 4), keepdims=True), LAYERS, axis=1)
            found["winners"] = found["registers"][:, -1].argmax(axis=1).astype(np.uint8)
        if self.key["intervention"] == "baseline":
            found["norm_by_position"] = norms.mean(axis=0)
            found["artifact_rate"] = (norms > 51.0).mean(axis=0) * self.rng.uniform(0.1, 0.9, size=self.grid)
        return {f"{self.key['intervention']}/{name}": values for name, values in found.items()}

    def steps(self, images: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
        inside = np.zeros((GALLERY, *GRID), bool)  # of a resized model too: its figures are elsewhere
        for i, (x0, y0, x1, y1) in enumerate((truth[:, 0] // 8).astype(int)):
            inside[i, y0:y1, x0:x1] = True
        degree = np.where(inside, 12, 40).astype(np.int64)
        seed = np.array([np.flatnonzero(m.ravel())[0] for m in inside])
        box = truth[:, 0] + 2.0
        if self.artifacts:
            degree[:, 0, 0], seed, box = 2, np.zeros_like(seed), np.tile([0.0, 0.0, 16.0, 8.0], (GALLERY, 1))
        found = {"degree": degree, "seed": seed, "kept": inside & (degree > 5), "mask": inside, "box": box}
        whole = {"sizes": np.tile(images.shape[1:3], (GALLERY, 1)), "grids": np.tile(GRID, (GALLERY, 1))}
        return whole | {f"{self.key['intervention']}/{name}": values for name, values in found.items()}


def _gallery() -> tuple[np.ndarray, np.ndarray]:
    """Images (g,H,W,3) of a disk on a gradient, and its boxes (g,1,4)."""
    y, x = np.mgrid[:PIXELS, :PIXELS]
    images, boxes = [], []
    for i in range(GALLERY):
        cx, cy, radius = 20 + 8 * i, 26 + 5 * i, 12
        image = np.stack([90 + y, 120 + 0 * x, 200 - y], axis=-1).astype(np.uint8)
        image[(x - cx) ** 2 + (y - cy) ** 2 < radius**2] = (220, 60 + 40 * i, 40)
        images.append(image)
        boxes.append([[cx - radius, cy - radius, cx + radius, cy + radius]])
    return np.stack(images), np.array(boxes, float)


def _trainings(study: params.Params) -> list[Metric]:
    """Norms that grow from epoch to epoch."""
    rows = []
    for name in (n for n in study.models_used() if study.models[n].kind == "trained"):
        for epoch in range(1, 8):
            where = {"model": name, "dataset": "shapes", "intervention": f"epoch {epoch}", "readout": "training"}
            rows.append(Metric(**where, metric="loss", value=2.0 / epoch, unit="cross-entropy", n=125))
            registers = getattr(study.models[name], "registers", 0)
            alike = {"register_cosine": 1 - 0.004 * registers * epoch} if registers > 1 else {}
            alike |= {"cls_register_cosine": 1 - 0.008 * registers * epoch} if registers else {}
            for m, v in alike.items():
                interval = {"low": v - 0.005, "high": v + 0.005}
                rows.append(Metric(**where, metric=m, value=v, unit="cosine", n=500, layer=LAYERS - 1, **interval))
            for layer in range(LAYERS):
                norms = {"norm_median": 10.0 * epoch, "norm_p99": 15.0 * epoch, "norm_max": 17.0 * epoch}
                rows += [
                    Metric(**where, metric=m, value=v * (1 + layer), unit="L2 norm", n=500, layer=layer)
                    for m, v in norms.items()
                ]
                share = 0.002 if (name, epoch, layer) == ARISE else 0.0
                rows.append(
                    Metric(**where, metric="share_above", value=share, unit="share of patches", n=500, layer=layer)
                )
        rows += _emergence(name)
    return rows


def _emergence(name: str) -> list[Metric]:
    """Patches above three medians in one training, after one epoch at one block, and gone at the end."""
    where = {"model": name, "dataset": "shapes", "intervention": "training", "readout": "emergence", "n": 500}
    _, epoch, layer = ARISE if name == ARISE[0] else ("", 1, 0)
    peaks = {"share_above": (0.002 if epoch > 1 else 0.0, "share of patches"), "ratio": (1.7, "medians")}
    rows = [Metric(**where, metric="share_last", value=0.0, unit="share of patches")]
    rows += [Metric(**where, metric=m, value=v, unit="count") for m, v in (("parameters", 1.2e6), ("epochs", 7.0))]
    rows.append(Metric(**where, metric="top1", value=0.8, unit="accuracy", low=0.78, high=0.82))
    for metric, (value, unit) in peaks.items():
        rows.append(Metric(**where, metric=f"{metric}_most", value=value, unit=unit, layer=layer))
        rows.append(Metric(**where, metric=f"{metric}_most_epoch", value=epoch, unit="count"))
    return rows


def _write_watched(study: params.Params, images: np.ndarray, readouts: Path) -> None:
    """Attention of two images after seven epochs, no two maps of any training alike."""
    for name in (n for n in study.models_used() if study.models[n].kind == "trained"):
        tokens = 1 + getattr(study.models[name], "registers", 0)
        rng = np.random.default_rng(tokens)
        path = readouts / "training" / f"{name}.maps.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        maps = rng.random((7, 2, tokens, *GRID), dtype=np.float32)
        np.savez(path, images=images[:2], maps=maps, focus=maps.mean(axis=1))


def _costs(study: params.Params) -> list[Metric]:
    """A per cent more operations for every register."""
    rows = []
    for name in study.cost.architectures:
        for number in study.cost.registers:
            values = {"parameters": (2.2e7 + 384 * number, "parameters"), "flops": (9.2 + 0.09 * number, "GFLOP")}
            values |= {
                "parameters_increase": (1e-5 * number, "fraction"),
                "flops_increase": (0.01 * number, "fraction"),
            }
            where = {"model": name, "dataset": "224x224", "intervention": f"{number} registers", "readout": "cost"}
            rows += [Metric(**where, metric=m, value=v, unit=u, n=1) for m, (v, u) in values.items()]
    return rows


def _energy(study: params.Params) -> list[Metric]:
    """Trainings of an hour each, and a published one that lists a tenth less than its factors give."""
    rows = []
    for name in steps.energy(study).models:
        values = {"processor_hours": (1.0, "h"), "energy": (0.078, "kWh"), "carbon": (0.0312, "kg CO2 equivalent")}
        where = {"model": name, "dataset": "shapes", "intervention": "training", "readout": "energy"}
        rows += [Metric(**where, metric=m, value=v, unit=u, n=875) for m, (v, u) in values.items()]
    for name in study.energy.published:
        values = {"processor_hours": (1320.0, "h"), "energy": (600.0, "kWh"), "energy_listed": (540.0, "kWh")}
        values |= {"energy_error": (-0.1, "fraction"), "pue_implied": (1.08, "ratio")}
        where = {"model": name, "dataset": "as published", "intervention": "training", "readout": "energy"}
        rows += [Metric(**where, metric=m, value=v, unit=u, n=1) for m, (v, u) in values.items()]
    return rows


def _comparisons(study: params.Params, seed: int) -> list[Metric]:
    rng, rows = np.random.default_rng(seed), []
    for comparison in study.study.comparisons:
        for run in study.study.runs[:1]:
            model, condition = comparison.a.split("/")
            for readout, metric in (("lost", "corloc"), ("probe[cls]", "top1"), ("probe[patch_mean]", "top1")):
                value = 0.05 * rng.standard_normal()
                where = {"model": model, "dataset": run.dataset, "intervention": condition, "reference": comparison.b}
                number = {
                    "value": value,
                    "low": value - 0.02,
                    "high": value + 0.02,
                    "unit": "share of images",
                    "n": 1000,
                }
                p = float(rng.uniform(0, 0.2) ** 3)
                rows.append(Metric(**where, readout=readout, metric=f"{metric}_difference", **number, p=p))
    return rows


def _write(study: params.Params, root: Path) -> MadeUp:
    images, truth = _gallery()
    rows: dict[str, list[Metric]] = {readout: [] for readout in READOUTS}
    for i, (dataset, model) in enumerate(study.pairs()):
        maps: dict[str, np.ndarray] = {"images": images, "image_id": np.array([f"i{k}" for k in range(GALLERY)])}
        lost = maps | {"truth": truth}
        histograms = []
        for j, condition in enumerate(study.conditions(dataset, model)):
            invented = _Invented(study, dataset, model, condition, 100 * i + j)
            rows["tokens"] += invented.tokens()
            rows["probe"] += invented.probe()
            rows["lost"] += invented.lost()
            rows["dense"] += invented.dense()
            rows["zero_shot"] += invented.zero_shot()
            if condition == "baseline":
                rows["detection"] += invented.detection()
                rows["sweep"] += invented.sweep()
                rows["information"] += invented.information()
                looked = [each for each, name in study.detected_pairs() if name == model]
                rows["neurons"] += invented.neurons([each for each in looked if each != dataset])
            if invented.applies:
                maps |= invented.maps(images)
                lost |= invented.steps(images, truth)
                histograms.append(invented.histogram())
        for folder, name, arrays in (("tokens", "maps", maps), ("lost", "steps", lost)):
            path = root / "readouts" / folder / dataset / f"{model}.{name}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, **arrays)
        path = root / "readouts" / "tokens" / dataset / f"{model}.histogram.parquet"
        pd.concat(histograms).to_parquet(path)
    for further in study.study.detections:
        for model in further.models:
            rows["detection"] += _Invented(study, further.dataset, model, "baseline", 0).detection()
    rows["cost"] = _costs(study)
    rows["energy"] = _energy(study)
    rows["training"] = _trainings(study)
    _write_watched(study, images, root / "readouts")
    rows["comparisons"] = _comparisons(study, 7)
    for readout, of_readout in rows.items():
        path = root / "metrics" / f"{readout}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        metrics.write(metrics.frame(of_readout), path)
    _cards(study, root)
    return MadeUp(study, root)


def _cards(study: params.Params, root: Path) -> None:
    for name in study.models_used():
        weights = {"file": "model.safetensors", "sha256": digest(name)}
        write_json(
            root / "models" / name / "model.json", {"name": name, "kind": study.models[name].kind, "weights": weights}
        )
    for name in study.datasets_used():
        images = {"train": 4000, "test": 2000}
        content = {"name": name, "classes": [f"c{i}" for i in range(10)], "images": images, "sha256": "ab" * 32,
                   "source": "generated", "licence": "MIT"}  # fmt: skip
        write_json(root / "data" / name / "dataset.json", content)


@pytest.fixture(scope="session")
def make_study(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., MadeUp]:
    """The made-up files of the embedded study, with changes to its params on top."""

    def make(change: dict[str, Any] | None = None) -> MadeUp:
        content = params.overlay(params.read_yaml(ROOT / "params.yaml"), change or {})
        return _write(params.parse(content, "params.yaml"), tmp_path_factory.mktemp("study"))

    return make


@pytest.fixture(scope="session")
def embedded(make_study: Callable[..., MadeUp]) -> MadeUp:
    return make_study()
