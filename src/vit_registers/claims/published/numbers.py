"""The numbers that the authors of parodi2026 published beside the post.

``parodi2026.json`` holds them, with the commit they are from; shares and cosines between 0 and 1.
Tasks: ``g1`` linear probe on CLS, ``g2`` kNN retrieval, ``d1`` correspondence, ``d2`` segmentation. Layers count from
zero.
"""

from functools import cache
from pathlib import Path
from typing import Any

from vit_registers.core.files import read_json

PUBLISHED = Path(__file__).parent / "parodi2026.json"
PLAIN, REGISTERS, DINOV3 = "dinov2_no_reg", "dinov2_reg", "dinov3_vits16"
WITH_REGISTERS = (REGISTERS, DINOV3)
GLOBAL, DENSE = ("g1", "g2"), ("d1", "d2")
TOKENS = ("r1", "r2", "r3", "r4")
CHANCE = 0.1  # percent, of 1,000 classes


@cache
def published() -> dict[str, Any]:
    """The published numbers, as the file has them."""
    content: dict[str, Any] = read_json(PUBLISHED)
    return content


def model_of(claim: str) -> str:
    """The model that a claim is about, as its id says, by the name that the file has for it."""
    return DINOV3 if "-dinov3-" in claim else REGISTERS if "-dinov2reg-" in claim else PLAIN


def score(model: str, condition: str, task: str) -> float:
    """A score of the table of ablations, in percent."""
    return 100 * published()["ablations"][model][condition][task]


def loss(model: str, condition: str, task: str) -> float:
    """Change by an ablation, in points."""
    return score(model, condition, task) - score(model, "full", task)


def attention(model: str, flow: str) -> list[float]:
    """Mean attention of a flow by layer, in percent, e.g. ``cls_to_registers``."""
    return [100 * value for value in published()["attention"][model]["mean"][flow]]


def probe(model: str, token: str) -> dict[int, float]:
    """Accuracy of a linear probe on one token by layer, in percent (the file of registers and CLS)."""
    content = published()["register_probe"][model]
    return {layer: 100 * value for layer, value in zip(content["layers"], content["scores"][token], strict=True)}


def sweep(model: str, token: str) -> dict[int, float]:
    """Accuracy of a linear probe by layer, in percent (the layer sweep: ``cls`` or ``patch_mean``)."""
    content = published()["layer_sweep"]
    scores = content["linear_probe"]["scores"][model][token]
    return {layer: 100 * value for layer, value in zip(content["layers"], scores, strict=True)}


def correspondence(model: str) -> dict[int, float]:
    """Accuracy of correspondence by layer, in percent (the layer sweep)."""
    content = published()["layer_sweep"]
    scores = content["correspondence"]["scores"][model]["gt_accuracy"]
    return {layer: 100 * value for layer, value in zip(content["layers"], scores, strict=True)}


def lesions(model: str) -> dict[str, float]:
    """Change of the CLS probe by zeroing one register, in points of the last layer of the sweep."""
    scores = published()["register_lesions"]["scores"][model]
    full = sweep(model, "cls")[published()["register_lesions"]["layer"]]
    return {register: 100 * scores[register]["cls"] - full for register in TOKENS}


def similarity(model: str, register: str) -> list[float]:
    """Cosines of a register with its nearest patches."""
    cosines: list[float] = published()["nearest_patches"][model]["registers"][register]["similarity"]
    return cosines


def places(model: str, register: str) -> list[tuple[int, int, int]]:
    """Image, row and column of a register's nearest patches."""
    found = published()["nearest_patches"][model]["registers"][register]
    return list(zip(found["image"], found["row"], found["column"], strict=True))


def by_layer(values: dict[int, float], decimals: int = 1) -> str:
    """Values by layer in words."""
    return ", ".join(f"L{layer} {value:.{decimals}f}" for layer, value in values.items())
