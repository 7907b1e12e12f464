"""Weights of the hub, from a hub on loopback: pinned, checked, resumed, offline; what goes wrong is one line."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import open_clip
import pytest
import timm
import torch
from huggingface_hub import constants
from pydantic import ValidationError
from safetensors.torch import save

from helpers.servers.hub import Hub, connect, serving, sha256
from vit_registers.core.errors import InputError
from vit_registers.core.files import read_json, write_json
from vit_registers.models import backbone, fetch
from vit_registers.models.sources.openclip import OpenClipModel
from vit_registers.models.sources.timm_hub import TimmModel
from vit_registers.pipeline.configs import FetchConfig

ROOT = Path(__file__).parents[2]
NAME = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
REPOSITORY = f"timm/{NAME}"
SMALL = {"depth": 1, "embed_dim": 24, "num_heads": 2, "img_size": 64}
PIXELS = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def weights(seed=0, classes=1000, **changes):
    """The state dict of the small architecture, as timm publishes models: with their head."""
    torch.manual_seed(seed)
    return timm.create_model(NAME, num_classes=classes, **{**SMALL, **changes}).state_dict()


@pytest.fixture(scope="module")
def safetensors():
    """Two files with the weights of two trainings."""
    return [save(weights(seed)) for seed in (0, 1)]


@pytest.fixture
def hub(monkeypatch, tmp_path, safetensors):
    """A hub with one repository; what is waited between attempts is not waited here."""
    hub = Hub()
    hub.push(REPOSITORY, {"model.safetensors": safetensors[0], "config.json": b"{}"})
    monkeypatch.setattr(huggingface_hub.file_download.time, "sleep", lambda seconds: None)
    with serving(hub) as url:
        connect(monkeypatch, url, tmp_path / "cache")
        yield hub


def fetched(out, **changes):
    source = TimmModel(**{"kind": "timm", "name": NAME, "arguments": SMALL, **changes})
    fetch.run(FetchConfig(seed=0, name="m", source=source), out)
    return read_json(out / "model.json")


def refused(tmp_path, expected, **changes):
    """The one line that :func:`fetched` ends in; nothing is left of it."""
    with pytest.raises(InputError, match=expected) as error:
        fetched(tmp_path / "out", **changes)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "cache").rglob("*.incomplete"))
    return str(error.value)


def cached(tmp_path):
    return [path for path in (tmp_path / "cache").rglob("blobs/*") if path.is_file()]


def features(module):
    with torch.inference_mode():
        return module.forward_features(PIXELS)


def expected(state):
    module = timm.create_model(NAME, num_classes=1000, **SMALL).eval()
    module.load_state_dict(state)
    return features(module)


def test_a_model_is_that_of_the_hub_and_says_of_which_commit_and_checksum(hub, tmp_path, safetensors):
    metadata = fetched(tmp_path / "out")
    commit = hub.branches[REPOSITORY]["main"]
    assert metadata["weights"] == {
        "hub": {"repository": REPOSITORY, "revision": commit, "file": "model.safetensors"},
        "sha256": sha256(safetensors[0]),
    }
    assert hub.downloads() == [None]
    assert torch.equal(features(backbone.load(tmp_path / "out").module), expected(weights(0)))
    assert hub.downloads() == [None]


def test_a_model_stays_at_its_commit_when_its_repository_moves_on(hub, tmp_path, safetensors):
    first = fetched(tmp_path / "first")
    hub.push(REPOSITORY, {"model.safetensors": safetensors[1]})
    second = fetched(tmp_path / "second")
    assert first["weights"]["hub"]["revision"] != second["weights"]["hub"]["revision"]
    for name, seed in (("first", 0), ("second", 1)):
        assert torch.equal(features(backbone.load(tmp_path / name).module), expected(weights(seed)))


@pytest.mark.parametrize("by", ["commit", "branch"])
def test_a_revision_is_a_commit_or_a_branch_and_its_commit_is_recorded(hub, tmp_path, safetensors, by):
    commit = hub.push(REPOSITORY, {"model.safetensors": safetensors[1]}, "revised")
    found = fetched(
        tmp_path / "out", revision={"commit": commit, "branch": "revised"}[by], sha256=sha256(safetensors[1])
    )
    assert found["weights"]["hub"]["revision"] == commit
    assert found["weights"]["sha256"] == sha256(safetensors[1])


def test_where_there_are_no_safetensors_pickled_tensors_are_taken(hub, tmp_path):
    torch.save(weights(1), tmp_path / "pytorch_model.bin")
    hub.push(REPOSITORY, {"pytorch_model.bin": (tmp_path / "pytorch_model.bin").read_bytes()})
    for name in ("out", "again"):
        found = fetched(tmp_path / name)
        assert found["weights"]["hub"]["file"] == "pytorch_model.bin"
        assert torch.equal(features(backbone.load(tmp_path / name).module), expected(weights(1)))
        constants.HF_HUB_OFFLINE = True  # the second time the cache alone tells which of both names there is
    assert hub.downloads() == [None]


@pytest.mark.parametrize("there", [True, False], ids=["HF_HUB_OFFLINE", "no connection"])
def test_what_is_in_the_cache_needs_no_hub(hub, tmp_path, monkeypatch, there):
    first = fetched(tmp_path / "first")
    before = len(hub.asked)
    if there:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        connect(monkeypatch, nowhere(), tmp_path / "cache")
    assert fetched(tmp_path / "second")["weights"] == first["weights"]
    assert torch.equal(features(backbone.load(tmp_path / "second").module), expected(weights(0)))
    assert len(hub.asked) == before


def nowhere():
    """The address of a hub that is gone."""
    with serving(Hub()) as url:
        return url


def test_a_download_that_is_cut_goes_on_where_it_ended(hub, tmp_path, monkeypatch, safetensors):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)
    hub.cuts = 2
    assert fetched(tmp_path / "out")["weights"]["sha256"] == sha256(safetensors[0])
    whole, *resumed = hub.downloads()
    assert whole is None
    starts = [int(span.removeprefix("bytes=").removesuffix("-")) for span in resumed]
    half = len(safetensors[0]) // 2
    assert len(starts) == 2
    assert half - 1024 < starts[0] <= half < starts[1]
    assert torch.equal(features(backbone.load(tmp_path / "out").module), expected(weights(0)))


def test_a_download_that_is_cut_for_good_leaves_nothing_and_can_be_repeated(hub, tmp_path, safetensors):
    hub.cuts = 100
    refused(tmp_path, rf"models\.m: its weights cannot be had from {hub.url}/{REPOSITORY} \(.*\); connect, or fill")
    assert cached(tmp_path) == []
    hub.cuts = 0
    assert fetched(tmp_path / "out")["weights"]["sha256"] == sha256(safetensors[0])


def test_a_file_that_is_not_what_the_hub_says_is_removed_and_can_be_had_again(hub, tmp_path, safetensors):
    good = sha256(safetensors[0])
    damaged = safetensors[0][:-1] + bytes([safetensors[0][-1] ^ 1])
    hub.damaged[good] = damaged
    refused(
        tmp_path,
        rf"models\.m: 'model\.safetensors' of {REPOSITORY} at \w+: expected the hub's sha256 {good}, found "
        rf"{sha256(damaged)}; the damaged file was removed from the cache, run again",
    )
    assert cached(tmp_path) == []
    hub.damaged.clear()
    assert fetched(tmp_path / "out")["weights"]["sha256"] == good


def test_a_file_that_changed_in_the_cache_since_is_refused_by_name(hub, tmp_path, safetensors):
    fetched(tmp_path / "out")
    (blob,) = cached(tmp_path)
    blob.write_bytes(safetensors[1])
    with pytest.raises(
        InputError, match=rf"model\.json: weights: .*{sha256(safetensors[0])}.*{sha256(safetensors[1])}"
    ):
        backbone.load(tmp_path / "out")
    assert backbone.load(tmp_path / "out").depth == 1  # it was removed, and is there again
    assert hub.downloads() == [None, None]


def test_a_commit_with_another_file_than_recorded_is_refused(hub, tmp_path, safetensors):
    """As it is where a file is so small that its name in the cache is not its checksum."""
    metadata = fetched(tmp_path / "out")
    weights = {**metadata["weights"], "sha256": "0" * 64}
    write_json(tmp_path / "out/model.json", {**metadata, "weights": weights})
    with pytest.raises(
        InputError, match=rf"model\.json: weights\.sha256: .*expected 0+, found {sha256(safetensors[0])}"
    ):
        backbone.load(tmp_path / "out")


def test_a_stated_checksum_holds_at_first_use(hub, tmp_path, safetensors):
    line = refused(
        tmp_path, rf"models\.m\.sha256: .*: expected {'0' * 64}, found {sha256(safetensors[0])}", sha256="0" * 64
    )
    assert f"'model.safetensors' of {REPOSITORY}" in line


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"name": "vit_tiny_patch16_224.augreg_in21k"},
            r"models\.m: http\S+ has no repository timm/vit_tiny_patch16_224\.augreg_in21k, or shows it to others",
        ),
        ({"revision": "v7"}, rf"models\.m\.revision: {REPOSITORY} has no 'v7'; give a branch, a tag or a whole commit"),
        ({"revision": "0" * 40}, rf"models\.m\.revision: {REPOSITORY} has no '0{{40}}'"),
        ({"revision": "empty"}, rf"{REPOSITORY} has no model\.safetensors and no pytorch_model\.bin at \w{{40}}; give"),
    ],
    ids=["repository", "branch", "commit", "file"],
)
def test_what_the_hub_has_not_is_named(hub, tmp_path, changes, expected):
    hub.push(REPOSITORY, {"README.md": b"nothing yet"}, "empty")
    refused(tmp_path, expected, **changes)


def test_a_gated_repository_says_where_its_terms_are(hub, tmp_path):
    hub.gated.add(REPOSITORY)
    refused(tmp_path, rf"{REPOSITORY} is gated; accept its terms at {hub.url}/{REPOSITORY} and log in")


def test_a_hub_that_cannot_be_reached_is_named(hub, tmp_path, monkeypatch):
    gone = nowhere()
    connect(monkeypatch, gone, tmp_path / "cache")
    refused(
        tmp_path, rf"its weights cannot be had from {gone}/{REPOSITORY} \(.*refused.*\); connect, or fill the cache"
    )


def test_a_model_that_is_not_cached_cannot_be_had_offline(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(tmp_path, r"its weights cannot be had from .* \(.*offline mode.*\); connect, or fill the cache")
    assert hub.asked == []


def test_weights_of_no_hub_are_refused_with_their_address(tmp_path):
    name = "vit_huge_patch14_gap_224.in1k_ijepa"
    refused(
        tmp_path,
        r"are in no hub but at https://\S+; download that file, then take \{kind: file",
        name=name,
        arguments={},
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"depth": 2},
            "missing 'blocks.1.attn.proj.bias', 'blocks.1.attn.proj.weight', 'blocks.1.attn.qkv.bias' and 9 more;",
        ),
        (
            {"depth": 0},
            "unexpected 'blocks.0.attn.proj.bias', 'blocks.0.attn.proj.weight', 'blocks.0.attn.qkv.bias' and",
        ),
        ({"embed_dim": 32}, "'cls_token' is [1, 1, 24] where [1, 1, 32] was expected, "),
        ({"patch_size": 32}, "has 17 position embeddings where the model has 4 patches; give the size"),
        (
            {"img_size": 96},
            "has 17 position embeddings where the model has 36 patches; give the size it was trained at, as",
        ),
        ({"reg_tokens": 1}, "missing 'reg_token'; 'pos_embed' is [1, 17, 24] where [1, 18, 24] was expected; correct"),
    ],
    ids=["deeper", "shallower", "wider", "larger patches", "larger image", "registers"],
)
def test_weights_of_another_architecture_are_refused_by_their_keys(hub, tmp_path, changes, expected):
    message = refused(
        tmp_path, rf"models\.m: 'model\.safetensors' of {REPOSITORY} at \w{{12}}: ", arguments={**SMALL, **changes}
    )
    assert expected in message


def test_patches_of_another_size_are_not_resampled_without_a_word(hub, tmp_path):
    """As many patches, of another size each: timm would resample their embedding."""
    refused(
        tmp_path, "'patch_embed.proj.weight' is of other sizes", arguments={**SMALL, "patch_size": 8, "img_size": 32}
    )


class Code:
    def __reduce__(self):
        return (print, ("code of a file that was to be read as data",))


@pytest.mark.parametrize("kind", ["truncated", "truncated pickle", "code", "text"])
def test_what_is_no_weights_is_refused_and_no_code_is_run(hub, tmp_path, capsys, safetensors, kind):
    torch.save(weights(), tmp_path / "w.bin")
    pickled = (tmp_path / "w.bin").read_bytes()
    name, content = {
        "truncated": ("model.safetensors", safetensors[0][: len(safetensors[0]) // 2]),
        "truncated pickle": ("pytorch_model.bin", pickled[: len(pickled) // 2]),
        "code": ("pytorch_model.bin", pickle.dumps({"model": Code()}, protocol=2)),
        "text": ("model.safetensors", b"version https://git-lfs.github.com/spec/v1"),
    }[kind]
    hub.push(REPOSITORY, {name: content})
    message = refused(tmp_path, rf"models\.m: '{name}' of {REPOSITORY} at \w+: cannot be read as weights \(.+\)$")
    assert "code of a file" not in capsys.readouterr().out
    assert ("no code of a file is run" in message) == (kind == "code")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "deit3_small_patch16_224.fb_in1k",
        "vit_small_patch14_reg4_dinov2.lvd142m",
        "vit_small_patch16_224.dino",
        "vit_small_patch16_dinov3.lvd1689m",
        "vit_small_patch16_dinov3_qkvb.lvd1689m",
        "vit_base_patch16_clip_224.openai",
        "vit_base_patch16_siglip_224.webli",
        "vit_base_patch16_siglip_gap_224.webli",
        "vit_medium_patch16_reg4_gap_256.sbb_in12k_ft_in1k",
        "vit_base_patch16_224.mae",
        "eva02_tiny_patch14_224.mim_in22k",
        "eva02_base_patch16_clip_224.merged2b",
        "vit_small_patch16_rope_mixed_224.naver_in1k",
    ],
)
def test_every_family_of_timm_takes_its_own_weights(hub, tmp_path, name):
    """Published as timm has them, with the head of their training; here with two blocks."""
    known = timm.get_pretrained_cfg(name)
    torch.manual_seed(2)
    module = timm.create_model(name, num_classes=known.num_classes, depth=2).eval()
    hub.push(known.hf_hub_id, {"model.safetensors": save(module.state_dict())})
    fetched(tmp_path / "out", name=name, arguments={"depth": 2})
    loaded = backbone.load(tmp_path / "out")
    ours, theirs = loaded.module.state_dict(), module.state_dict()
    assert ours.keys() <= theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_random_weights_cannot_be_pinned():
    with pytest.raises(ValidationError, match="random weights are in no hub"):
        TimmModel(kind="timm", name=NAME, weights="random", revision="main")
    with pytest.raises(ValidationError, match="should match pattern"):
        TimmModel(kind="timm", name=NAME, sha256="abc")
    assert "at revision" in TimmModel(kind="timm", name=NAME, revision="v2").sentence("m", None)


# A real architecture of OpenCLIP, made small, and a tag of it in a hub.
CLIP = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 64, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 32, "width": 16, "heads": 2, "layers": 1},
}
TAGGED = OpenClipModel(kind="openclip", name="tiny-clip", pretrained="mine")


@pytest.fixture
def clips(hub, monkeypatch):
    """Two trainings of OpenCLIP, the first in the hub, with a mean of its own."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-clip", CLIP)
    tags = {"mine": {"hf_hub": "laion/tiny-clip/", "mean": (0.1, 0.2, 0.3), "quick_gelu": True}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-clip", tags)
    made = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        made.append(open_clip.create_model("tiny-clip", force_quick_gelu=True).eval())
    hub.push("laion/tiny-clip", {"open_clip_model.safetensors": save(made[0].state_dict())})
    return made


def test_a_tower_of_openclip_is_that_of_the_hub_and_its_other_tower_stays_with_it(hub, clips, tmp_path):
    fetch.run(FetchConfig(seed=0, name="m", source=TAGGED), tmp_path / "out")
    loaded = backbone.load(tmp_path / "out")
    with torch.inference_mode():
        tokens = loaded.module.forward_features(PIXELS)
        assert torch.allclose(tokens[:, 0] @ clips[0].visual.proj, clips[0].visual(PIXELS), atol=1e-5)
    assert loaded.preprocess.mean == (0.1, 0.2, 0.3)
    origin = loaded.metadata["origin"]
    commit = hub.branches["laion/tiny-clip"]["main"]
    assert origin["hub"] == {
        "repository": "laion/tiny-clip",
        "revision": commit,
        "file": "open_clip_model.safetensors",
    }
    content = save(clips[1].state_dict())
    hub.push("laion/tiny-clip", {"open_clip_model.safetensors": content})
    both = TAGGED.both_towers("m", 0, origin)
    assert torch.equal(both.state_dict()["text_projection"], clips[0].state_dict()["text_projection"])
    now = TAGGED.both_towers("m", 0)
    assert torch.equal(now.state_dict()["text_projection"], clips[1].state_dict()["text_projection"])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("other", r"not the weights of 'tiny-clip' \(.*size mismatch for visual\.class_embedding"),
        ("missing", r"not the weights of 'tiny-clip' \(Missing key\(s\) in state_dict: \"visual\.proj\""),
        ("grid", r"not the weights of 'tiny-clip' \('visual\.positional_embedding' is \[10, 64\] where \[17, 64\] was"),
        ("truncated", r"cannot be read as weights \(.+\)$"),
        ("code", r"cannot be read as weights \(neither safetensors nor a pickle of tensors alone; no code of"),
        ("nothing", r"laion/tiny-clip has no open_clip_model\.safetensors and no open_clip_pytorch_model\.bin at"),
    ],
)
def test_what_is_not_this_tower_is_refused_in_one_line(hub, clips, tmp_path, capsys, kind, expected):
    state, name = dict(clips[0].state_dict()), "open_clip_model.safetensors"
    if kind == "other":
        state["visual.class_embedding"] = torch.zeros(32)
    elif kind == "grid":
        state["visual.positional_embedding"] = torch.zeros(10, 64)
    elif kind == "missing":
        del state["visual.proj"]
    content = save(state)
    if kind == "truncated":
        content = content[:-100]
    elif kind == "code":
        name, content = "open_clip_pytorch_model.bin", pickle.dumps({"model": Code()}, protocol=2)
    elif kind == "nothing":
        name = "other.safetensors"
    hub.push("laion/tiny-clip", {name: content})
    with pytest.raises(InputError, match=expected) as error:
        fetch.run(FetchConfig(seed=0, name="m", source=TAGGED), tmp_path / "out")
    assert str(error.value).startswith("models.m: ")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
    assert "code of a file" not in capsys.readouterr().out


