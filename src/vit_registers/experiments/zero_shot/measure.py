"""The step that tells classes by their names: cached [CLS] against OpenCLIP's text tower (darcet2024, Table 2b).

The text tower sees class names only; the images passed through the visual tower long ago, under every condition.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import Tensor

from vit_registers.core import table as metrics
from vit_registers.core.errors import InputError
from vit_registers.core.files import replacing
from vit_registers.core.seeds import derive, generator
from vit_registers.core.stats import Bootstrap
from vit_registers.core.table import Metric
from vit_registers.data.manifest import Manifest
from vit_registers.experiments.classification.scores import score
from vit_registers.extraction.store import Features, condition_folder
from vit_registers.models import openclip_text as text
from vit_registers.models import openclip_towers as openclip
from vit_registers.models.backbone import pick_device, reason
from vit_registers.pipeline.configs import ZeroShotStep

log = logging.getLogger(__name__)

THREADS = 1  # as in extraction: results must not depend on --cores
READOUT = "zero_shot"


def run(cfg: ZeroShotStep, data: Path, model: Path, features: Path, out: Path) -> None:
    """Write <model>.zero_shot.csv and <model>.zero_shot.images.parquet (right or wrong per test image) below ``out``.

    ``model`` is the folder of the model's metadata and visual weights.
    """
    torch.set_num_threads(THREADS)
    manifest = Manifest.load(data)
    test = manifest.rows("test")
    ids = manifest.table["image_id"].to_numpy()[test]
    truth = torch.from_numpy(manifest.table["label"].to_numpy()[test].copy())
    draw = generator(cfg.seed, "bootstrap", cfg.dataset, len(test))
    bootstrap = Bootstrap(len(test), cfg.statistics.resamples, cfg.statistics.confidence, draw)
    clip = _source(cfg).both_towers(cfg.model, derive(cfg.seed, "weights", cfg.model))
    _refuse_other_weights(clip, model)
    with torch.inference_mode():
        classes = text.class_embeddings(
            clip.to(pick_device(cfg.device)), _tokenizer(cfg), manifest.classes, cfg.zero_shot.templates
        )
    log.info("%s: %d classes", cfg.model, len(classes))
    rows: list[Metric] = []
    images = [_per_image("baseline", ids[:0], np.zeros(0))]
    for name in cfg.conditions:
        cached = Features.open(condition_folder(features, cfg.dataset, cfg.model, name))
        where = (cfg.model, cfg.dataset, name, READOUT)
        if cached.status != "complete":
            rows.append(Metric(*where, "top1", None, "fraction", 0, note=cached.reason))
            continue
        cls = torch.from_numpy(np.array(cached.array("cls")[test]))
        scored = score(probabilities(clip, cls, classes, cfg.model), truth, bootstrap)
        for metric, value in scored.means.items():
            low, high = (float(edge) for edge in np.quantile(scored.resampled[metric], bootstrap.tails))
            rows.append(Metric(*where, metric, value, "fraction", len(test), low=low, high=high))
        images.append(_per_image(name, ids, scored.right))
    metrics.write(metrics.frame(rows), out / f"{cfg.model}.zero_shot.csv")
    with replacing(out / f"{cfg.model}.zero_shot.images.parquet") as temporary:
        pd.concat(images, ignore_index=True).to_parquet(temporary, index=False)


def probabilities(clip: Any, cls: Tensor, classes: Tensor, name: str) -> Tensor:
    """Probabilities (n, classes) of [CLS] (n, d): softmax of cosines times CLIP's own scale, highest where they are."""
    with torch.inference_mode():
        cosines = text.image_embeddings(clip, cls, name) @ classes.T
        return (cosines.double() * clip.logit_scale.exp().double().cpu()).softmax(1)


def _refuse_other_weights(clip: Any, model: Path) -> None:
    """The towers must belong together: the visual one has to be that which the features come from."""
    path = model / "model.safetensors"
    if not path.is_file():
        raise InputError(f"{path}: no such file; make the model again")
    kept, ours = load_file(path), openclip.convert(clip.visual.state_dict())
    if kept.keys() != ours.keys() or not all(torch.equal(kept[name], ours[name].cpu()) for name in kept):
        raise InputError(
            f"{path}: not the weights that OpenCLIP gives for this model now; make the model again, or restore them"
        )


def _source(cfg: ZeroShotStep) -> Any:
    return cfg.source


def _tokenizer(cfg: ZeroShotStep) -> Any:
    """OpenCLIP's tokenizer of the architecture; some come from a hub."""
    try:
        return open_clip.get_tokenizer(_source(cfg).name)
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        raise InputError(
            f"models.{cfg.model}: the tokenizer of '{_source(cfg).name}' cannot be had ({reason(error)}); connect, or "
            "fill the cache"
        ) from None


def _per_image(condition: str, ids: Any, right: Any) -> pd.DataFrame:
    """The contract of compare.py: one value per image, condition, readout, metric and seed."""
    table = pd.DataFrame({"image_id": ids, "intervention": condition, "readout": READOUT, "metric": "top1"})
    return table.assign(seed=pd.array([pd.NA] * len(table), dtype="Int64"), value=right)
