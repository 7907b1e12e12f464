"""Extraction in shards by Snakemake: the bytes of one job, what a change redoes, and what is left."""

import pytest

pytestmark = [pytest.mark.pipeline, pytest.mark.long]
SHARDED = {"extract_shard", "extract_join", "ablate_shard", "ablate_join"}


def features(project):
    found = project.contents("results/*/features/baseline/**/*", "results/*/features/ablated/**/*")
    return {name: content for name, content in found.items() if not name.rpartition("/")[2].startswith(".")}


def test_shards_give_the_features_of_one_job_by_whatever_change(few):
    before, params = features(few), few.path / "params.yaml"
    text = params.read_bytes()
    try:
        few.change("extraction: {shards: 3}")
        assert set(few.planned()) >= SHARDED
        few.snakemake("--cores", "2")
        assert features(few) == before
        assert few.planned() == []
        assert [path for path in few.results.glob("features/unfinished/**/*") if path.is_file()] == []

        few.change("extraction: {workers: 7, ahead: 5}")  # says how, and not what
        assert few.planned() == []

        few.change("extraction: {dense_images: 120}")
        assert set(few.planned()) >= SHARDED
        few.change("extraction: {dense_images: 200}")

        source = few.path / "src/vit_registers/extraction/plan.py"
        code = source.read_text()
        source.write_text(code.replace("if size > 1 and", "if size > 2 and", 1))
        assert set(few.planned()) >= SHARDED  # though what the shards left is gone
        source.write_text(code)
        assert few.planned() == []

        for path in (few.results / "features/baseline").rglob("*.json"):
            path.unlink()  # lost: shards pass again, as what they had written has been joined
        few.snakemake("--cores", "2")
        assert features(few) == before
    finally:
        params.write_bytes(text)
        few.snakemake("--cores", "2")
    assert features(few) == before
    assert few.planned() == []
