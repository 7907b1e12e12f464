"""What the README promises: its overlay is valid, what it lists is there, and its links lead somewhere."""

import re

import yaml

from helpers.studies import ROOT
from vit_registers.params import reading
from vit_registers.params.bases import Intervention
from vit_registers.params.kinds import kinds
from vit_registers.pipeline import experiment
from vit_registers.pipeline.steps import steps

README = (ROOT / "README.md").read_text()
PAGES = [
    *("README.md", "CONTRIBUTING.md", "results/README.md", "data/README.md"),
    *("docs/coverage.md", "docs/your_own_model.md"),
]
STATES = ["there", "partly", "missing", "out of reach"]


def _section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_overlay_for_ones_own_model_is_complete() -> None:
    given = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)[0])
    params = reading.parse(reading.overlay(reading.read_yaml(ROOT / "params.yaml"), given))
    assert params.study.name == "mine"
    assert params.pairs() == [("photos", "dinov2")]
    assert params.models_used() == ["dinov2"]
    assert params.datasets_used() == ["photos"]


def test_tables_list_what_is_there() -> None:
    names = re.findall(r"^\| `(\w+)` \|", _section("Experiments"), flags=re.MULTILINE)
    assert set(names) == set(experiment.found())
    names = re.findall(r"^\| `(\w+)` \|", _section("Interventions"), flags=re.MULTILINE)
    assert set(names) == set(kinds("vit_registers.interventions.kinds", Intervention))


def test_steps_and_tables_that_are_called_exist() -> None:
    for step in re.findall(r"^vit-registers ([a-z-]+) --dataset", README, flags=re.MULTILINE):
        assert step.replace("-", "_") in steps()
    for table in re.findall(r"results/embedded/tables/(\w+)\.csv", README):
        assert table in experiment.tables()


def test_links_lead_to_files() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / page).read_text()):
            assert (ROOT / page).parent.joinpath(link).exists(), f"{page}: {link}"


def test_coverage_names_tables_and_figures_that_there_are_and_counts_its_rows() -> None:
    text = (ROOT / "docs" / "coverage.md").read_text()
    assert set(re.findall(r"tables/(\w+)", text)) <= set(experiment.tables())
    assert set(re.findall(r"figures/(\w+)", text)) <= set(experiment.figures())
    rows = {}
    for paper, section in re.findall(r"\n## (\w+)\n(.*?)(?=\n## |\Z)", text, flags=re.DOTALL):
        rows[paper] = [line.split(" | ")[2] for line in section.splitlines() if re.match(r"\| [A-Z]\d", line)]
    rows["all"] = [state for states in rows.values() for state in states]
    for paper, states in rows.items():
        counts = " | ".join(str(states.count(state)) for state in STATES)
        assert f"| {paper} | {counts} |" in text
        assert set(states) <= set(STATES)
    assert len(rows["all"]) == 88
