"""The step that measures what ablations draw from: statistics of block outputs over calibration images."""

import logging
from pathlib import Path

from tqdm import tqdm

from vit_registers.core.files import exclusive
from vit_registers.core.seeds import generator
from vit_registers.core.threads import threads
from vit_registers.data.manifest import Manifest
from vit_registers.extraction.images import Images
from vit_registers.extraction.memory import batch_size
from vit_registers.extraction.plan import Rows, batched
from vit_registers.forward.reading import reading
from vit_registers.interventions import activation_statistics
from vit_registers.interventions.activation_statistics import ActivationStatisticsReader, SinkValueReader
from vit_registers.models import backbone as backbones
from vit_registers.pipeline.configs import CalibrateConfig

log = logging.getLogger(__name__)


def choose(cfg: CalibrateConfig, manifest: Manifest) -> Rows:
    """``images`` random rows of the split, or all where there are fewer, in random order: the first are random too."""
    rows = manifest.rows(cfg.calibration.split)
    return generator(cfg.seed, "calibration", cfg.dataset).permutation(rows)[: cfg.calibration.images]


@threads()
def run(cfg: CalibrateConfig, data: Path, model: Path, out: Path) -> None:
    """Write ``out`` (safetensors): :class:`.ActivationStatistics` of the model as it is, without any intervention."""
    manifest = Manifest.load(data)
    backbone = backbones.load(model, cfg.device)
    settings = cfg.calibration
    rows = choose(cfg, manifest)

    def fresh() -> list[ActivationStatisticsReader | SinkValueReader]:
        tokens = ActivationStatisticsReader(backbone, settings.resample_sources)
        return [tokens, SinkValueReader(backbone)] if settings.sink_values else [tokens]

    size = batch_size(cfg.batch_size, backbone, None, fresh, cfg.precision, cfg.memory_mb)
    readers, batches = fresh(), batched(rows, size)
    images = Images(manifest, backbone.preprocess, backbone.device, cfg)
    with exclusive(out.parent / f".{out.stem}"), reading(backbone, readers, cfg.precision) as forward:
        for pixels in tqdm(images.batches(batches), total=len(batches), desc="calibration", disable=None):
            forward(pixels)
        found = {name: tensor for reader in readers for name, tensor in reader.finish().items()}
        activation_statistics.save(out, found, {"images": len(rows), "split": settings.split})
    log.info("%s: activation statistics of %d images", cfg.model, len(rows))
