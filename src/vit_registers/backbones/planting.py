"""Register neurons whose truth is known: a tagged model, and a planted one made from it, both in closed form.

A trained small ViT shows no artifact tokens. Planting writes k neurons into the MLP of one block that fire on patches
which are (a) at tagged positions and (b) uniform background, and then add one fixed direction with a saturated size:
high-norm artifact tokens as darcet2024 describes them, behind register neurons as jiang2025 describes them. The tag
alone does no harm: the tagged model is the clean reference. On the planted one detection must find exactly the k
neurons, and test-time registers must undo the damage.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vit_registers.backbones import backbone
from vit_registers.backbones.backbone import Backbone
from vit_registers.data.images import load_image
from vit_registers.data.manifest import Manifest
from vit_registers.errors import InputError
from vit_registers.files import replacing
from vit_registers.params import Planting
from vit_registers.seeds import generator
from vit_registers.steps import PlantStep

log = logging.getLogger(__name__)

THREADS = 1  # a constant: sums over threads differ in the last bit
UNIFORM_SD = 10.0 / 255.0  # a patch is uniform where its grey values spread less than this
SATURATION = 16.0  # a neuron's pre-activation on a token that fires as the average one
STAGGER = 0.1  # relative step between pairs, so that no two pairs are alike
PLATEAU = 0.25  # width of the linear part, as a share of the pre-activation


@dataclass(frozen=True)
class Residuals:
    """What planting needs of a pass over n images, patch tokens only (n, p, d) in fp32."""

    before: list[Tensor]  # inputs of blocks 0..l, then the output of block l
    normed: Tensor  # output of block l's norm2, the MLP's input
    hidden: Tensor  # mean |activation| of block l's neurons (h,)
    last_norm: Tensor  # (n, p) norms after the last block
    cls_query: list[Tensor]  # mean [CLS] query of each later block, (heads, d / heads)


@torch.inference_mode()
def residuals(model: Backbone, images: Tensor, block: int, batch: int = 100) -> Residuals:
    """One hooked pass; ``images`` (n, 3, s, s) normalised."""
    kept: dict[str, list[Tensor]] = {}
    patches = model.layout.patch_slice

    def keep(name: str, value: Tensor) -> None:
        kept.setdefault(name, []).append(value)

    handles = []
    for i in range(block + 1):
        handles.append(
            model.blocks[i].register_forward_pre_hook(lambda _, a, i=i: keep(f"in{i}", a[0][:, patches].clone()))
        )
    middle = model.blocks[block]
    handles += [
        middle.register_forward_hook(lambda _, a, out: keep("out", out[:, patches].clone())),
        middle.norm2.register_forward_hook(lambda _, a, out: keep("normed", out[:, patches].clone())),
        middle.mlp.fc2.register_forward_pre_hook(lambda _, a: keep("hidden", a[0].abs().mean(dim=(0, 1))[None])),
        model.blocks[-1].register_forward_hook(lambda _, a, out: keep("last", out[:, patches].norm(dim=-1))),
    ]
    for i in range(block + 1, model.depth):
        attention = model.blocks[i].attn
        handles.append(
            attention.qkv.register_forward_hook(
                lambda _, a, out, i=i, h=attention.num_heads: keep(
                    f"q{i}", out[:, 0, : out.shape[-1] // 3].view(len(out), h, -1).mean(0)[None]
                )
            )
        )
    try:
        for start in range(0, len(images), batch):
            model.module(images[start : start + batch])
    finally:
        for handle in handles:
            handle.remove()
    whole = {name: torch.cat(parts) for name, parts in kept.items()}
    return Residuals(
        before=[whole[f"in{i}"] for i in range(block + 1)] + [whole["out"]],
        normed=whole["normed"],
        hidden=whole["hidden"].mean(0),
        last_norm=whole["last"],
        cls_query=[whole[f"q{i}"].mean(0) for i in range(block + 1, model.depth)],
    )


def second_moment(tokens: list[Tensor]) -> Tensor:
    """Uncentred second moment (d, d) of all tokens of several (n, p, d), in fp64."""
    flat = [part.reshape(-1, part.shape[-1]).double() for part in tokens]
    return torch.stack([part.T @ part for part in flat]).sum(0) / sum(len(part) for part in flat)


def tag_direction(moment: Tensor) -> tuple[Tensor, float]:
    """A unit vector (d,) that residuals hardly use and LayerNorm's centring does not touch, and their sd along it.

    The second-smallest eigenvector (the smallest may be numerically empty), projected off the all-ones vector.
    """
    vectors = torch.linalg.eigh(moment).eigenvectors
    direction = vectors[:, 1] - vectors[:, 1].mean()
    direction = direction / direction.norm()
    direction = direction * torch.sign(direction[direction.abs().argmax()])  # eigenvectors come with either sign
    return direction, float((direction @ moment @ direction).sqrt())


def uniform_background(pixels: Tensor, masks: Tensor, patch: int) -> Tensor:
    """Boolean (n, p): patches with grey sd below UNIFORM_SD and no object pixel; ``pixels`` (n, 3, s, s) uint8."""
    grey = (pixels.float() / 255.0).mean(1)
    tiles = grey.unfold(1, patch, patch).unfold(2, patch, patch).flatten(3).flatten(1, 2)
    objects = masks.unfold(1, patch, patch).unfold(2, patch, patch).flatten(3).flatten(1, 2)
    return (tiles.std(-1, correction=0) < UNIFORM_SD) & ~objects.bool().any(-1)


def ridge(inputs: Tensor, targets: Tensor) -> Tensor:
    """w (d,) = (Cov z + .01 mean var I)^-1 cov(z, t) over tokens z (m, d), t (m,), in fp64."""
    z = inputs.double() - inputs.double().mean(0)
    t = targets.double() - targets.double().mean()
    covariance = z.T @ z / len(z)
    penalty = 0.01 * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=z.dtype)
    return torch.linalg.solve(covariance + penalty, z.T @ t / len(z))


@dataclass(frozen=True)
class Gate:
    """A token z of the MLP's input fires iff ``direction @ z > threshold``; ``mean`` is the mean excess if it does."""

    direction: Tensor
    threshold: float
    mean: float


