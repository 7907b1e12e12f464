"""Register neurons where we put them: an oracle for detection, and for what is done to neurons. No training.

Two steps. *Tagging* marks grid positions in a trained model without harm (:mod:`tag`): the clean reference.
*Planting* takes the neurons of one MLP that write least and gives them the gate of tagged, uniform patches
(:mod:`gate`): where it opens, the block writes a vector of many times the usual norm into the residual stream, as
register neurons of large trained models do (jiang2025), and the norm jumps at that block exactly. The model runs in
float32, what is computed beside it is float64, and all of it on one thread.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vit_registers.core.errors import InputError
from vit_registers.core.files import digest, exclusive
from vit_registers.core.seeds import generator
from vit_registers.core.threads import threads
from vit_registers.data.images import load_image
from vit_registers.data.manifest import Manifest
from vit_registers.models import backbone as backbones
from vit_registers.models.backbone import Backbone
from vit_registers.models.preprocess import load_pixels
from vit_registers.params.planting import Planting
from vit_registers.pipeline.configs import PlantConfig
from vit_registers.planted import late_register
from vit_registers.planted.activations import PlantingStatistics, planting_statistics
from vit_registers.planted.gate import Gate, fit_gate, fit_uniformity, uniform_patches
from vit_registers.planted.sink_direction import sink_direction
from vit_registers.planted.tag import low_variance_direction, second_moment, tag, tag_probe

log = logging.getLogger(__name__)

GAIN = 16.0  # activation of the first pair's neurons on an average firing token
SPREAD = 0.1  # by which each further pair is stronger, so that neurons have an order
SHIFT = 0.25  # of its gain: by how much the second neuron of a pair lags behind the first


@dataclass(frozen=True)
class Sample:
    """Training images: uint8 pixels (n, 3, s, s) and where objects are, boolean (n, s, s)."""

    pixels: Tensor
    objects: Tensor


def sample(data: Manifest, count: int, seed: int, backbone: Backbone) -> Sample:
    """``count`` random images of split train, in manifest order; without masks no pixel counts as an object."""
    train = data.rows("train")
    if count > len(train):
        raise InputError(f"plantings: images is {count}, but '{data.name}' has {len(train)} training images; lower it")
    rows = np.sort(generator(seed, "planting", "images", data.name).permutation(train)[:count])
    pixels, _ = load_pixels(data, rows, backbone.preprocess)
    objects = torch.zeros(len(rows), *pixels.shape[2:], dtype=torch.bool)
    for i, row in enumerate(rows):
        if data.table["mask"].notna().iloc[row]:
            objects[i] = backbone.preprocess.pixels(load_image(data.file(int(row), "mask"))).amax(0) > 0
    return Sample(pixels, objects)


def least_contributing(activity: Tensor, columns: Tensor, count: int) -> list[int]:
    """The ``count`` neurons that write least, least first: smallest mean |activation| x norm of fc2's column.

    ``activity`` (H,), ``columns`` fc2's weight (D, H).
    """
    return [int(i) for i in (activity * columns.double().norm(dim=0)).argsort(stable=True)[:count]]


def write_neurons(mlp: Any, neurons: list[int], gate: Gate, artifact: Tensor, pairs: bool = True) -> None:
    """Make ``neurons`` of a GELU MLP add ``artifact`` (D,) to tokens that pass the gate, and nothing to others.

    The two neurons of pair j see G_j s / E and the same less a = G_j / 4, where G_j = 16 (1 + j / 10) and E is the mean
    s of firing tokens; they write +artifact and -artifact, each over a and the number of pairs. GELU(x) - GELU(x - a)
    is 0 for x << 0 and saturates at a for x >> a, so that artifacts are of nearly equal norm however far s is above 0.
    Not in ``pairs``, neuron j sees G_j s / E with G_j = 16 (1 + j / 10) and writes artifact over G_j and their number:
    an artifact of s / E times the wanted norm, to which each neuron adds the same.
    """
    first, second = mlp.fc1, mlp.fc2
    with torch.no_grad():
        for i, neuron in enumerate(neurons):
            gain = GAIN * (1.0 + SPREAD * (i // 2 if pairs else i))
            lag = SHIFT * gain * (i % 2) if pairs else 0.0
            share = artifact / (SHIFT * gain * (len(neurons) / 2) if pairs else gain * len(neurons))
            first.weight[neuron] = (gain / gate.strength * gate.row).to(first.weight.dtype)
            first.bias[neuron] = -gain / gate.strength * gate.threshold - lag
            second.weight[:, neuron] = (-share if pairs and i % 2 else share).to(second.weight.dtype)


def random_direction(width: int, seed: int, name: str) -> Tensor:
    """A random unit vector (D,) float64 of zero mean, which LayerNorm lets through."""
    vector = torch.from_numpy(generator(seed, "planting", "direction", name).standard_normal(width))
    vector = vector - vector.mean()
    direction: Tensor = vector / vector.norm()
    return direction


def _check(planting: Planting, backbone: Backbone, where: str) -> None:
    """Refuse a planting that the model has no room for, before any image is read."""
    layout = backbone.layout
    if planting.block >= backbone.depth:
        raise InputError(f"{where}: block is {planting.block}; the base has blocks 0 to {backbone.depth - 1}")
    if planting.direction in ("cls", "cls-raw") and (planting.block == backbone.depth - 1 or not layout.cls):
        raise InputError(
            f"{where}: direction {planting.direction} needs a [CLS] token and a later block; lower block or take random"
        )
    filled_at = late_register.filled_at(backbone)
    if planting.direction == "register" and filled_at != planting.block + 1:
        had = "has no late register" if filled_at is None else f"fills its late register in front of block {filled_at}"
        raise InputError(
            f"{where}: direction register writes what a late register is filled with in front of block "
            f"{planting.block + 1}, but the base {had}; change block, or the recipe of the base"
        )
    wrong = [p for p in planting.positions if p >= layout.patches]
    if wrong or not planting.positions or len(set(planting.positions)) < len(planting.positions):
        raise InputError(
            f"{where}: positions are {planting.positions}; expected distinct ones of 0 to {layout.patches - 1}"
        )
    if len(planting.positions) >= layout.patches:
        raise InputError(f"{where}: all positions are tagged; leave some untagged")
    hidden = backbone.blocks[planting.block].mlp.fc1.out_features  # type: ignore[union-attr]
    if planting.neurons > hidden:  # type: ignore[operator]
        raise InputError(f"{where}: neurons is {planting.neurons}; the block has {hidden}")


def add_tag(planting: Planting, backbone: Backbone, images: Sample) -> dict[str, Any]:
    """Tag a trained model in place; return its metadata: positions, block, direction and what it came from."""
    moment = second_moment(backbone, planting.block, images.pixels)
    direction = low_variance_direction(moment)
    deviation = float((direction @ moment @ direction).sqrt())
    length = planting.tag_strength * deviation
    tag(backbone, planting.positions, direction, length)
    return {
        "positions": planting.positions,
        "block": planting.block,
        "strength": planting.tag_strength,
        "length": length,
        "deviation": deviation,
        "direction": direction.float().tolist(),
        "moment_sha256": digest(moment.tolist()),
        "images": len(images.pixels),
    }


def written(
    planting: Planting, backbone: Backbone, statistics: PlantingStatistics, seed: int, name: str
) -> tuple[float, Tensor]:
    """Norm and direction, a unit vector (D,) float64, of what the neurons write together, as the planting has it."""
    if planting.direction == "register":
        return planting.norm_ratio * statistics.norm_here, late_register.direction(backbone)
    norm = planting.norm_ratio * statistics.norm
    if planting.direction == "random":
        return norm, random_direction(backbone.width, seed, name)
    return norm, sink_direction(backbone, statistics.cls, solved=planting.direction == "cls")


def add_neurons(
    planting: Planting, base: Backbone, images: Sample, seed: int, name: str, where: str
) -> tuple[Backbone, dict[str, Any]]:
    """The tagged model ``base`` planted, and of it the neurons, and the gate as it was fitted.

    In place, unless a register of the base is taken away.
    """
    backbone = late_register.without(base) if planting.direction == "register" else base
    layout, block = backbone.layout, backbone.blocks[planting.block]
    mlp: Any = block.mlp
    patch: Any = backbone.module.patch_embed
    uniform = uniform_patches(images.pixels, images.objects, patch.patch_size[0])
    if not uniform.any() or uniform.all():
        raise InputError(f"{where}: {'all' if uniform.all() else 'no'} patches are uniform; plant on other images")
    statistics = planting_statistics(backbone, planting.block, images.pixels)
    tagged = torch.zeros(layout.length, dtype=torch.bool)
    tagged[[layout.prefix + p for p in planting.positions]] = True
    uniformity = fit_uniformity(statistics.z[:, layout.patch_slice].flatten(0, 1), uniform.flatten())
    probe = tag_probe(torch.tensor(backbone.metadata["tag"]["direction"]), block.norm2)  # type: ignore[arg-type]
    gate = fit_gate(statistics.z, tagged, uniformity, probe, planting.firing, where)
    neurons = least_contributing(statistics.activity, mlp.fc2.weight, planting.neurons)
    norm, direction = written(planting, base, statistics, seed, name)
    write_neurons(mlp, neurons, gate, norm * direction, planting.pairs)
    return backbone, {
        "block": planting.block,
        "neurons": [[planting.block, neuron] for neuron in neurons],
        "positions": planting.positions,
        "direction": planting.direction,
        "norm": norm,
        "gate": {"strength": gate.strength, "firing": gate.firing, "margin": gate.margin},
        "images": len(images.pixels),
    }


def _same_tag(planting: Planting, tagged: dict[str, Any], where: str) -> None:
    """Refuse a planting that another tag was made for."""
    wanted = {"positions": planting.positions, "block": planting.block, "strength": planting.tag_strength}
    for key, value in wanted.items():
        if tagged[key] != value:
            param = "tag_strength" if key == "strength" else key
            raise InputError(
                f"{where}: {param} is {value}, but the base was tagged with {tagged[key]}; give both the same planting"
            )


def run(cfg: PlantConfig, data: Path, base: Path, out: Path) -> None:
    """Make ``out``/{model.safetensors, model.json} of kind ``tagged`` or ``planted`` from the model in ``base``.

    ``data`` is the prepared data set that the base was trained on. :class:`InputError` where the planting does not fit
    the base or its gate cannot be had. Same params and base, same bytes.
    """
    where = f"plantings: planting of '{cfg.name}'"
    with exclusive(out), threads(1):
        backbone = backbones.load(base)
        _check(cfg.planting, backbone, where)
        if cfg.kind == "planted":
            _same_tag(cfg.planting, backbone.metadata["tag"], where)
        images = sample(Manifest.load(data), cfg.planting.images, cfg.seed, backbone)
        metadata: dict[str, Any] = {"name": cfg.name, "kind": cfg.kind}
        metadata["base"] = {"name": cfg.base, "sha256": backbone.metadata["weights"]["sha256"]}
        if cfg.kind == "tagged":
            metadata["tag"] = add_tag(cfg.planting, backbone, images)
            log.info(
                "%s: tag of norm %.2f on %d positions", cfg.name, metadata["tag"]["length"], len(cfg.planting.positions)
            )
        else:
            metadata["tag"] = backbone.metadata["tag"]
            backbone, planted = add_neurons(cfg.planting, backbone, images, cfg.seed, cfg.name, where)
            metadata["planted"] = planted
            log.info("%s: neurons %s, gate %s", cfg.name, metadata["planted"]["neurons"], metadata["planted"]["gate"])
        kept = {key: backbone.metadata[key] for key in ("architecture", "preprocess", "layout", "parameters")}
        backbones.save(out, backbone.module, {**kept, **metadata})
