import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vit_registers import params
from vit_registers.core import table as metrics
from vit_registers.params import Params
from vit_registers.pipeline import configs as steps
from vit_registers.report import conditions, methods
from vit_registers.report import numbers as latex
from vit_registers.views.study import Study

ROOT = Path(__file__).parents[2]
SOURCE = (ROOT / "report" / "report.tex").read_text()
BODY = re.sub(r"(?<!\\)%.*", "", SOURCE[SOURCE.index(r"\begin{document}") :])
NATURAL_ONLY = {
    "study": {"runs": [{"dataset": "shapes", "models": ["vit-r0", "vit-r4"], "interventions": ["ttr-4"]}],
              "detections": [], "comparisons": []},
    "gallery": {"images": 4}}  # fmt: skip


def _run(made: Any, out: Path) -> dict[str, str]:
    table = out / "metrics.csv"
    metrics.write(made.rows, table)
    latex.run(steps.report(made.params), table, made.root / "models", made.root / "data", out)
    return {path.stem: path.read_text() for path in out.glob("*.tex")}


def _macro(text: str, name: str) -> str:
    found = re.search(rf"\\newcommand{{\\{name}}}{{(.*)}}$", text, flags=re.MULTILINE)
    assert found is not None, name
    return found[1]


def test_three_files_the_same_every_time(embedded: Any, tmp_path: Path) -> None:
    first, second = _run(embedded, tmp_path / "a"), _run(embedded, tmp_path / "b")
    assert set(first) == {"numbers", "methods", "versions"}
    assert first == second


def test_every_macro_and_condition_of_the_report_is_made_and_every_one_made_is_used(
    embedded: Any, tmp_path: Path
) -> None:
    texts = _run(embedded, tmp_path)
    made = set(re.findall(r"\\newcommand{\\(\w+)}", texts["numbers"] + texts["versions"]))
    own = set(re.findall(r"\\newcommand{\\(\w+)}", SOURCE))
    used = set(re.findall(r"\\([A-Z][A-Za-z]+)\b", SOURCE))
    assert used - own == made
    conditions = set(re.findall(r"\\newif\\if(\w+)", texts["numbers"]))
    assert set(re.findall(r"\\if(\w+)", BODY)) == conditions
    assert BODY.count(r"\if") == BODY.count(r"\fi") - BODY.count(r"\fit")


def test_no_number_is_typed_by_hand(embedded: Any) -> None:
    names = r"DINOv\d|DeiT-III|ADE20k|SHA-256|L2 norm|top-1|Top-1|99th|counted from 0"
    commands = r"\\(?:citet?p?|label|ref|resultfigure|resulttable|longtableofresults|bibliography)\b(?:\{[^}]*\})?"
    prose = re.sub(f"{commands}|{names}", "", BODY)
    assert re.findall(r"[^\n]*(?<!#)\d[^\n]*", prose) == []


def test_everything_cited_is_in_the_references(embedded: Any, tmp_path: Path) -> None:
    known = set(re.findall(r"^@\w+{(\w+),", (ROOT / "report" / "references.bib").read_text(), flags=re.MULTILINE))
    cited = set(re.findall(r"\\cite[pt]?{(\w+)}", SOURCE + _run(embedded, tmp_path)["methods"]))
    # Cited where a recipe of kind dino ran, which the embedded study has not: test_methods_training sees to it.
    assert cited | {"caron2021"} == known


def test_summary_states_the_measured_numbers(embedded: Any, tmp_path: Path) -> None:
    text = _run(embedded, tmp_path)["numbers"]
    study = Study(embedded.view, embedded.rows)
    before = study.treated[0]
    after = study.after(before)
    assert after is not None
    control = study.control(after)
    assert control is not None
    summary = _macro(text, "RepairSummary")
    for condition in (before, after, control):
        cell = study.estimate(condition, "lost", "corloc")
        assert f"${100 * cell.value:.1f}$\\,\\% [${100 * cell.low:.1f}$, ${100 * cell.high:.1f}$]" in summary
    difference = study.estimate(after, "lost", "corloc_difference", reference="tagged/append-4")
    assert f"paired difference ${100 * difference.value:+.1f}$" in summary
    assert "precision $100.0$" in _macro(text, "ArtifactsText")
    assert "In 8 models without planting: no artifacts found" in _macro(text, "NaturalText")
    assert "4{,}000 train and 2{,}000 test images" in _macro(text, "DataText")