def and_gate(normed: Tensor, uniform: Tensor, tag: Tensor, gamma: Tensor, positions: list[int]) -> Gate:
    """Fire on tokens that are uniform background and tagged; ``normed`` (n, p, d), ``uniform`` (n, p)."""
    flat = normed.flatten(0, 1)
    w = ridge(flat, uniform.flatten().double())
    v = tag / gamma.double()
    u, g = normed.double() @ w, normed.double() @ v
    tagged = torch.zeros(normed.shape[1], dtype=torch.bool)
    tagged[positions] = True
    tau = torch.quantile(u[:, tagged].flatten(), 0.4)
    mean_tag = g[:, tagged].mean()
    gap = float(mean_tag - g[:, ~tagged].max())
    if gap <= 0:
        raise InputError(
            f"planting: the tag does not stand out (gap {gap:.3f}, expected above 0); raise plantings.*.tag_strength"
        )
    c = 1.05 * max(0.1, float(u[:, ~tagged].max() - tau)) / gap
    direction, threshold = w + c * v, float(tau + c * mean_tag)
    excess = normed.double() @ direction - threshold
    fired = excess[excess > 0]
    if not len(fired):
        raise InputError("planting: no token fires; give plantings.*.images more images or other positions")
    return Gate(direction, threshold, float(fired.mean()))


def _unit(vector: Tensor) -> Tensor:
    """Zero mean, which LayerNorm would remove anyway, and length one."""
    vector = vector - vector.mean()
    return vector / vector.norm()


def cls_direction(model: Backbone, found: Residuals, block: int) -> Tensor:
    """A unit direction (d,) that later [CLS] queries attend to, solved against the values so that they stay intact.

    Attraction a = sum over later blocks and heads of W_k' q, with q the mean [CLS] query. What an attended token adds to
    [CLS] is W_o W_v d: the direction minimises it under a'd = 1, d = (sum M'M + ridge)^-1 a with M = W_o W_v.
    """
    width = model.width
    attraction, content = torch.zeros(width, dtype=torch.float64), torch.zeros(width, width, dtype=torch.float64)
    for layer, query in zip(range(block + 1, model.depth), found.cls_query, strict=True):
        layer_ = model.blocks[layer]
        gamma = layer_.norm1.weight.double()
        weight = layer_.attn.qkv.weight.double()
        keys, values = weight[width : 2 * width] * gamma, weight[2 * width :] * gamma
        attraction += keys.T @ query.double().flatten()
        output = layer_.attn.proj.weight.double() @ values
        content += output.T @ output
    penalty = 0.01 * content.diagonal().mean() * torch.eye(width, dtype=torch.float64)
    return _unit(torch.linalg.solve(content + penalty, attraction))


def write_neurons(mlp: nn.Module, scale: Tensor, gate: Gate, neurons: list[int], direction: Tensor, norm: float) -> None:
    """Set fc1 rows, biases and fc2 columns of ``neurons``, in pairs: GELU(x) - GELU(x - a) saturates at a.

    All pairs together add ``norm`` * ``direction`` to a token that fires; ``scale`` (d,) is LayerScale's gamma.
    """
    pairs = len(neurons) // 2
    for j in range(pairs):
        gain = SATURATION * (1.0 + STAGGER * j)
        for sign, neuron in ((1.0, neurons[2 * j]), (-1.0, neurons[2 * j + 1])):
            later = 0.0 if sign > 0 else PLATEAU * gain
            mlp.fc1.weight[neuron] = (gain / gate.mean * gate.direction).float()
            mlp.fc1.bias[neuron] = -gain / gate.mean * gate.threshold - later
            mlp.fc2.weight[:, neuron] = (sign * norm / (PLATEAU * gain * pairs) * direction / scale).float()


