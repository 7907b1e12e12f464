"""Params that are no YAML, no params, or params of nothing that could run: one line with file and key, nothing done."""

import os
from pathlib import Path

import pytest

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)
FILES = {
    "A1-utf16": (
        "p.yaml",
        "seed: 1".encode("utf-16"),
        r"p\.yaml: not a params file in YAML: no text in UTF-8 at byte 1",
    ),
    "A1-latin1": ("p.yaml", b"study: {title: caf\xe9}", "no text in UTF-8 at byte 19"),
    "A1-nul": ("p.yaml", b"seed: 1\nlimit: \0", "a NUL byte in line 2"),
    "A1-binary": ("p.yaml", bytes(range(256)), "no text in UTF-8"),
    "A1-control": ("p.yaml", b"seed: 1 \x07", "not valid YAML|special characters"),
    "A1-empty": ("p.yaml", b"", "expected a mapping of params, got nothing"),
    "A1-list": ("p.yaml", b"- 1\n- 2", "expected a mapping of params, got a list"),
    "A1-word": ("p.yaml", b"seed", "expected a mapping of params, got a str"),
    "A1-tab": ("p.yaml", b"study:\n\tname: a", "line 2: not valid YAML"),
    "A1-open": ("p.yaml", b"study: [", "not valid YAML"),
    "A1-two-documents": ("p.yaml", b"seed: 1\n---\nseed: 2\n", "not valid YAML"),
    "A1-deep-list": ("p.yaml", b"seed: " + b"[" * 100_000, "nested too deeply"),
    "A1-deep-mapping": ("p.yaml", b"{a: " * 100 + b"1" + b"}" * 100, "nested more than 50 deep"),
    "A1-itself": ("p.yaml", b"study: &a\n  runs: [*a]\n", "line 2: holds itself through an alias|line 1: holds itself"),
    "A1-itself-list": ("p.yaml", b"seed: &a [*a]\n", "holds itself through an alias"),
    "E15-alias-bomb": ("p.yaml", BOMB.encode(), "aliases .* stand for more than 200,000 values"),
    "A1-list-as-key": ("p.yaml", b"? [1, 2]\n: 3\n", "line 1: a key is a list; expected text"),
    "A1-mapping-as-key": ("p.yaml", b"? {a: 1}\n: 3\n", "line 1: a key is a mapping; expected text"),
    "A1-true-as-key": ("p.yaml", b"on: 1\n", "line 1: a key is true or false; expected text, put it in quotes"),
    "A1-null-as-key": ("p.yaml", b"~: 1\n", "line 1: a key is nothing; expected text"),
    "A1-number-as-key": ("p.yaml", b"1.5: 1\n", "line 1: a key is a number; expected text"),
    "B6-key-twice": ("p.yaml", b"seed: 1\nseed: 2\n", "line 2: key 'seed' is given twice"),
    "B6-key-twice-below": ("p.yaml", b"study:\n  name: a\n  name: b\n", "line 3: key 'name' is given twice"),
    "B6-number-and-text": ("p.yaml", b"1: a\n'1': b\n", "key '1' is given twice"),
    "A1-no-anchor": ("p.yaml", b"seed: *nowhere\n", "line 1: not valid YAML: found undefined alias"),
    "A1-python": (
        "p.yaml",
        b"seed: !!python/object/apply:os.system ['touch ran']\n",
        "could not determine a constructor",
    ),
    "A1-tag": ("p.yaml", b"seed: !mine 1\n", "line 1: not valid YAML: could not determine a constructor"),
    "A1-date": ("p.yaml", b"study: {title: 2020-01-01}\n", r"study\.title: expected text or a number, got a date"),
    "A1-set": ("p.yaml", b"study: {title: !!set {a, b}}\n", r"study\.title: expected text or a number, got a set"),
    "A1-bytes": ("p.yaml", b"study: {title: !!binary aGk=}\n", r"study\.title: expected text or a number, got a bytes"),
    "A1-huge-integer": ("p.yaml", b"seed: 1" + b"0" * 5000 + b"\n", "digits"),
    "E10-yte": ("p.yaml", b"__use_yte__: true\n__definitions__: [\"open('ran', 'w')\"]\n", "__use_yte__: unknown key"),
    "A1-json-comma": ("p.json", b'{"seed": 1,}', r"p\.json: line 1: not valid JSON"),
    "A1-json-twice": ("p.json", b'{"seed": 1, "seed": 2}', "key 'seed' is given twice"),
    "A1-json-list": ("p.json", b"[1]", "expected a mapping of params, got a list"),
    "A1-json-deep": ("p.json", b"[" * 200_000, "nested too deeply"),
    "B4-json-nan": ("p.json", b'{"seed": NaN}', "seed: expected a finite number, got nan"),
    "B4-json-infinity": ("p.json", b'{"seed": 1e999}', "seed: expected a finite number, got inf"),
    "A2-braces": ("p.json", b"{}{}", "not valid JSON"),
}


