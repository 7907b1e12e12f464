"""A small data set of wide images with boxes, and features as a pass would leave them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vit_registers.core.table import Rows
from vit_registers.data import manifest
from vit_registers.experiments.job import Job
from vit_registers.extraction import store
from vit_registers.models.layout import TokenLayout
from vit_registers.models.preprocess import Preprocess
from vit_registers.pipeline import experiment

WIDTH, HEIGHT = 40, 24
SIZE, RESIZE = 16, 20  # of the model's input: one side of the image is cropped
GRID = (4, 4)


@dataclass
class Study:
    """``root`` holds data and features of one model ``m``; ``table`` is the manifest."""

    root: Path
    table: pd.DataFrame

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def features(self) -> Path:
        return self.root / "features"

    def write_manifest(self) -> None:
        classes = ["a", "b", "c"]
        table = manifest.check(self.table, classes, self.data, "test")
        manifest.write(self.data, table, classes, "tiny", ".", "the test", "MIT")

    def rows(self, split: str) -> np.ndarray:
        return np.flatnonzero(self.table["split"] == split)

    def folder(self, condition: str) -> Path:
        return store.condition_folder(self.features, "tiny", "m", condition)

    def write_features(
        self,
        condition: str,
        arrays: dict[str, np.ndarray],
        dense: np.ndarray,
        pairs: np.ndarray | None = None,
        registers: int = 0,
    ) -> None:
        """Arrays whose length is that of the data set have rows ``all``; those called ``pair_...`` those of ``pairs``;
        the others ``dense``.
        """
        arrays = {**arrays, "dense_rows": dense} | ({} if pairs is None else {"pair_rows": pairs})
        rows = {name: "all" if len(a) == len(self.table) else "dense" for name, a in arrays.items()}
        rows |= {name: "pairs" for name in arrays if name.startswith("pair_")}
        specs = {name: store.Spec(a.shape[1:], str(a.dtype), rows[name], "", "") for name, a in arrays.items()}
        counts = {"all": len(self.table), "dense": len(dense), "pairs": 0 if pairs is None else len(pairs)}
        writer = store.Writer(self.folder(condition), "key", specs, counts)
        writer.write(arrays, {kind: np.arange(n) for kind, n in counts.items()})
        layout = TokenLayout(1, registers, GRID)
        seen = Preprocess.square(SIZE, RESIZE, "bicubic", (0.5,) * 3, (0.25,) * 3).to_json()
        patch = [SIZE // GRID[0], SIZE // GRID[1]]
        writer.finish({"layout": layout.to_json(), "preprocess": seen, "patch": patch, "depth": 3})


def job_of(study: Study, measure: str, out: str = "out") -> Job:
    """A job of a declared measure on the small data set: its rows take the metrics and axes that are declared."""
    _, declared = experiment.measures()[measure]
    fixed = {axis: {"dataset": "tiny", "model": "m"}[axis] for axis in declared.per}
    return Job(
        rows=Rows(experiment.owner(measure), declared.metrics, declared.axes, **fixed),
        out=study.root / out,
        data=study.data,
        model=study.root / "model",
        features=study.features,
        registers=study.root / "registers",
        measures=study.root / "measures",
    )


@pytest.fixture
def job(study):
    """Function that makes a job of a measure."""
    return lambda measure, out="out": job_of(study, measure, out)


@pytest.fixture
def study(tmp_path) -> Study:
    """60 training and 30 test images of three classes; every second image has a second box."""
    rng = np.random.default_rng(0)
    n = 90
    (tmp_path / "data" / "images").mkdir(parents=True)
    rows = []
    for i in range(n):
        path = f"images/{i}.png"
        pixels = rng.integers(0, 256, size=(6, 10, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((WIDTH, HEIGHT)).save(tmp_path / "data" / path)
        x, y = rng.integers(10, 18), rng.integers(2, 8)
        boxes = [[x, y, x + rng.integers(5, 12), y + rng.integers(5, 14)], [20.0, 3.0, 26.0, 9.0]][: 1 + i % 2]
        split = "train" if i < 60 else "test"
        rows.append({"image_id": f"i{i:02d}", "path": path, "split": split, "label": i % 3, "boxes": boxes})
    made = Study(tmp_path, pd.DataFrame(rows))
    made.write_manifest()
    return made
