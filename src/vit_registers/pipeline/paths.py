"""Where a study keeps what: below ``data/prepared/<study>`` and ``results/<study>``, so that none touches another."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """Files and folders of the study called ``study``, below the folder ``root``."""

    study: str
    root: Path = Path()

    @property
    def data(self) -> Path:
        """Prepared data sets."""
        return self.root / "data" / "prepared" / self.study

    @property
    def results(self) -> Path:
        """All that is computed."""
        return self.root / "results" / self.study

    @property
    def params(self) -> Path:
        """The params of the run at work, overlays merged, from which its jobs read their own part."""
        return self.results / "params.json"

    def dataset(self, name: str) -> Path:
        """A prepared data set: manifest.parquet and dataset.json."""
        return self.data / name

    @property
    def models(self) -> Path:
        """All models."""
        return self.results / "models"

    def model(self, name: str) -> Path:
        """A model: model.json, weights, and what its training left."""
        return self.models / name

    @property
    def features(self) -> Path:
        """Cached tensors."""
        return self.results / "features"

    def baseline(self, dataset: str, model: str) -> Path:
        """Features of a model as it is."""
        return self.features / "baseline" / dataset / model

    def ablated(self, dataset: str, model: str) -> Path:
        """Features of a model under each intervention, a folder each."""
        return self.features / "ablated" / dataset / model

    def extracted(self, kind: str, dataset: str, model: str) -> Path:
        """What says that features are whole: checksums of the conditions of ``kind`` (baseline, ablated) of a pair."""
        return self.features / kind / dataset / f"{model}.json"

    def shard(self, kind: str, dataset: str, model: str, shard: str) -> Path:
        """What says that a shard of the extraction of ``kind`` has passed its part; what it wrote is beside it."""
        return self.features / "unfinished" / kind / dataset / model / f"{shard}.json"

    def calibration(self, dataset: str, model: str) -> Path:
        """Activation statistics of a model, for interventions that replace tokens."""
        return self.features / "ablated" / dataset / f"{model}.safetensors"

    @property
    def registers(self) -> Path:
        """What detection found: outlier tokens and ranked neurons."""
        return self.results / "registers"

    def found(self, dataset: str, model: str) -> Path:
        """What detection found in a model on a data set."""
        return self.registers / dataset / f"{model}.json"

    def measure(self, name: str, *axes: str) -> Path:
        """What a measure wrote for one job: rows.csv, images.parquet, arrays.npz."""
        return self.results.joinpath("measures", name, *axes)

    def rows(self, measure: str) -> Path:
        """All rows of a measure."""
        return self.results / "rows" / f"{measure}.csv"

    @property
    def table(self) -> Path:
        """The tidy table: all rows of all measures."""
        return self.results / "table.csv"

    @property
    def summary(self) -> Path:
        """Headline numbers as nested JSON, for ``dvc metrics``."""
        return self.results / "summary.json"

    @property
    def tables(self) -> Path:
        """Tables as CSV and LaTeX."""
        return self.results / "tables"

    @property
    def figures(self) -> Path:
        """Figures as PDF and PNG."""
        return self.results / "figures"

    @property
    def report(self) -> Path:
        """Numbers, methods and results that report/report.tex takes in, and report.pdf."""
        return self.results / "report"

    @property
    def explorer(self) -> Path:
        """The page in which the study is looked at; pages of single models are in the folder ``explorer`` beside it."""
        return self.results / "explorer.html"

    @property
    def report_texts(self) -> list[Path]:
        """What report/report.tex takes in of the study's text, in the order in which a reader meets it."""
        names = ("numbers", "summary", "results", "shortfalls", "methods", "appendix", "versions")
        return [self.report / f"{name}.tex" for name in names]