@pytest.mark.parametrize(("name", "text", "said"), FILES.values(), ids=FILES)
def test_a_file_that_is_no_params(command, base, tmp_path, name, text, said):
    (tmp_path / name).write_bytes(text)
    command("plan", "--params", str(base), "--params", name).refused(name, said)
    assert not (tmp_path / "ran").exists()


def test_a_byte_order_mark_is_none_of_the_params(command, base, tmp_path):
    (tmp_path / "p.yaml").write_bytes(b"\xef\xbb\xbfseed: 3\r\n")
    ended = command("plan", "--params", str(base), "--params", "p.yaml")
    assert (ended.status, ended.errors) == (0, "")


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


PLACES = {
    "A1-missing": (lambda path: None, "no such file; name a params file that is there"),
    "A1-folder": (_folder, "is a folder, expected a params file"),
    "A1-dangling": (lambda path: path.symlink_to("nowhere"), "no such file"),
    "A1-loop": (_loop, "cannot be read"),
    "B10-pipe": (os.mkfifo, "is no file but a pipe, a socket or a device"),
    "A1-device": (lambda path: path.symlink_to("/dev/zero"), "is no file but a pipe, a socket or a device"),
    "A1-file-as-folder": (lambda path: path.parent.joinpath("f").write_text("") and None, "no such file"),
}


@pytest.mark.parametrize(("make", "said"), PLACES.values(), ids=PLACES)
def test_what_is_no_file_in_place_of_params(command, base, tmp_path, make, said):
    make(tmp_path / "p.yaml")
    command("plan", "--params", str(base), "--params", "p.yaml").refused(r"p\.yaml", said)


def test_a_name_too_long_for_a_file(command):
    command("plan", "--params", "x" * 300).refused("File name too long")


def test_a_name_that_is_no_text(command):
    command("plan", "--params", "caf\udce9.yaml").refused("no such file")


RUN = "{{dataset: shapes, models: [vit-r0], interventions: [], {}}}"
ALONE = "study: {{detections: [], comparisons: [], runs: [{}]}}"


def one(more: str) -> str:
    """A study of one run with something more about it."""
    return ALONE.format(RUN.format(more))


