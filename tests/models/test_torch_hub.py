"""Weights of DINO and DINOv2 as torch.hub has them: the same output as the architecture written out here."""

import math

import pytest
import torch
import torch.nn.functional as F

from vit_registers.core.errors import InputError
from vit_registers.core.files import sha256
from vit_registers.models import backbone, fetch
from vit_registers.models.sources.checkpoint import FileModel
from vit_registers.pipeline.configs import FetchConfig

WIDTH, DEPTH, HEADS, SIDE = 24, 2, 3, 4  # SIDE: patches along a side
ARGUMENTS = {"embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
# timm's name, size of a patch, registers, and whether blocks have LayerScale and a gated MLP.
KINDS = {
    "dino": ("vit_small_patch16_224", 16, 0, False, False),
    "dinov2": ("vit_small_patch14_dinov2", 14, 0, True, False),
    "dinov2 with registers": ("vit_small_patch14_reg4_dinov2", 14, 4, True, False),
    "dinov2 giant": ("vit_giant_patch14_reg4_dinov2", 14, 4, True, True),
}


def weights(kind):
    """Random weights under the names and in the shapes of torch.hub's files."""
    _, patch, registers, scaled, gated = KINDS[kind]
    draw = torch.Generator().manual_seed(len(kind))
    hidden = 64 if gated else 4 * WIDTH  # two thirds of four times the width where gated, in whole eights
    shapes = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 1 + SIDE**2, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, patch, patch),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    if kind != "dino":
        shapes["mask_token"] = (1, WIDTH)
    if registers:
        shapes["register_tokens"] = (1, registers, WIDTH)
    for i in range(DEPTH):
        block = {
            "norm1.weight": (WIDTH,),
            "norm1.bias": (WIDTH,),
            "attn.qkv.weight": (3 * WIDTH, WIDTH),
            "attn.qkv.bias": (3 * WIDTH,),
            "attn.proj.weight": (WIDTH, WIDTH),
            "attn.proj.bias": (WIDTH,),
            "norm2.weight": (WIDTH,),
            "norm2.bias": (WIDTH,),
        }
        first, second, twice = ("w12", "w3", 2) if gated else ("fc1", "fc2", 1)
        block |= {f"mlp.{first}.weight": (twice * hidden, WIDTH), f"mlp.{first}.bias": (twice * hidden,)}
        block |= {f"mlp.{second}.weight": (WIDTH, hidden), f"mlp.{second}.bias": (WIDTH,)}
        if scaled:
            block |= {"ls1.gamma": (WIDTH,), "ls2.gamma": (WIDTH,)}
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
    return {name: torch.randn(shape, generator=draw) * 0.3 for name, shape in shapes.items()}


def norm(x, state, name):
    centred = x - x.mean(-1, keepdim=True)
    unit = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
    return unit * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(x, state, name):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def attention(x, state, name):
    """Of one image (tokens, width), a head and a query at a time."""
    query, key, value = linear(x, state, f"{name}.qkv").split(WIDTH, dim=1)
    size, heads = WIDTH // HEADS, []
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        rows = []
        for one in query[:, part]:
            scores = torch.stack([(one * other).sum() / math.sqrt(size) for other in key[:, part]])
            rows.append((scores.exp() / scores.exp().sum()) @ value[:, part])
        heads.append(torch.stack(rows))
    return linear(torch.cat(heads, dim=1), state, f"{name}.proj")


def mlp(x, state, name):
    if f"{name}.w12.weight" in state:
        gate, through = linear(x, state, f"{name}.w12").chunk(2, dim=1)
        return linear(gate / (1 + (-gate).exp()) * through, state, f"{name}.w3")
    x = linear(x, state, f"{name}.fc1")
    return linear(x * (1 + torch.erf(x / math.sqrt(2))) / 2, state, f"{name}.fc2")


def forward(state, image):
    """Tokens (n, width) of one image (3, h, w) after the final norm: [CLS], registers, patches."""
    weight = state["patch_embed.proj.weight"]
    patch = weight.shape[-1]
    tokens = [state["cls_token"][0, 0]]
    for top in range(0, image.shape[1], patch):
        for left in range(0, image.shape[2], patch):
            pixels = image[:, top : top + patch, left : left + patch]
            tokens.append((weight * pixels).sum((1, 2, 3)) + state["patch_embed.proj.bias"])
    x = torch.stack(tokens) + state["pos_embed"][0]
    registers = state.get("register_tokens", torch.zeros(1, 0, WIDTH))[0]
    x = torch.cat([x[:1], registers, x[1:]])  # after positions: registers have none
    one = torch.ones(WIDTH)
    for i in range(DEPTH):
        block = f"blocks.{i}"
        x = x + state.get(f"{block}.ls1.gamma", one) * attention(
            norm(x, state, f"{block}.norm1"), state, f"{block}.attn"
        )
        x = x + state.get(f"{block}.ls2.gamma", one) * mlp(norm(x, state, f"{block}.norm2"), state, f"{block}.mlp")
    return norm(x, state, "norm")


def fetched(path, out, kind, **changes):
    name, patch, *_ = KINDS[kind]
    arguments = {**ARGUMENTS, "img_size": SIDE * patch, **changes.pop("arguments", {})}
    source = FileModel(**{"kind": "file", "path": str(path), "name": name, "arguments": arguments, **changes})
    fetch.run(FetchConfig(seed=0, name="m", source=source), out)
    return backbone.load(out)


def saved(state, tmp_path):
    torch.save(state, tmp_path / "w.pth")
    return tmp_path / "w.pth"


