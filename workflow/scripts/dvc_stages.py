"""Write dvc.yaml: one stage per phase, each calling its Snakemake target.

    python workflow/scripts/dvc_stages.py          writes dvc.yaml
    python workflow/scripts/dvc_stages.py --check  exits 1 where dvc.yaml says something else (a test calls this)

Snakemake decides what is redone within a phase; DVC versions what a phase made. Every output is `persist`, or DVC
would delete it before the stage and Snakemake would recompute all of it. The last stage versions Snakemake's own
records, so that a checkout of older params, or a fresh clone after `dvc pull`, has nothing to do.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from vit_registers.pipeline import digest as closure
from vit_registers.views import needs

TARGET = Path("dvc.yaml")
HEADER = "# Written by workflow/scripts/dvc_stages.py, from the imports of each step; run it after adding a module.\n"
# What decides which jobs a phase has: in every stage, or a removed model would leave its outputs unnoticed.
AXES = ["seed", "datasets", "models", "study.runs", "study.detections"]


@dataclass(frozen=True)
class Phase:
    """A stage: the modules of its steps, the rules file, what it reads and makes, and the params of its slices."""

    modules: list[str]
    rules: str
    deps: list[str]
    outs: list[str]
    params: list[str] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)


BASELINE, ABLATED = "results/features/baseline", "results/features/ablated"
VIEWS = [
    "results/metrics/detection.csv",
    "results/metrics/neurons.csv",
    "results/metrics/tokens.csv",
    "results/metrics/information.csv",
    "results/metrics/probe.csv",
    "results/metrics/lost.csv",
    "results/metrics/dense.csv",
    "results/metrics/zero_shot.csv",
    "results/metrics/sweep.csv",
    "results/metrics/training.csv",
    "results/metrics/cost.csv",
    "results/metrics/energy.csv",
    "results/metrics/comparisons.csv",
]
READOUTS = [f"results/readouts/{name}" for name in ("tokens", "information", "probe", "lost", "dense")]
PHASES = {
    "data": Phase(["data.prepare"], "data", [], ["data/prepared"]),
    "models": Phase(
        ["models.fetch", "training.loop", "planted.plant", "models.resize"],
        "models",
        ["data/prepared"],
        ["results/models"],
        ["device", "recipes", "plantings"],
    ),
    "features": Phase(
        ["extraction.extract"], "features", ["data/prepared", "results/models"], [BASELINE], ["device", "extraction"]
    ),
    "registers": Phase(
        ["registers.detect", "registers.neuron_overlap"],
        "registers",
        ["data/prepared", "results/models", BASELINE],
        ["results/registers", "results/readouts/detection", "results/readouts/neurons"],
        ["device", "extraction", "detection", "detection_overrides", "statistics"],
    ),
    "ablation": Phase(
        ["extraction.calibrate", "extraction.extract"],
        "features",
        ["data/prepared", "results/models", "results/registers"],
        [ABLATED],
        ["device", "extraction", "calibration", "interventions"],
    ),
    "readouts": Phase(
        [
            f"experiments.{name}.measure"
            for name in (
                "token_statistics",
                "single_tokens",
                "classification",
                "object_discovery",
                "dense_prediction",
                "zero_shot",
            )
        ],
        "readouts",
        # Not results/models, whose text towers zero-shot reads: features change with the weights.
        ["data/prepared", BASELINE, "results/registers", ABLATED],
        READOUTS,
        [
            "device",
            "probe",
            "linear_evaluation",
            "knn",
            "lost",
            "dino_seg",
            "information",
            "dense",
            "zero_shot",
            "detection",
            "detection_overrides",
            "gallery",
            "statistics",
        ],
    ),
    "sweep": Phase(
        ["experiments.object_discovery.sweep"],
        "readouts",
        ["data/prepared", "results/models"],
        ["results/readouts/sweep"],
        ["device", "extraction", "lost", "lost_sweep", "statistics"],
    ),
    "training": Phase(
        ["experiments.emergence.measure"], "readouts", ["results/models"], ["results/readouts/training"], ["statistics"]
    ),
    "cost": Phase(["experiments.register_cost.measure"], "readouts", [], ["results/readouts/cost.csv"], ["cost"]),
    "energy": Phase(
        ["experiments.training_energy.measure"],
        "readouts",
        ["results/models"],
        ["results/readouts/energy.csv"],
        ["study", "energy"],
    ),
    "comparisons": Phase(
        ["experiments.comparisons.measure"],
        "readouts",
        ["results/readouts/probe", "results/readouts/lost", "results/readouts/dense"],
        ["results/readouts/comparisons"],
        ["study.comparisons", "statistics"],
    ),
    "metrics": Phase(
        ["experiments.collect"],
        "metrics",
        [
            f"results/readouts/{name}"
            for name in ("detection", "neurons", "sweep", "training", "cost.csv", "energy.csv", "comparisons")
        ]
        + READOUTS,
        [*VIEWS, "results/metrics/metrics.csv"],
        metrics=["results/metrics/summary.json"],
    ),
    "tables": Phase(
        ["views.tables"], "tables", VIEWS, ["results/tables"], ["study", "interventions", "cost", "statistics"]
    ),
    "figures": Phase(
        ["views.figures"],
        "figures",
        [*VIEWS, "results/readouts/tokens", "results/readouts/lost", "results/readouts/training"],
        ["results/figures"],
        ["study", "interventions", "cost", "statistics"],
    ),
    "report": Phase(
        ["report.numbers", "report.build"],
        "report",
        [
            "results/metrics/metrics.csv",
            "results/models",
            "data/prepared",
            "results/tables",
            "results/figures",
            "report/report.tex",
            "report/errata.tex",
            "report/references.bib",
            "report/latexmkrc",
        ],
        ["results/report", "report/report.pdf"],
        [
            "processes",
            "study",
            "device",
            "recipes",
            "plantings",
            "extraction",
            "calibration",
            "interventions",
            "detection",
            "detection_overrides",
            "probe",
            "linear_evaluation",
            "knn",
            "lost",
            "lost_sweep",
            "dino_seg",
            "information",
            "dense",
            "zero_shot",
            "cost",
            "energy",
            "gallery",
            "statistics",
        ],
    ),
}


def source_files(modules: list[str]) -> list[str]:
    """Files of the package that the steps run, relative to the repository."""
    found = {path for module in modules for path in closure.files(f"vit_registers.{module}")}
    return [f"src/vit_registers/{path.relative_to(closure.ROOT)}" for path in sorted(found)]


def stage(name: str, phase: Phase) -> dict[str, object]:
    """One stage of dvc.yaml."""
    workflow = ["Snakefile", "workflow/rules/common.smk", f"workflow/rules/{phase.rules}.smk"]
    content: dict[str, object] = {
        "cmd": f"snakemake --cores all phase_{name}",
        "params": list(dict.fromkeys([*AXES, *phase.params])),
        "deps": [*phase.deps, *workflow, *source_files(phase.modules)],
        "outs": [{out: {"persist": True}} for out in phase.outs],
    }
    if phase.metrics:
        content["metrics"] = [{out: {"persist": True}} for out in phase.metrics]
    return content


def document() -> str:
    """The text of dvc.yaml."""
    stages = {name: stage(name, phase) for name, phase in PHASES.items()}
    last = [out for name in ("metrics", "tables", "figures", "report") for out in PHASES[name].outs]
    stages["provenance"] = {
        "cmd": "snakemake --cores all all",
        "deps": [*last, "results/metrics/summary.json"],
        "outs": [{".snakemake/metadata": {"persist": True}}],
    }
    plots = [f"results/figures/{name}.png" for name in needs.FIGURES]
    return HEADER + yaml.safe_dump({"stages": stages, "plots": plots}, sort_keys=False, width=120)


def main() -> int:
    """Write dvc.yaml, or compare it."""
    text = document()
    if "--check" in sys.argv:
        if not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text:
            print("error: dvc.yaml differs from the rules; run: python workflow/scripts/dvc_stages.py", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