VALUES = {
    "key": ("sead: 1", "sead: unknown key"),
    "seed-negative": ("seed: -1", "seed: .*greater than or equal to 0"),
    "seed-text": ("seed: '0'", "seed: input should be a valid integer, got '0'"),
    "seed-fraction": ("seed: 1.5", "seed: "),
    "seed-null": ("seed: null", "seed: .*got None"),
    "seed-true": ("seed: true", "seed: .*got True"),
    "seed-list": ("seed: [1]", "seed: "),
    "limit": ("limit: 3", "limit: .*greater than or equal to 4"),
    "device": ("device: tpu", "device: "),
    "processes": ("processes: 0", "processes: "),
    "study-null": ("study: null", "study: "),
    "name-path": ("study: {name: ../other}", r"study\.name: "),
    "name-slash": ("study: {name: a/b}", r"study\.name: "),
    "name-space": ("study: {name: 'a b'}", r"study\.name: "),
    "name-newline": ('study: {name: "a\\nb"}', r"study\.name: "),
    "name-empty": ("study: {name: ''}", r"study\.name: "),
    "name-long": (f"study: {{name: {'a' * 200}}}", r"study\.name: .*at most 100"),
    "title-number": ("study: {title: 5}", r"study\.title: "),
    "no-runs": ("study: {runs: []}", r"study\.runs: "),
    "runs-mapping": ("study: {runs: {a: 1}}", r"study\.runs: "),
    "run-dataset": (ALONE.format("{dataset: nix, models: [vit-r0], interventions: []}"), "unknown data set 'nix'"),
    "run-model": (ALONE.format("{dataset: shapes, models: [nix], interventions: []}"), "unknown model 'nix'"),
    "run-intervention": (ALONE.format("{dataset: shapes, models: [vit-r0], interventions: [nix]}"), "unknown intervention"),
    "run-experiment": (one("experiments: [nix]"), "unknown experiment 'nix'"),
    "run-heads": (one("heads: some"), r"study\.runs\[0\]\.heads: "),
    "A3-model-twice": (ALONE.format("{dataset: shapes, models: [vit-r0, vit-r0], interventions: []}"), "already|twice"),
    "A3-intervention-twice": (
        ALONE.format("{dataset: shapes, models: [vit-r0], interventions: [append-4, append-4]}"),
        r"study\.runs\[0\]\.interventions: 'append-4' is given twice",
    ),
    "A3-experiment-twice": (one("experiments: [overview, overview]"), "experiments: 'overview' is given twice"),
    "A3-seeds": ("experiments: {classification: {probe: {seeds: [0, 1, 0]}}}", r"probe\.seeds: 0 is given twice"),
    "A3-limit-seeds": ("experiments: {detection_limits: {seeds: [1, 1]}}", r"detection_limits\.seeds: 1 is given twice"),
    "detection-model": ("study: {detections: [{dataset: shapes, models: [nix]}]}", "unknown model 'nix'"),
    "comparison-side": ("study: {comparisons: [{question: q, a: nix/baseline, b: vit-r0/baseline}]}", "no run has 'nix/base"),
    "comparison-form": ("study: {comparisons: [{question: q, a: vit-r0, b: vit-r0/baseline}]}", r"comparisons\[0\]"),
    "comparison-number": ("study: {comparisons: [{question: q, a: 1, b: vit-r0/baseline}]}", r"comparisons\[0\]"),
    "comparison-twice": (
        "study: {comparisons: ["
        + ", ".join(["{question: q, a: vit-r4/baseline, b: vit-r0/baseline}"] * 2)
        + "]}",
        "compared with .* already",
    ),
    "E12-two-data-sets": (
        "study: {detections: [], comparisons: [{question: q, a: vit-r4/baseline, b: vit-r0/baseline}], runs: ["
        "{dataset: shapes, models: [vit-r0], interventions: []}, {dataset: shapes-grey, models: [vit-r4], interventions: []}]}",
        r"study\.comparisons\[0\]: its conditions run on no data set together",
    ),
    "stands-for": ("study: {stands_for: {models: {x: nix}}}", "unknown model of a run 'nix'"),
    "no-datasets": ("datasets: 5", "datasets: "),
    "dataset-kind": ("datasets: {x: {kind: nix}}", r"datasets\.x"),
    "dataset-no-kind": ("datasets: {x: {path: a}}", r"datasets\.x"),
    "dataset-name": ("datasets: {'a b': {kind: folder, path: a}}", r"datasets\.a b"),
    "generated-none": ("datasets: {shapes: {train: 0}}", r"datasets\.shapes\.train: "),
    "generated-small": ("datasets: {shapes: {size: 8}}", r"datasets\.shapes\.size: "),
    "A4-generated-immense": ("datasets: {shapes: {size: 10000000}}", r"datasets\.shapes\.size: .*at most|less than"),
    "folder-number": ("datasets: {x: {kind: folder, path: 5}}", r"datasets\.x\.path: "),
    "folder-share": ("datasets: {x: {kind: folder, path: a, test_share: 1.0}}", r"datasets\.x\.test_share: "),
    "B4-share-nan": ("datasets: {x: {kind: folder, path: a, test_share: .nan}}", "expected a finite number, got nan"),
    "csv-root": ("datasets: {x: {kind: csv, csv: a}}", r"datasets\.x\.root: missing"),
    "csv-boxes": ("datasets: {x: {kind: csv, csv: a, root: b, box_columns: [a, b]}}", r"datasets\.x\.box_columns"),
    "coco-unlisted": ("datasets: {x: {kind: coco, images: a, annotations: b, unlisted: 5}}", "unlisted: expected a list"),
    "digits-size": ("datasets: {x: {kind: digits, size: 1000}}", r"datasets\.x\.size: "),
    "mosaic-tile": ("datasets: {x: {kind: mosaic, train: 5, test: 5, size: 65}}", "expected a multiple of tile"),
    "cifar-few": ("datasets: {x: {kind: cifar10, train: 5}}", "expected at least 20 images"),
    "model-kind": ("models: {x: {kind: nix}}", r"models\.x"),
    "model-recipe": ("models: {vit-r0: {recipe: nix}}", r"models\.vit-r0\.recipe: unknown recipe 'nix'"),
    "model-registers": ("models: {vit-r0: {registers: -1}}", r"models\.vit-r0\.registers: "),
    "E17-model-registers": ("models: {vit-r0: {registers: 1000000000}}", r"models\.vit-r0\.registers: .*less than"),
    "A4-heads": ("models: {vit-r0: {architecture: {heads: 3}}}", "heads: expected a divisor of width"),
    "A4-recipe-heads": ("recipes: {small: {architecture: {heads: 5}}}", "heads: expected a divisor of width"),
    "A4-recipe-patch": ("recipes: {small: {architecture: {patch_size: 7}}}", "patch_size: expected a divisor of image_size"),
    "A4-recipe-image": ("recipes: {small: {architecture: {image_size: 10000000}}}", r"image_size: .*less than"),
    "E15-recipe-depth": ("recipes: {small: {architecture: {depth: 100000}}}", r"depth: .*less than"),
    "A4-recipe-width": ("recipes: {small: {architecture: {width: 0}}}", r"width: .*greater than"),
    "model-base": ("models: {tagged: {base: nix}}", r"models\.tagged\.base: unknown model 'nix'"),
    "model-base-itself": ("models: {x: {kind: resized, base: x, image_size: 32}}", r"models\.x\.base: is made from itself"),
    "model-base-circle": (
        "models: {x: {kind: resized, base: y, image_size: 32}, y: {kind: resized, base: x, image_size: 32}}",
        "is made from itself",
    ),
    "untrained-heads": (
        "models: {x: {kind: untrained, image_size: 32, patch_size: 8, width: 10, depth: 1, heads: 3}}",
        "heads: expected a divisor of width",
    ),
    "B3-mean-nan": ("models: {x: {kind: file, path: a, name: b, mean: [.nan, 0.5, 0.5]}}", r"models\.x\.mean\[0\]: expected a finite"),
    "checkpoint-sha": ("models: {x: {kind: file, path: a, name: b, sha256: xyz}}", r"models\.x\.sha256: "),
    "random-pinned": ("models: {x: {kind: timm, name: a, weights: random, revision: b}}", "random weights are in no hub"),
    "epochs": ("recipes: {small: {epochs: 0}}", r"recipes\.small\.epochs: "),
    "B4-lr-infinite": ("recipes: {small: {lr: .inf}}", r"recipes\.small\.lr: expected a finite number, got inf"),
    "lr-text": ("recipes: {small: {lr: 1e-3}}", "YAML reads this as text: write 1.0e-03"),
    "betas": ("recipes: {small: {betas: [0.9, 2.0]}}", r"recipes\.small\.betas"),
    "maps": ("recipes: {small: {monitored_maps: 1000}}", "monitored_maps: expected at most"),
    "batch-size": ("extraction: {batch_size: 0}", "batch_size: "),
    "precision": ("extraction: {precision: fp8}", "precision: "),
    "projections": ("extraction: {projections: {z: [-1]}}", "projections"),
    "projections-none": ("extraction: {projections: {k: []}}", "projections"),
    "projections-twice": ("extraction: {projections: {k: [-1, -1]}}", r"extraction\.projections\.k: -1 is given twice"),
    "dense-images": ("extraction: {dense_images: 0}", "dense_images: "),
    "frozen-only": ("extraction: {frozen_only: [nix]}", "unknown intervention 'nix'"),
    "frozen-baseline": ("extraction: {frozen_only: [baseline]}", "heads are fitted to baseline"),
    "override-key": ("extraction_overrides: {shapes: {nix: 1}}", "unknown key 'nix'"),
    "B4-override-infinite": ("detection_overrides: {planted: {threshold: .inf}}", "expected a finite number, got inf"),
    "calibration": ("calibration: {images: 1}", r"calibration\.images: "),
    "append-none": ("interventions: {x: {kind: append, tokens: 0}}", r"interventions\.x\.tokens: "),
    "E17-append": ("interventions: {x: {kind: append, tokens: 1000000000}}", r"interventions\.x\.tokens: .*less than"),
    "baseline-name": ("interventions: {baseline: {kind: append, tokens: 1}}", "the name is taken"),
    "chain-empty": ("interventions: {x: {kind: chain, of: []}}", r"interventions\.x\.of: "),
    "threshold": ("detection: {threshold: 0.0}", r"detection\.threshold: "),
    "top-k": ("detection: {top_k: 0}", r"detection\.top_k: "),
    "gallery": ("gallery: {images: 0}", r"gallery\.images: "),
    "confidence": ("statistics: {confidence: 1.5}", r"statistics\.confidence: "),
    "resamples": ("statistics: {resamples: 0}", r"statistics\.resamples: "),
    "experiment": ("experiments: {nix: {}}", r"experiments\.nix: unknown key"),
    "B4-share-0": ("experiments: {classification: {probe: {validation_share: 0.0}}}", "validation_share: .*greater than 0"),
    "B4-share-1": ("experiments: {classification: {probe: {validation_share: 1.0}}}", "validation_share: .*less than 1"),
    "B4-rates-twice": (
        "experiments: {classification: {linear_evaluation: {learning_rates: [0.1, 0.1]}}}",
        r"learning_rates: 0\.1 is given twice",
    ),
    "B4-bias-infinite": ("experiments: {object_discovery: {lost: {bias: -.inf}}}", "expected a finite number, got -inf"),
    "knn": ("experiments: {classification: {knn: {k: 0}}}", r"knn\.k: "),
    "lost-k": ("experiments: {object_discovery: {lost: {k: 0}}}", r"lost\.k: "),
    "margins": ("experiments: {comparisons: {margins: {nix: 0.1}}}", "unknown metric 'nix'"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), VALUES.values(), ids=VALUES)