MAKE = f"""
import sys
from vit_registers.core.errors import InputError
from vit_registers.models import fetch, backbone
from vit_registers.models.sources.timm_hub import TimmModel
from vit_registers.pipeline.configs import FetchConfig
source = TimmModel(kind="timm", name={NAME!r}, arguments={SMALL!r})
fetch.run(FetchConfig(seed=0, name="m", source=source), __import__("pathlib").Path(sys.argv[1]))
print(backbone.load(sys.argv[1]).metadata["weights"]["sha256"])
"""


@pytest.mark.slow
def test_the_environment_says_which_hub_and_whether_there_is_one(tmp_path, safetensors):
    """HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE, as a user sets them."""
    hub = Hub()
    hub.push(REPOSITORY, {"model.safetensors": safetensors[0]})

    def make(out, **environment):
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        own = {"HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT / "src")}
        command = [sys.executable, "-c", MAKE, str(tmp_path / out)]
        return subprocess.run(command, env=inherited | own | environment, capture_output=True, text=True)

    with serving(hub) as url:
        first = make("first", HF_ENDPOINT=url)
    assert first.stdout.strip() == sha256(safetensors[0]), first.stderr[-2000:]
    second = make("second", HF_ENDPOINT=url, HF_HUB_OFFLINE="1")
    assert second.stdout == first.stdout, second.stderr[-2000:]
    assert hub.downloads() == [None]
