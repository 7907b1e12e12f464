"""The command: a model and images in; a verdict, a JSON file, a page and, if asked for, the neurons out."""

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from vit_registers.core.files import write_json, write_text
from vit_registers.core.threads import threads
from vit_registers.doctor import model, pictures
from vit_registers.doctor.diagnosis import Diagnosis, diagnose
from vit_registers.doctor.examine import Examination, Settings, examine
from vit_registers.doctor.model import Asked
from vit_registers.doctor.page import page
from vit_registers.doctor.watched import Watched
from vit_registers.extraction.images import Images
from vit_registers.registers.neuron_file import Neurons

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Written:
    """What was said and where it stands; ``neurons`` is None where none were asked for, or none found."""

    verdict: str
    files: list[Path]


def run(
    asked: Asked,
    images: Path | None,
    settings: Settings,
    out: Path,
    save: Path | None = None,
    most: int = 50,
    cores: int | None = None,
) -> Written:
    """Examine a model, and write ``out``/<model>.json and .html when all is done; nothing where it cannot be measured.

    ``most``: images at most; ``save``: a file for the register neurons; ``cores``: threads, all by default. Numbers
    depend on them in the last digit, so they are written down.
    """
    cores = cores or _cores()
    with threads(cores):
        backbone = model.load(asked)
        seen = pictures.read(images, most)
        for line in seen.broken:
            log.warning("left out: %s", line)
        batches = Watched(Images(seen.manifest, backbone.preprocess, backbone.device))
        found = examine(backbone, batches, len(seen.manifest.table), settings)
    diagnosis = diagnose(found, seen, cores)
    files = [out / f"{_file_name(backbone.name)}.{suffix}" for suffix in ("json", "html")]
    html = page(found, diagnosis, seen.manifest)
    write_json(files[0], diagnosis.to_json())
    write_text(files[1], html)
    if save is not None:
        if diagnosis.neurons:
            neurons_of(found, diagnosis).save(save)
            files.append(save)
        else:
            log.warning("%s is not written: there are no register neurons", save)
    for line in diagnosis.cautions:
        log.info(line)
    return Written(diagnosis.verdict, files)


def neurons_of(found: Examination, diagnosis: Diagnosis) -> Neurons:
    """The register neurons, to be used elsewhere."""
    said = {name: diagnosis.detection[name] for name in ("stability", "highest_layer", "images_ranked")}
    where = {"outlier_layer": found.judged.layers.layer, "input": diagnosis.model["input"]}
    neurons = [(layer, index, score) for layer, index, score, _ in diagnosis.neurons]
    return Neurons.of(found.backbone, neurons, found.judged.layers.threshold, {**diagnosis.settings, **said, **where})


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _file_name(name: str) -> str:
    """A model's name as that of a file."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("-.") or "model"