def test_a_study_without_artifacts_says_so(make_study: Callable[..., Any], tmp_path: Path) -> None:
    text = _run(make_study(NATURAL_ONLY), tmp_path)["numbers"]
    for name in ("TreatedText", "AfterText"):
        assert _macro(text, name) == "no artifacts found"
    assert "no artifacts found" in _macro(text, "RepairText")
    for name, holds in {"planted": False, "treated": False, "counts": True, "compared": False}.items():
        assert f"\\{name}{str(holds).lower()}\n" in text


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _leaves(child, (*path, key))
    else:
        yield path, value


CHOICES = {
    "precision": {"fp32": "bf16", "bf16": "fp32"},
    "threshold_rule": {"ratio": "absolute"},
    "sparsity": {"off": "signed"},
    "direction": {"random": "cls", "cls": "random", "cls-raw": "cls"},
    "neurons": {"found": "next", "half": "next", "next": "half", "random": "next"},
    "patches": {"zero": "mean"},
    "max_over": {"neuron": "layer", "layer": "neuron"},
    "dense_split": {"test": "train"},
    "images": {"every": "first", "first": "every"},
    "tokens": {"registers": "cls", "patches": "cls"},
    "by": {"zero": "mean", "mean": "noise", "noise": "resample", "resample": "zero"},
    "at": {"every": "last"},
    "to": {"patches": "nothing", "registers": "nothing"},
    "batch_size": {"auto": 8},
    "projections_size": {"model": "native"},
    "feature": {"k": "v"},
    "augmentation": {"dihedral": "crop"},
}
# Not stated: how often a training saves itself, what is kept that no readout here reads, and what figures show.
KEPT = {
    "cls_blocks",
    "patch_layers",
    "specials_layers",
    "attention_heads",
    "attention_columns",
    "attention_maps",
    "neighbours",
}
# And what only some replacements have, which a test of its own states.
UNSTATED = {"checkpoint_steps", "keep_every", "workers", "kind", "only", "count", "resample_from", "frozen_only"} | KEPT


# Where nothing is appended, what would be written there does not matter.
WITHOUT_EFFECT = {("interventions", "cleared", key) for key in ("scale", "max_over", "max_includes_cls")}
WITHOUT_EFFECT.add(("dino_seg", "head"))  # one head needs all heads kept: a test of its own


def _changed(key: str, value: Any) -> Any:
    if key == "confidence":
        return 0.9
    if key == "pue":
        return 1.3
    if key == "top_k" and value is None:
        return 2
    if key == "blocks":
        return [1, 2]
    if key in CHOICES:
        other = CHOICES[key]
        return other[value] if isinstance(value, str) else value + 2
    if key == "features":
        return ["k"] if "q" in value else ["cls"]
    if key == "centre" and isinstance(value, list):
        return value[:1]
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return (
            [*value[:-1], value[-1] + (1 if isinstance(value[-1], int) else -0.01)] if key != "seeds" else [*value, 9]
        )
    return value + 1 if isinstance(value, int) else value * 0.5 if value else 0.25


def test_models_that_are_only_trained_are_named(make_study: Callable[..., Any]) -> None:
    runs = [{"dataset": "shapes", "models": ["vit-r0"], "interventions": []}]
    study = {"runs": runs, "trainings": ["vit-r4", "vit-r0"], "detections": [], "comparisons": []}
    made = make_study({"study": study})
    said = methods.text(made.params, Study(made.view, made.rows))
    assert "and not measured further: \\texttt{vit-r4}." in said
    assert "\\texttt{vit-r4} (4 registers)" in said


