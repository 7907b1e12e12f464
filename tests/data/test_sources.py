"""Kinds of data sets: found by being there, complete, and refused by name where there is none."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter

import vit_registers
from vit_registers.core.errors import InputError
from vit_registers.data.published.versions import version
from vit_registers.params.bases import DatasetSource
from vit_registers.params.kinds import kinds
from vit_registers.params.reading import check_paths, overlay, parse, read_yaml

ROOT = Path(__file__).parents[2]
KINDS = kinds("vit_registers.data.sources", DatasetSource)
# The least that a kind may be given.
LEAST = {
    "generated": {"train": 2000, "test": 1000},
    "folder": {"path": "photos"},
    "csv": {"csv": "list.csv", "root": "photos"},
    "mosaic": {"train": 2000, "test": 1000},
    "digits": {},
    "cifar10": {},
    "cifar100": {},
    "voc": {"path": "VOC2007"},
    "spair": {"path": "SPair-71k"},
    "coco": {"images": "train2014", "annotations": "instances.json"},
    "caltech101": {"path": "caltech101"},
    "flowers102": {"path": "flowers-102"},
    "aircraft": {"path": "fgvc-aircraft-2013b"},
    "inaturalist": {"path": "inaturalist"},
    "ade20k": {"path": "ADEChallengeData2016"},
    "nyu": {"path": "nyu"},
    "aptos": {"path": "aptos"},
    "pacemaker": {"path": "pacemakers"},
    "orthonet": {"path": "orthonet-data"},
}


def source(kind):
    given = json.dumps({"kind": kind, **LEAST[kind]})
    return TypeAdapter(KINDS[kind]).validate_json(given)


def with_data_set(content):
    """Params of the embedded study in which a model is trained on ``content``."""
    change = {"datasets": {"mine": content}, "models": {"vit-r0": {"dataset": "mine"}}}
    return parse(overlay(read_yaml(ROOT / "params.yaml"), change))


def test_all_kinds_are_found():
    assert set(KINDS) == set(LEAST)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_a_sentence_and_paths_and_stands_in_the_readme(kind):
    made = source(kind)
    sentence = made.sentence("my_data")
    assert sentence.startswith(r"\texttt{my\_data} is ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert set(made.paths()) <= set(type(made).model_fields)
    assert all(getattr(made, key) == path for key, path in made.paths().items())
    assert set(made.tracked()) <= set(made.paths().values())
    assert re.search(rf"kind: {kind}\b", (ROOT / "data" / "README.md").read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_every_path_of_a_kind_is_looked_for(kind, tmp_path):
    paths = source(kind).paths()
    for missing in paths:
        given = {key: str(tmp_path / "no" if key == missing else tmp_path) for key in paths}
        study = with_data_set({"kind": kind, **LEAST[kind], **given})
        with pytest.raises(InputError, match=rf"datasets\.mine\.{missing}: no such path '.*/no'"):
            check_paths(study)
    check_paths(with_data_set({"kind": kind, **LEAST[kind], **dict.fromkeys(paths, str(tmp_path))}))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_of_a_published_data_set_is_named_with_where_it_is_had_and_goes(kind, tmp_path):
    paths = source(kind).paths()
    study = with_data_set({"kind": kind, **LEAST[kind], **{key: str(tmp_path / "no") for key in paths}})
    published = study.datasets["mine"].published()
    if published is None or not paths:
        assert kind in {"generated", "folder", "csv", "mosaic", "digits", "cifar10", "cifar100", "voc", "coco"}
        return
    known = version(published.name)
    with pytest.raises(InputError) as refused:
        check_paths(study)
    assert str(refused.value).endswith(
        f"no such path '{tmp_path / 'no'}'; wanted in {published.folder}: {known.layout}; to be had "
        f"(unpack {', '.join(a.split()[0] if ' md5 ' in a else a for a in known.archives.split('; '))}) from "
        f"{known.source}"
    )
    assert published.folder == str(tmp_path / "no")


def test_an_unknown_kind_is_refused_in_one_line_that_names_the_known_ones():
    with pytest.raises(InputError) as refused:
        with_data_set({"kind": "webdataset", "path": "x"})
    message = str(refused.value)
    assert message.startswith("params.yaml: datasets.mine: ")
    assert "\n" not in message
    assert all(f"'{kind}'" in message for kind in KINDS)


def test_an_unknown_key_is_refused_by_its_name():
    with pytest.raises(InputError, match=r"datasets\.mine\.pathh: unknown key"):
        with_data_set({"kind": "voc", "path": "x", "pathh": "y"})


def python(code, *arguments, package=Path(vit_registers.__file__).parents[1]):
    environment = {**os.environ, "PYTHONPATH": str(package)}
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_kinds_are_found_and_data_sets_prepared_without_torch():
    code = """
import sys
import vit_registers.data.prepare
from vit_registers.params.bases import DatasetSource
from vit_registers.params.kinds import kinds
assert kinds("vit_registers.data.sources", DatasetSource)
print([name for name in ("torch", "torchvision", "timm") if name in sys.modules])
"""
    assert python(code) == "[]\n"


NEW_KIND = '''
"""Plain images of one grey each, dark and bright."""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from PIL import Image

from vit_registers.data import manifest
from vit_registers.params.bases import DatasetSource


class Plain(DatasetSource):
    """``number`` images of each class in each split."""

    kind: Literal["plain"]
    number: int

    def prepare(self, name: str, seed: int, out: Path) -> None:
        """Write them."""
        rows = []
        for i in range(4 * self.number):
            Image.fromarray(np.full((8, 8, 3), 60 + 120 * (i % 2), np.uint8)).save(out / f"{i}.png")
            split = "train" if i < 2 * self.number else "test"
            rows.append({"image_id": str(i), "path": f"{i}.png", "split": split, "label": i % 2})
        classes = ["dark", "bright"]
        table = manifest.check(pd.DataFrame(rows), classes, out, name)
        manifest.write(out, table, classes, name, ".", "the test", "CC0-1.0")

    def sentence(self, name: str) -> str:
        """What they are."""
        return f"{name} is plain."
'''


@pytest.mark.slow
def test_a_kind_dropped_into_the_package_is_found(tmp_path):
    package = tmp_path / "src"
    shutil.copytree(
        Path(vit_registers.__file__).parent, package / "vit_registers", ignore=shutil.ignore_patterns("__pycache__")
    )
    (package / "vit_registers" / "data" / "sources" / "plain.py").write_text(NEW_KIND)
    code = """
import sys
from pathlib import Path
from vit_registers.data import prepare
from vit_registers.data.manifest import Manifest
from vit_registers.params.reading import overlay, parse, read_yaml
from vit_registers.pipeline import configs
content = overlay(read_yaml(sys.argv[1]), {"datasets": {"grey": {"kind": "plain", "number": 3}}})
study = parse(content)
print(study.datasets["grey"].sentence("grey"))
step = configs.prepare(study, "grey")
step = type(step).model_validate_json(step.model_dump_json())  # as a job gets it
prepare.run(step, Path(sys.argv[2]))
print(len(Manifest.load(sys.argv[2]).table))
"""
    said = python(code, str(ROOT / "params.yaml"), str(tmp_path / "out"), package=package)
    assert said == "grey is plain.\n12\n"