def calibration(model: Backbone, data: Manifest, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first ``count`` training images: normalised (n, 3, s, s), uint8 (n, 3, s, s), and object masks (n, s, s)."""
    rows = data.rows("train")[:count]
    if data.table["mask"].iloc[rows].isna().any():
        raise InputError(f"data set '{data.name}' has no object masks; plant into a model of a generated data set")
    pixels = torch.stack([model.preprocess.pixels(load_image(data.file(row))) for row in rows])
    masks = [np.asarray(load_image(data.file(row, "mask")))[..., 0] > 0 for row in rows]
    return model.preprocess.normalise(pixels), pixels, torch.from_numpy(np.stack(masks))


def check_fits(model: Backbone, planting: Planting, name: str) -> None:
    """Refuse a planting that the model has no place for."""
    if planting.block >= model.depth - 1:
        raise InputError(f"models.{name}: planting.block {planting.block} must come before the last of {model.depth}")
    wrong = [p for p in planting.positions if p >= model.layout.patches]
    if wrong or not planting.positions:
        raise InputError(f"models.{name}: planting.positions {wrong or '(none)'} are not among {model.layout.patches}")
    if planting.direction == "cls" and not model.layout.cls:
        raise InputError(f"models.{name}: planting.direction cls needs a model with [CLS]; write random")


@torch.inference_mode()
def tag(model: Backbone, data: Manifest, cfg: PlantStep, out: Path) -> None:
    """Write the tagged model: ``pos_embed`` of the positions moved along the tag, nothing else changed."""
    planting = cfg.planting
    found = residuals(model, calibration(model, data, planting.images)[0], planting.block)
    direction, spread = tag_direction(second_moment(found.before))
    shift = planting.tag_strength * spread
    # timm's no_embed_class: positions of patches only; with [CLS] embedded too, patches come after the prefix.
    embedding = model.module.pos_embed
    offset = embedding.shape[1] - model.layout.patches
    for position in planting.positions:
        embedding[0, offset + position] += (shift * direction).float()
    with replacing(out / "tag.safetensors") as temporary:
        save_file({"direction": direction}, temporary)
    card = {k: v for k, v in model.card.items() if k not in ("weights", "training")}
    card |= {"name": cfg.name, "kind": "tagged", "base": cfg.base, "tag": {"positions": planting.positions, "shift": shift}}
    backbone.save(out, model.module, card)


@torch.inference_mode()
def plant(model: Backbone, data: Manifest, cfg: PlantStep, base: Path, out: Path) -> None:
    """Write the planted model: k rows of fc1 and columns of fc2 of one block changed, nothing else."""
    planting = cfg.planting
    if model.card.get("tag", {}).get("positions") != planting.positions:
        raise InputError(f"models.{cfg.name}: planting.positions differ from those that '{cfg.base}' was tagged at")
    images, pixels, masks = calibration(model, data, planting.images)
    found = residuals(model, images, planting.block)
    patch = model.preprocess.size // model.layout.grid[0]
    middle = model.blocks[planting.block]
    tag_vector = load_file(base / "tag.safetensors")["direction"]
    gate = and_gate(
        found.normed, uniform_background(pixels, masks, patch), tag_vector, middle.norm2.weight, planting.positions
    )
    columns = middle.mlp.fc2.weight.norm(dim=0)
    neurons = sorted(torch.argsort(found.hidden * columns)[: planting.neurons].tolist())
    if planting.direction == "cls":
        direction = cls_direction(model, found, planting.block)
    else:
        draw = generator(cfg.seed, "direction", cfg.name).normal(size=model.width)
        direction = _unit(torch.from_numpy(draw))
    norm = planting.norm_ratio * float(found.last_norm.median())
    scale = getattr(middle.ls2, "gamma", torch.ones(model.width)).double()
    write_neurons(middle.mlp, scale, gate, neurons, direction, norm)
    log.info("%s: neurons %s of block %d, artifact norm %.1f", cfg.name, neurons, planting.block, norm)
    card = {k: v for k, v in model.card.items() if k not in ("weights", "tag")}
    truth = {"block": planting.block, "neurons": [[planting.block, n] for n in neurons], "positions": planting.positions}
    backbone.save(out, model.module, card | {"name": cfg.name, "kind": "planted", "base": cfg.base, "planted": truth})


def run(cfg: PlantStep, data: Path, base: Path, out: Path) -> None:
    """Write ``out`` from the model in ``base``, with moments from the training split of the manifest in ``data``."""
    torch.set_num_threads(THREADS)
    model = backbone.load(base)
    check_fits(model, cfg.planting, cfg.name)
    manifest = Manifest.load(data)
    if cfg.kind == "tagged":
        tag(model, manifest, cfg, out)
    else:
        plant(model, manifest, cfg, base, out)