@pytest.mark.parametrize("kind", KINDS)
def test_the_mapped_model_computes_what_the_architecture_says(tmp_path, kind):
    state, patch = weights(kind), KINDS[kind][1]
    path = saved(state, tmp_path)
    loaded = fetched(path, tmp_path / "out", kind)
    images = torch.randn(2, 3, SIDE * patch, SIDE * patch, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = loaded.module.forward_features(images)
    expected = torch.stack([forward(state, image) for image in images])
    assert torch.allclose(found, expected, atol=1e-4)
    assert (expected[0] - expected[1]).abs().max() > 1e-2
    assert (loaded.layout.cls, loaded.layout.registers, loaded.layout.grid) == (1, KINDS[kind][2], (SIDE, SIDE))
    assert loaded.metadata["origin"] == {"file": "w.pth", "sha256": sha256(path)}


def test_a_teacher_of_a_whole_training_gives_the_model_of_torch_hub(tmp_path):
    state = weights("dinov2 with registers")
    teacher = {f"backbone.{name}": tensor for name, tensor in state.items()}
    whole = {"teacher": {**teacher, "dino_head.last_layer.weight": torch.zeros(3, 3)}, "iteration": 7}
    kind = "dinov2 with registers"
    plain, trained = (
        fetched(saved(content, tmp_path), tmp_path / out, kind).module.state_dict()
        for out, content in (("a", state), ("b", whole))
    )
    assert all(torch.equal(plain[name], trained[name]) for name in plain)


@pytest.mark.parametrize(
    "positions", [{"antialias": True}, {"antialias": False, "offset": 0.1}], ids=["plain", "offset"]
)
@pytest.mark.parametrize("kind", ["dinov2", "dinov2 with registers"])
def test_positions_get_to_another_grid_as_params_say_and_not_before(tmp_path, kind, positions):
    state, patch, side = weights(kind), KINDS[kind][1], SIDE + 1
    loaded = fetched(saved(state, tmp_path), tmp_path / "out", kind, image_size=side * patch, positions=positions)
    grid = state["pos_embed"][:, 1:].reshape(1, SIDE, SIDE, WIDTH).permute(0, 3, 1, 2)
    if positions["antialias"]:
        grid = F.interpolate(grid, size=(side, side), mode="bicubic", antialias=True)
    else:
        ratio = (side + 0.1) / SIDE
        grid = F.interpolate(grid, scale_factor=(ratio, ratio), mode="bicubic")
    moved = torch.cat([state["pos_embed"][:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
    image = torch.randn(3, side * patch, side * patch, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = loaded.module.forward_features(image[None])[0]
    assert torch.allclose(found, forward({**state, "pos_embed": moved}, image), atol=1e-4)


def without(state, *names):
    return {name: tensor for name, tensor in state.items() if name not in names}


REFUSED = {
    "another size": (
        "dinov2",
        weights("dinov2"),
        {"img_size": 98},
        "has 17 position embeddings where the model has 49 patches; give the size it was trained at, as in arguments: "
        "{img_size: 56}, and image_size for another one",
    ),
    "registers to none": (
        "dinov2",
        weights("dinov2 with registers"),
        {},
        "not the weights of 'vit_small_patch14_dinov2': has 'register_tokens' without positions, which it has not; "
        "take a model that has, as with arguments: {reg_tokens: 4, no_embed_class: true}",
    ),
    "none to registers": (
        "dinov2 with registers",
        weights("dinov2"),
        {},
        "not the weights of 'vit_small_patch14_reg4_dinov2': missing 'reg_token'; 'pos_embed' is [1, 17, 24] where "
        "[1, 16, 24] was expected; correct name or arguments",
    ),
    "other registers": (
        "dinov2 with registers",
        weights("dinov2 with registers"),
        {"reg_tokens": 2},
        "'reg_token' is [1, 4, 24] where [1, 2, 24] was expected; correct name or arguments",
    ),
    "no LayerScale": (
        "dinov2",
        weights("dino") | {"patch_embed.proj.weight": torch.zeros(WIDTH, 3, 14, 14)},
        {},
        "missing 'blocks.0.ls1.gamma', 'blocks.0.ls2.gamma', 'blocks.1.ls1.gamma' and 1 more; correct",
    ),
    "LayerScale": (
        "dino",
        weights("dinov2") | {"patch_embed.proj.weight": torch.zeros(WIDTH, 3, 16, 16)},
        {},
        "unexpected 'blocks.0.ls1.gamma', 'blocks.0.ls2.gamma', 'blocks.1.ls1.gamma' and 1 more; correct",
    ),
    "both at once": (
        "dino",
        without(weights("dino"), "norm.bias", "cls_token") | {"neck.weight": torch.zeros(2)},
        {},
        "missing 'cls_token', 'norm.bias'; unexpected 'neck.weight'; correct name or arguments",
    ),
    "other patches": ("dino", weights("dinov2"), {}, "'patch_embed.proj.weight' is of other sizes than"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_by_its_keys(tmp_path, case):
    kind, state, arguments, expected = REFUSED[case]
    path = saved(state, tmp_path)
    with pytest.raises(InputError) as refused:
        fetched(path, tmp_path / "out", kind, arguments=arguments)
    assert str(refused.value).startswith(f"models.m.path: {path}: ")
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_stated_checksum_is_that_of_the_file(tmp_path):
    path = saved(weights("dino"), tmp_path)
    assert fetched(path, tmp_path / "good", "dino", sha256=sha256(path)).depth == DEPTH
    with pytest.raises(
        InputError, match=rf"models\.m\.sha256: {path}: expected 0+, found {sha256(path)}; correct it, or"
    ):
        fetched(path, tmp_path / "out", "dino", sha256="0" * 64)
    assert not (tmp_path / "out").exists()
