"""What loading costs: images a second of our loader, and of a pass that it feeds, against torch's DataLoader.

    python -m benchmarks.loading                    on a GPU where there is one; some minutes on two cores
    python -m benchmarks.loading --workers 16 --images 4096 --batch 128

Images are JPEGs of the usual size of photographs, made for the run, each decoded again in every round (our loader keeps
no images here). Both loaders decode, resize and crop by the same code, with as many workers: ours has threads, which
need no copies between processes, torch's has processes, which do not share Python's lock. They are started once, before
time is measured. A pass is bare (timm's forward pass) or reads what params.yaml keeps of a dense image.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.extraction import Case, default_readers, machine, make
from benchmarks.pairs import compare
from vit_registers.data.images import load_image
from vit_registers.data.manifest import Manifest
from vit_registers.extraction import images as ours
from vit_registers.extraction.plan import batched
from vit_registers.forward.reading import PRECISIONS, reading
from vit_registers.models.backbone import Backbone
from vit_registers.params.passes import Loading

SIZE = 500, 375  # width and height of most images of ImageNet
MODELS = {"cpu": "vit_tiny_patch16_224", "cuda": "vit_base_patch16_224"}
Batches = Callable[[], Iterable[Tensor]]


def photographs(folder: Path, count: int) -> Manifest:
    """Smooth noise with some grain, which compresses about as photographs do."""
    draw = np.random.default_rng(0)
    for i in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize(
            SIZE, Image.Resampling.BICUBIC
        )
        grain = draw.normal(0, 9, (SIZE[1], SIZE[0], 3))
        pixels = np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.jpg", quality=90)
    return Manifest("photographs", pd.DataFrame({"path": [f"{i}.jpg" for i in range(count)]}), [], folder, "")


class Decoded(Dataset[Tensor]):
    """Images for torch's DataLoader, normalised in its workers, as is usual."""

    def __init__(self, manifest: Manifest, backbone: Backbone) -> None:
        self.manifest, self.preprocess = manifest, backbone.preprocess

    def __len__(self) -> int:
        return len(self.manifest.table)

    def __getitem__(self, number: int) -> Tensor:
        return self.preprocess(load_image(self.manifest.file(number)))


def loaders(manifest: Manifest, backbone: Backbone, batch: int, loading: Loading) -> dict[str, Batches]:
    """Every way of making batches, by name."""
    cuda = backbone.device.type == "cuda"
    ours.CACHE_BYTES = 0
    images = ours.Images(manifest, backbone.preprocess, backbone.device, loading)
    numbers = batched(np.arange(len(manifest.table)), batch)
    theirs: Any = DataLoader(
        Decoded(manifest, backbone),
        batch_sampler=[rows.tolist() for rows in numbers],
        num_workers=loading.workers,
        prefetch_factor=loading.ahead,
        pin_memory=cuda,
        persistent_workers=True,
    )

    def moved() -> Iterator[Tensor]:
        for pixels in theirs:
            yield pixels.to(backbone.device, non_blocking=True)

    return {"torch": moved if cuda else lambda: theirs, "ours": lambda: images.batches(numbers)}


def alone(batches: Batches) -> Callable[[], object]:
    """Take all batches and do nothing with them."""

    def work() -> None:
        for _ in batches():
            pass

    return work


def bare(backbone: Backbone, batches: Batches, precision: str) -> Callable[[], object]:
    """timm's forward pass of all batches."""
    dtype = PRECISIONS[precision]

    def work() -> None:
        device = backbone.device.type
        with torch.inference_mode(), torch.autocast(device, dtype, enabled=dtype is not None):
            for pixels in batches():
                backbone.module.forward_features(pixels)  # type: ignore[operator]

    return work


def read(backbone: Backbone, batches: Batches, precision: str) -> Callable[[], object]:
    """The pass with readers, up to the arrays that would be written."""
    readers = default_readers(backbone)

    def work() -> None:
        with reading(backbone, readers, precision) as forward:
            for pixels in batches():
                forward(pixels)
                for reader in readers:
                    reader.take()

    return work


def table(
    title: str, count: int, reference: str, ways: dict[str, Callable[[], object]], rounds: int, device: str
) -> None:
    """Print images a second of every way, and its time over that of the reference."""
    others = {name: work for name, work in ways.items() if name != reference}
    seconds, timings = compare(ways[reference], others, rounds, device)
    print(f"| {title} | {reference} | {count / seconds:.1f} | 1 |", flush=True)
    for name, timing in timings.items():
        ratio = f"{timing.ratio:.2f} ({timing.low:.2f} to {timing.high:.2f})"
        print(f"| {title} | {name} | {count / timing.seconds:.1f} | {ratio} |", flush=True)


def main() -> None:
    """Print the table."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=list(MODELS), default=device)
    parser.add_argument("--images", type=int, help="default: 4096 on a GPU, 128 on a CPU")
    parser.add_argument("--batch", type=int, help="default: 128 on a GPU, 16 on a CPU")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--ahead", type=int, default=2)
    parser.add_argument("--precision", choices=PRECISIONS, help="default: bf16 on a GPU, fp32 on a CPU")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    gpu = options.device == "cuda"
    count, batch = options.images or (4096 if gpu else 128), options.batch or (128 if gpu else 16)
    precision, loading = (
        options.precision or ("bf16" if gpu else "fp32"),
        Loading(workers=options.workers, ahead=options.ahead),
    )
    torch.set_num_threads(1)  # as a job computes (core/threads.py)
    backbone = make(Case(MODELS[options.device], 224, batch), options.device)
    print(f"{machine(options.device)}; {options.rounds} rounds of {count} images by {batch}, {precision}")
    print(f"{backbone.name}; {loading.workers} workers, {loading.ahead} batches ahead\n")
    print("| what | way | images/s | time / first (quartiles) |\n| --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        manifest = photographs(Path(folder), count)
        made = loaders(manifest, backbone, batch, loading)
        held = [pixels.to(backbone.device) for pixels in made["torch"]()][: max(1, 1024 // batch)]
        table(
            "loader alone",
            count,
            "torch",
            {name: alone(way) for name, way in made.items()},
            options.rounds,
            options.device,
        )
        said = {"torch": "torch's loader", "ours": "our loader"}
        passes = {f"bare pass, {said[name]}": bare(backbone, way, precision) for name, way in made.items()}
        passes |= {"pass with readers, our loader": read(backbone, made["ours"], precision)}
        table("pass", count, "bare pass, torch's loader", passes, options.rounds, options.device)
        few = sum(len(pixels) for pixels in held)
        memory = {
            "bare": bare(backbone, lambda: held, precision),
            "with readers": read(backbone, lambda: held, precision),
        }
        table("pass of batches in memory", few, "bare", memory, options.rounds, options.device)


if __name__ == "__main__":
    main()