def test_the_methods_text_states_every_value_that_ran(embedded: Any) -> None:
    """Change any value of params that a step uses: the methods text must change with it."""
    content = embedded.params.model_dump(mode="json")
    study = Study(embedded.view, embedded.rows)
    stated = methods.text(embedded.params, study)
    sections = (
        "recipes",
        "plantings",
        "extraction",
        "interventions",
        "detection",
        "probe",
        "linear_evaluation",
        "knn",
        "lost",
        "lost_sweep",
        "dino_seg",
        "information",
        "energy",
        "dense",
        "statistics",
    )
    tried = 0
    for section in (*sections, "datasets", "seed"):
        for path, value in _leaves(content[section], (section,)):
            if path[-1] in UNSTATED or "projections" in path or path in WITHOUT_EFFECT:
                continue
            other = copy.deepcopy(content)
            place = other
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = _changed(path[-1], value)
            text = methods.text(
                Params.model_validate_json(steps.ReportStep(params=other).model_dump_json()[10:-1]), study
            )
            assert text != stated, f"{'.'.join(map(str, path))} is not stated"
            tried += 1
    assert tried > 80


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, r"\texttt{planted-48} is \texttt{planted} at $48 \times 48$ pixels with learned position embeddings "
             "resampled bicubically with antialiasing; nothing was trained"),
        ({}, "without antialiasing and with $0.1$ added to the new sides"),
        ({"planted-48": {"image_size": [32, 56]}}, r"at $32 \times 56$ pixels"),
        ({"planted-48": {"positions": {"antialias": False}}}, "resampled bicubically without antialiasing; nothing"),
        ({}, r"\texttt{vit-tiny} (0 registers, 4 blocks of width 64 with 1 head)"),
        ({}, r"\texttt{vit-narrow} (0 registers, 5 blocks of width 96 with 2 heads)"),
        ({"vit-narrow": {"architecture": {"heads": 3}}}, "5 blocks of width 96 with 3 heads"),
        ({}, r"\texttt{vit-r0} (0 registers)"),
        ({"vit-r0": {"kind": "timm", "name": "vit_small", "image_size": 48,
                     "positions": {"offset": 0.5, "antialias": False}}},
         r"(timm's \texttt{vit\_small}, released weights, at $48 \times 48$ pixels with learned position embeddings "
         "resampled bicubically without antialiasing and with $0.5$ added"),
    ],
)  # fmt: skip
def test_the_methods_text_states_sizes_and_how_positions_got_there(
    embedded: Any, change: dict[str, Any], expected: str
) -> None:
    content = embedded.params.model_dump(mode="json")
    for name, values in change.items():
        content["models"][name] = values if "kind" in values else params.overlay(content["models"][name], values)
    if "vit-r0" in change:
        content["models"].pop("tagged")
        for name in [n for n in content["models"] if n.startswith("planted")]:
            content["models"].pop(name)
        content["study"] |= {"detections": [], "comparisons": []}
        content["study"]["runs"] = [{"dataset": "shapes", "models": ["vit-r0"], "interventions": []}]
    changed = Params.model_validate_json(json.dumps(content))
    assert expected in methods.text(changed, Study(steps.view(changed), embedded.rows))


@pytest.mark.parametrize(
    ("intervention", "expected"),
    [
        ({"kind": "ablate", "tokens": "registers", "only": [1]}, "register 1 (from 0) replaced by zeros"),
        ({"kind": "ablate", "tokens": "registers", "only": [0, 2]}, "registers 0, 2 (from 0) replaced by zeros"),
        ({"kind": "ablate", "tokens": "patches", "count": 3}, "3 random patches, drawn per image, replaced by zeros"),
        ({"kind": "ablate", "tokens": "patches"}, "as many random patches, drawn per image, as there are registers"),
        ({"kind": "ablate", "tokens": "cls", "by": "resample"}, "[CLS] replaced by those of another image of the"),
        (
            {"kind": "ablate", "tokens": "cls", "by": "resample", "resample_from": "calibration"},
            "those of a calibration image, as they are in it untouched",
        ),
        (
            {"kind": "chain", "of": [{"kind": "append", "tokens": 2}, {"kind": "ablate", "tokens": "cls"}]},
            "2 zero tokens appended and nothing else touched; [CLS] replaced by zeros at the output of every block",
        ),
    ],
)
def test_a_condition_is_said_in_words(embedded: Any, intervention: dict[str, Any], expected: str) -> None:
    content = embedded.params.model_dump(mode="json")
    content["interventions"]["append-4"] = intervention
    assert expected in conditions.text(Params.model_validate_json(json.dumps(content)))


