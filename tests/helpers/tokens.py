"""Small made-up features of tokens: seven dense images, three layers, six patches."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from helpers.jobs import job
from vit_registers.core.files import read_json, write_json
from vit_registers.data import manifest
from vit_registers.experiments.job import Job
from vit_registers.experiments.token_statistics import measure
from vit_registers.experiments.token_statistics.params import Config
from vit_registers.extraction import store
from vit_registers.models.layout import TokenLayout
from vit_registers.params.statistics import Gallery, Statistics

M, L, GRID = 7, 3, (2, 3)  # dense images, layers, patches
LIMIT = 12.0
RESIZE, SIZE = 20, 18
DENSE = np.arange(3, 3 + M)
CONDITIONS = ["baseline", "append-2", "ttr-4"]
REASON = "no artifacts found: 0.00% of the patches exceed 12"
Arrays = dict[str, np.ndarray]


def made_up(layout: TokenLayout, seed: int) -> Arrays:
    """Norms and attention as a pass would leave them: attention rows sum to one, the flow says NaN where it must."""
    rng = np.random.default_rng(seed)
    norms = rng.gamma(2.0, 4.0, size=(M, L, layout.length)).astype(np.float32)
    attention = rng.dirichlet(np.ones(layout.length), size=(M, L, len(layout.specials))).astype(np.float16)
    flow = rng.dirichlet(np.ones(3), size=(M, L, 3)).astype(np.float32)
    for group, there in enumerate((layout.cls, layout.registers + layout.appended)):
        if not there:
            flow[:, :, group], flow[:, :, :, group] = np.nan, np.nan
    arrays = {"norms": norms, "attention": attention, "flow": flow}
    if layout.cls:
        arrays["cls_attention_max"] = np.minimum(2 * attention[:, :, 0], np.float16(1))
    return arrays


def parts(layout: TokenLayout) -> dict[str, range]:
    """Token numbers of each kind, spelt out."""
    patches = range(layout.cls + layout.registers, layout.cls + layout.registers + 6)
    return {
        "cls": range(layout.cls),
        "registers": range(layout.cls, layout.cls + layout.registers),
        "patches": patches,
        "appended": range(patches.stop, patches.stop + layout.appended),
    }


def write_data(folder: Path, boxes: bool) -> None:
    """Three training images, then seven test images of labels 1 1 0 1 2 0 2; wide ones, so that the crop matters."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for i in range(3 + M):
        pixels = rng.integers(0, 256, size=(5, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((40, 24), Image.Resampling.BICUBIC).save(folder / "images" / f"{i}.png")
    table = pd.DataFrame(
        {
            "image_id": [f"i{i}" for i in range(3 + M)],
            "path": [f"images/{i}.png" for i in range(3 + M)],
            "split": ["train"] * 3 + ["test"] * M,
            "label": [0, 1, 2, 1, 1, 0, 1, 2, 0, 2],
        }
    )
    if boxes:
        table["boxes"] = [[[10.0, 4.0, 20.0 + i, 18.0]] for i in range(3 + M)]
    classes = ["a", "b", "c"]
    manifest.write(folder, manifest.check(table, classes, folder, "test"), classes, "tiny", ".", "the test", "MIT")


class Made:
    """Features of models on the data set ``tiny`` below ``root``, by model and condition."""

    def __init__(self, root: Path, boxes: bool = False) -> None:
        self.root = root
        self.arrays: dict[tuple[str, str], Arrays] = {}
        self.layouts: dict[tuple[str, str], TokenLayout] = {}
        write_data(root / "data", boxes)

    def add(self, model: str, condition: str, layout: TokenLayout | None) -> None:
        """A condition; one that does not apply has no layout."""
        if layout is None:
            folder = store.condition_folder(self.root / "features", "tiny", model, condition)
            store.write_not_applicable(folder, "key", REASON)
            return
        self.layouts[model, condition] = layout
        self.write(model, condition, made_up(layout, len(model) + len(condition)))

    def write(self, model: str, condition: str, arrays: Arrays) -> None:
        """Features of a condition."""
        self.arrays[model, condition] = arrays
        folder = store.condition_folder(self.root / "features", "tiny", model, condition)
        specs = {name: store.Spec(a.shape[1:], str(a.dtype), "dense", "", "") for name, a in arrays.items()}
        specs["dense_rows"] = store.Spec((), "int64", "dense", "row", "")
        writer = store.Writer(folder, "key", specs, {"dense": M})
        writer.write({**arrays, "dense_rows": DENSE}, {"dense": np.arange(M)})
        seen = {"size": [SIZE, SIZE], "resize": [RESIZE, RESIZE]}
        index = {"layout": self.layouts[model, condition].to_json(), "preprocess": seen, "depth": L}
        writer.finish({**index, "patch": [SIZE // GRID[0], SIZE // GRID[1]]})

    def run(
        self,
        model: str = "m",
        images: int = 2,
        outlier_layer: int = -1,
        conditions: list[str] = CONDITIONS,
        reference: str | None = None,
    ) -> Job:
        """Token statistics of a model."""
        found = self.root / f"registers/tiny/{model}.json"
        write_json(found, {**read_json(found), "outlier_layer": outlier_layer % L})
        cfg = Config(
            seed=0,
            dataset="tiny",
            model=model,
            reference=reference,
            conditions=conditions,
            statistics=Statistics(confidence=0.95, resamples=200),
            gallery=Gallery(images=images, candidates=1),
        )
        made = job("token_statistics", self.root, dataset="tiny", model=model)
        measure.run(cfg, made)
        return made


def one_model(root: Path, cls: int = 1, registers: int = 1) -> Made:
    """A model ``m`` as it is, with two appended tokens, and under what does not apply to it."""
    made = Made(root)
    made.add("m", "baseline", TokenLayout(cls, registers, GRID))
    made.add("m", "append-2", TokenLayout(cls, registers, GRID, appended=2))
    made.add("m", "ttr-4", None)
    write_json(root / "registers/tiny/m.json", {"threshold": LIMIT})
    return made
