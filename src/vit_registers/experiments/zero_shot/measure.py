"""Classes by their names: cached [CLS] against OpenCLIP's text tower (darcet2024, Table 2b).

The text tower reads the names of the classes only; the images have passed through the visual tower already, under every
condition.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import load_file
from torch import Tensor

from vit_registers.core.doors import door, read_json
from vit_registers.core.errors import InputError, reason
from vit_registers.core.numerics.class_scores import add_rows, score
from vit_registers.core.seeds import derive
from vit_registers.core.stats import bootstrap
from vit_registers.core.threads import threads
from vit_registers.data.manifest import Manifest
from vit_registers.experiments.job import Job
from vit_registers.experiments.zero_shot.params import Config
from vit_registers.models.backbone import pick_device
from vit_registers.models.openclip import text, towers

log = logging.getLogger(__name__)


@threads()
def run(cfg: Config, job: Job) -> None:
    """Fill the rows of every condition, and whether each test image was classified right."""
    manifest = job.manifest()
    test = manifest.rows("test")
    ids = manifest.table["image_id"].to_numpy()[test]
    targets = torch.from_numpy(manifest.table["label"].to_numpy()[test].copy())
    resampled = bootstrap(cfg.seed, cfg.statistics, cfg.dataset, len(test))
    origin = read_json(job.model / "model.json").get("origin")
    clip = cfg.source.both_towers(cfg.model, derive(cfg.seed, "weights", cfg.model), origin)
    _refuse_other_weights(clip, job.model)
    with torch.inference_mode():
        classes = text.class_embeddings(
            clip.to(pick_device(cfg.device)),
            _tokenizer(cfg),
            _class_names(manifest, cfg.settings.names),
            cfg.settings.templates,
        )
    log.info("%s: %d classes", cfg.model, len(classes))
    for condition, cached in job.conditions(cfg.dataset, cfg.model, cfg.conditions):
        if cached.status != "complete":
            job.rows.absent(["zero_shot_top1"], cached.reason, intervention=condition)
            continue
        cls = torch.from_numpy(np.array(cached.array("cls")[cached.places(test)]))
        found = score(probabilities(clip, cls, classes, cfg.model), targets, resampled)
        add_rows(job.rows, found, resampled, prefix="zero_shot_", intervention=condition)
        job.by_image("zero_shot_top1", ids, found.right, condition)


def probabilities(clip: Any, cls: Tensor, classes: Tensor, name: str) -> Tensor:
    """Probabilities (n, classes) of [CLS] (n, d): softmax of cosines times CLIP's own scale, highest where they are."""
    with torch.inference_mode():
        cosines = text.image_embeddings(clip, cls, name) @ classes.T
        return (cosines.double() * clip.logit_scale.exp().double().cpu()).softmax(1)


def _refuse_other_weights(clip: Any, model: Path) -> None:
    """The towers must belong together: the visual one has to be that which the features come from."""
    path = model / "model.safetensors"
    with door(path, "weights in safetensors", "make the model again"):
        kept = load_file(path)
    ours = towers.convert(clip.visual.state_dict())
    if kept.keys() != ours.keys() or not all(torch.equal(kept[name], ours[name].cpu()) for name in kept):
        raise InputError(
            f"{path}: not the weights that OpenCLIP gives for this model now; make the model again, or restore them"
        )


def _tokenizer(cfg: Config) -> Any:
    """OpenCLIP's tokenizer of the architecture; some come from a hub."""
    try:
        return open_clip.get_tokenizer(cfg.source.name)
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        raise InputError(
            f"models.{cfg.model}: the tokenizer of '{cfg.source.name}' cannot be had ({reason(error)}); connect, or "
            "fill the cache"
        ) from None


def _class_names(manifest: Manifest, names: str) -> list[str]:
    """Names of the classes; what is wrong with them is said with the key that asked for them."""
    try:
        return text.class_names(manifest, names)
    except InputError as error:
        raise InputError(f"experiments.zero_shot.{error}") from None