@pytest.mark.parametrize(
    ("source", "changes", "expected"),
    [
        (
            {"kind": "voc", "path": "v"},
            [{"train": "train"}, {"test": "val"}, {"difficult": False}, {"licence": "mixed"}],
            "the label of an image is the class of its largest object",
        ),
        (
            {"kind": "coco", "images": "i", "annotations": "a"},
            [{"list": "l"}, {"train_share": 0.3}, {"rare": "drop"}, {"licence": "mixed"}],
            "are drawn as training split and the others test",
        ),
        (
            {"kind": "cifar10"},
            [{"kind": "cifar100"}, {"train": 1000}, {"test": 1000}],
            "all 50{,}000 training images and all 10{,}000 test images (licence: none stated by its authors)",
        ),
        (
            {"kind": "cifar100", "train": 1000},
            [{"train": 2000}, {"test": 200}],
            "1{,}000 of the 50{,}000 training images and all 10{,}000 test images, drawn at random",
        ),
    ],
)
def test_a_data_set_that_others_made_is_said_in_words(
    embedded: Any, source: dict[str, Any], changes: list[dict[str, Any]], expected: str
) -> None:
    content = embedded.params.model_dump(mode="json")
    study = Study(embedded.view, embedded.rows)

    def said(change: dict[str, Any]) -> str:
        content["datasets"]["shapes"] = {**source, **change}
        return methods.text(Params.model_validate_json(json.dumps(content)), study)

    stated = said({})
    assert expected in stated
    assert len({stated, *(said(change) for change in changes)}) == 1 + len(changes)


def test_the_methods_text_names_the_head_of_dino_seg(make_study: Callable[..., Any]) -> None:
    made = make_study({"dino_seg": {"head": 1}, "extraction": {"attention_heads": True}})
    text = methods.text(made.params, Study(made.view, made.rows))
    assert "head 1 of the attention of [CLS]" in text
    assert "head 1" not in methods.text(made.params.model_copy(update={"dino_seg": made.params.dino_seg.model_copy(
        update={"head": None})}), Study(made.view, made.rows))  # fmt: skip


@pytest.mark.parametrize(
    ("templates", "expected"),
    [
        ("openai", "the mean over OpenAI's prompts for ImageNet with its name"),
        ("simple", "the mean over OpenCLIP's short list of prompts"),
        (["a {}.", "a 5 % {}."], r"the mean over the prompts ``a \{\}.'' and ``a 5 \% \{\}.'' with"),
    ],
)
def test_the_methods_text_states_the_prompts_where_there_is_a_text_tower(
    make_study: Callable[..., Any], templates: Any, expected: str
) -> None:
    without = make_study({"zero_shot": {"templates": templates}})
    assert "Zero-shot" not in methods.text(without.params, Study(without.view, without.rows))
    clip = {"kind": "openclip", "name": "ViT-B-16", "pretrained": "laion2b_s34b_b88k"}
    runs = {
        "runs": [{"dataset": "shapes", "models": ["clip"], "interventions": []}],
        "detections": [],
        "comparisons": [],
    }
    made = make_study({"zero_shot": {"templates": templates}, "models": {"clip": clip}, "study": runs})
    assert expected in methods.text(made.params, Study(made.view, made.rows))


def test_every_data_set_that_was_looked_at_has_its_checksum(embedded: Any, tmp_path: Path) -> None:
    text = _run(embedded, tmp_path)["versions"]
    for name in embedded.params.datasets_used():
        assert f"data set {name}" in text
