"""What redoes a step, and what does not: digests of a copy of the package in which something was edited."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.studies import STUDIES, load, only
from vit_registers.params.bases import DatasetSource
from vit_registers.params.kinds import kinds
from vit_registers.pipeline import digest, source, steps

LOST = "vit_registers.experiments.object_discovery.measure:run"
TRAIN = "vit_registers.training.loop:run"
PREPARE = "vit_registers.data.prepare:run"
SCRIPT = """
import json, sys
from vit_registers.pipeline.digest import code
print(json.dumps({name: code(name) for name in sys.argv[1:]}))
"""


class Copy:
    """The package in a folder of its own, to be edited."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.package = root / "vit_registers"
        shutil.copytree(source.ROOT, self.package, ignore=shutil.ignore_patterns("__pycache__"))

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.package / file
        text = path.read_text()
        assert old in text, (file, old)
        path.write_text(text.replace(old, new, 1))

    def run(self, script: str, *arguments: str) -> str:
        environment = {"PYTHONPATH": str(self.root)}
        command = [sys.executable, "-c", script, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def digests(self) -> dict[str, str]:
        return json.loads(self.run(SCRIPT, LOST, TRAIN, PREPARE))


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    return {name: digest.code(name) for name in (LOST, TRAIN, PREPARE)}


def changed(copy: Copy, before: dict[str, str]) -> set[str]:
    after = copy.digests()
    return {name for name in before if before[name] != after[name]}


def test_digests_that_are_kept_are_good_until_a_source_changes(copy, before, tmp_path):
    kept = tmp_path / "code.json"
    keeping = f"from pathlib import Path; from vit_registers.pipeline import digest; digest.keep(Path({str(kept)!r}))"

    def run():
        return json.loads(copy.run(f"{keeping}\n{SCRIPT}", LOST, PREPARE))

    expected = {name: before[name] for name in (LOST, PREPARE)}
    assert run() == expected
    content = json.loads(kept.read_text())
    assert len(content["digests"]) == 2
    content["digests"] = dict.fromkeys(content["digests"], "kept")
    kept.write_text(json.dumps(content))
    assert set(run().values()) == {"kept"}  # it is taken, and nothing parsed
    copy.edit("core/table.py", '"""', '"""Said otherwise. ')
    assert run() == expected


def test_comments_docstrings_annotations_and_layout_redo_nothing(copy, before):
    copy.edit("experiments/object_discovery/lost.py", '"""', '"""Said otherwise. ')
    copy.edit("experiments/object_discovery/lost.py", "def similarity(", "# a comment\n\n\ndef similarity(")
    copy.edit("experiments/object_discovery/lost.py", "bias: float = 0.0", "bias: float | int = 0.0")
    copy.edit("training/loop.py", '"""', '"""Said otherwise. ')
    assert changed(copy, before) == set()


def test_a_moved_function_and_a_new_helper_redo_nothing(copy, before):
    boxes = copy.package / "core/numerics/boxes.py"
    text = boxes.read_text()
    start, end = text.index("def iou("), text.index("def best_iou(")
    (copy.package / "core/overlap.py").write_text(text[: text.index("\n\n\n")] + "\n\n\n" + text[start:end])
    boxes.write_text(text[:start] + text[end:])
    copy.edit(
        "core/numerics/boxes.py", "from numpy.typing", "from vit_registers.core.overlap import iou\nfrom numpy.typing"
    )
    with (copy.package / "core/files.py").open("a") as file:
        file.write('\n\ndef another_helper() -> int:\n    """Nobody calls it yet."""\n    return 1\n')
    assert changed(copy, before) == set()


def test_a_changed_constant_redoes_its_step_alone(copy, before):
    copy.edit("experiments/object_discovery/measure.py", "HIT = 0.5", "HIT = 0.6")
    assert changed(copy, before) == {LOST}


def test_a_changed_helper_redoes_who_uses_it_and_nobody_else(copy, before):
    copy.edit("core/numerics/boxes.py", "np.maximum.reduceat(", "+np.maximum.reduceat(")
    assert changed(copy, before) == {LOST}


@pytest.mark.slow
def test_a_changed_method_counts_where_it_is_mentioned(copy, before):
    copy.edit("extraction/store.py", "def dense_rows(self)", "def dense_rows(self, again=1)")
    assert changed(copy, before) == {LOST}
    copy.edit("data/manifest.py", "np.flatnonzero(", "+np.flatnonzero(")  # in Manifest.rows
    assert {LOST, TRAIN} <= changed(copy, before)


@pytest.mark.slow
def test_a_method_that_torch_calls_counts_although_nobody_mentions_it(copy, before):
    copy.edit(
        "training/supervised.py",
        "def before_update(self",
        "def forward(self):\n        pass\n\n    def before_update(self",
    )
    assert TRAIN in digest_of_recipe(copy, before)


def digest_of_recipe(copy: Copy, before: dict[str, str]) -> set[str]:
    """Steps that change where the class of the recipe is in the config, as it is in a study."""
    script = """
import json
from vit_registers.params import reading
from vit_registers.pipeline.steps import steps
study = reading.load(["params.yaml"])
train = steps()["train"]
config = train.config(study, model=train.jobs(study)[0]["model"])
print(json.dumps({train.run: train.digest(config)}))
"""
    after = json.loads(copy.run(script))
    plain = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return {name for name, value in json.loads(plain).items() if after[name] != value}


def test_a_field_of_params_and_a_declaration_redo_nothing_because_values_are_tracked(copy, before):
    copy.edit("experiments/object_discovery/params.py", "    mass: Share\n", "    mass: Share\n    more: int = 1\n")
    copy.edit("experiments/object_discovery/__init__.py", 'title="Object discovery"', 'title="Objects"')
    assert changed(copy, before) == set()


def test_only_the_kind_that_is_used_counts():
    """An edit of one kind of data set does not prepare the others again: classes come from the config."""
    from vit_registers.data.sources.folder import Folder
    from vit_registers.data.sources.generated import Generated
    from vit_registers.pipeline.configs import PrepareConfig

    folder = PrepareConfig(seed=0, name="a", source=Folder(kind="folder", path="x"))
    made = PrepareConfig(seed=0, name="a", source=Generated(kind="generated", train=10, test=10))
    plain, one, other = digest.code(PREPARE), digest.code(PREPARE, folder), digest.code(PREPARE, made)
    assert len({plain, one, other}) == 3


CLIP = {"kind": "openclip", "name": "ViT-B-16", "pretrained": "openai"}


@pytest.fixture(scope="module")
def declared():
    """Params of every study of the repository, of one in shards, and of one whose model knows classes by names."""
    run = {"dataset": "shapes", "models": ["clip"], "interventions": []}
    sharded = load("smoke", {"extraction": {"shards": 2}})
    return [*map(load, STUDIES), sharded, load("embedded", {"models": {"clip": CLIP}, **only({"runs": [run]})})]


@pytest.mark.parametrize("name", steps.steps())
def test_every_step_reaches_its_function_and_the_libraries_that_it_computes_with(name, declared):
    """On what its jobs are given: what a data set is prepared by is a method of a class in the config."""
    step = steps.steps()[name]
    given = {digest._classes(step.config(params, **axes)) for params in declared for axes in step.jobs(params)}
    assert given
    for classes in given:
        walk = digest._reached(step.run, classes)
        assert step.run.partition(":")[2] in {said for said, _ in walk.said}
        assert walk.libraries & digest.DISTRIBUTIONS.keys()


@pytest.mark.parametrize("kind", kinds("vit_registers.data.sources", DatasetSource).values())
def test_how_a_kind_of_data_set_is_prepared_is_reached_with_all_that_it_calls(kind):
    walk = digest._reached(PREPARE, ((kind.__module__, kind.__name__),))
    said = {name for name, _ in walk.said}
    assert {f"{kind.__name__}.prepare", "write", "replacing"} <= said  # data.manifest and core.files
    assert {"numpy", "pandas", "PIL"} <= walk.libraries
    assert f"{kind.__name__}.sentence" not in said  # the methods text prepares nothing


def test_versions_of_packages_that_decide_numbers_are_in_the_digest(monkeypatch):
    before = digest.code(LOST)
    digest._digest.cache_clear()
    monkeypatch.setattr(digest, "version", lambda name: "0" if name == "numpy" else "1")
    assert digest.code(LOST) != before
    digest._digest.cache_clear()


@pytest.mark.slow
def test_the_command_line_starts_without_torch():
    code = (
        "import sys, vit_registers.cli\nprint(sorted({'torch', 'timm', 'open_clip', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