def test_a_value_that_no_study_can_have(command, base, tmp_path, text, said):
    (tmp_path / "p.yaml").write_text(text)
    command("plan", "--params", str(base), "--params", "p.yaml").refused(r"base\.json \+ p\.yaml: ", said)


CALLS = {
    "no-command": (["no"], "No such command 'no'"),
    "nearly": (["prepar"], "Did you mean 'prepare'"),
    "no-option": (["prepare", "--no"], "No such option"),
    "no-axis": (["prepare"], "Missing option '--dataset'; see `vit-registers prepare --help`"),
    "no-value": (["prepare", "--dataset"], "requires an argument"),
    "dataset": (["prepare", "--dataset", "no", "--params", "base.json"], "no data set 'no'; known are"),
    "model": (["fetch", "--model", "no", "--params", "base.json"], "no model 'no'; known are"),
    "wrong-step": (["train", "--model", "tagged", "--params", "base.json"], "'tagged' is not made by train; run"),
    "no-job": (
        ["extract", "--dataset", "shapes-grey", "--model", "vit-r0", "--params", "base.json"],
        "extract: no run of this study has shapes-grey, vit-r0; its jobs are",
    ),
    "measure": (["collect", "no", "--params", "base.json"], "no measure 'no'; known are"),
    "table": (["table", "no", "--params", "base.json"], "no table 'no'; known are"),
    "figure": (["figure", "../no", "--params", "base.json"], "no figure '../no'; known are"),
    "plan-number": (["plan", "--tflops", "nan-", "--params", "base.json"], "tflops"),
    "plan-negative": (["plan", "--tflops", "-1", "--params", "base.json"], "tflops"),
    "without-params": (["plan"], r"params\.yaml: no such file"),
}


@pytest.mark.parametrize(("call", "said"), CALLS.values(), ids=CALLS)
def test_a_command_that_is_used_wrongly(command, base, call, said):
    command(*call).refused(said)
