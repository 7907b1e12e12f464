"""What reading costs: our pass against a bare forward pass of timm, and against the way published code does it.

    python -m benchmarks.extraction                    every case; about a quarter of an hour on two cores
    python -m benchmarks.extraction --case S/14@518 --precision bf16 --rounds 3

Random weights, random pixels: neither changes what is computed. Time is measured in turns with the bare pass; memory
in a process of its own for each contender, as the most it held beyond what it had before its first pass.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor

from benchmarks.pairs import compare
from vit_registers.forward.readers.attention import AttentionRows
from vit_registers.forward.readers.base import Reader
from vit_registers.forward.readers.norms import NeighbourCosines, Norms
from vit_registers.forward.readers.parts import ClsParts
from vit_registers.forward.readers.projections import Projections
from vit_registers.forward.readers.sinks import AttentionSinks
from vit_registers.forward.readers.tokens import Patches, PatchesByLayer, SpecialsByLayer, Tokens
from vit_registers.forward.reading import PRECISIONS, reading
from vit_registers.models.backbone import Backbone
from vit_registers.models.preprocess import Preprocess
from vit_registers.models.supported import layout_of
from vit_registers.registers.neurons import NeuronScores


@dataclass(frozen=True)
class Case:
    """A model at an input size, and the images of a batch."""

    name: str
    size: int
    batch: int


CPU_CASES = {
    "S/14@224": Case("vit_small_patch14_reg4_dinov2", 224, 8),
    "S/14@518": Case("vit_small_patch14_reg4_dinov2", 518, 2),
    "B/16@224": Case("vit_base_patch16_224", 224, 4),
}
CUDA_CASES = {"L/14@518": Case("vit_large_patch14_reg4_dinov2", 518, 32)}
CASES = CPU_CASES | CUDA_CASES
# What jobs start with (workflow/rules/common.smk): glibc keeps what is freed. It reads this when a process begins.
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
OURS = ("default", "default and sinks", "all")
CONTENDERS = (*OURS, "obvious", "obvious, one by one")
Work = Callable[[], object]


def make(case: Case, device: str) -> Backbone:
    """The model with random weights."""
    torch.manual_seed(0)
    module = timm.create_model(case.name, num_classes=0, img_size=case.size).eval().requires_grad_(False).to(device)
    preprocess = Preprocess.square(case.size, case.size, "bicubic", (0.5,) * 3, (0.5,) * 3)
    return Backbone(case.name, module, layout_of(module, case.name), preprocess, {})


def default_readers(backbone: Backbone) -> list[Reader]:
    """What params.yaml keeps of a dense image."""
    layout = backbone.layout
    kinds = (Tokens, Patches, Norms, AttentionRows)
    return [*(of(backbone, layout) for of in kinds), Projections(backbone, layout, {"k": [-1]})]


def all_readers(backbone: Backbone) -> list[Reader]:
    """Everything but whole attention maps and sinks, which are of the first images only; every neuron is scored.

    One patch in fifty counts as an artifact, as in the models of the papers.
    """
    layout, layers = backbone.layout, list(range(backbone.depth))
    norms = Norms(backbone, layout)
    with reading(backbone, [norms], "fp32") as forward:
        forward(torch.randn(2, 3, *backbone.preprocess.size).to(backbone.device))
    limit = float(np.quantile(norms.take()["norms"][:, -1, layout.patch_slice], 0.98))
    return [
        Tokens(backbone, layout),
        SpecialsByLayer(backbone, layout),
        ClsParts(backbone, layout),
        Patches(backbone, layout),
        PatchesByLayer(backbone, layout, layers[-4:]),
        Norms(backbone, layout),
        NeighbourCosines(backbone, layout),
        AttentionRows(backbone, layout, heads=True, columns=True),
        Projections(backbone, layout, {kind: layers[-4:] for kind in "qkv"}),
        NeuronScores(backbone, -1, -1, limit, "off", np.zeros((0, 10**6), dtype=np.int64)),
    ]


def bare(backbone: Backbone, pixels: Tensor, precision: str) -> Work:
    """timm's forward pass and nothing else."""
    dtype = PRECISIONS[precision]

    def work() -> None:
        with torch.inference_mode(), torch.autocast(pixels.device.type, dtype, enabled=dtype is not None):
            backbone.module.forward_features(pixels)  # type: ignore[operator]

    return work


def ours(backbone: Backbone, pixels: Tensor, precision: str, readers: list[Reader]) -> Work:
    """One pass with readers, as extraction does it, up to the arrays that would be written."""

    def work() -> None:
        with reading(backbone, readers, precision) as forward:
            forward(pixels)
            for reader in readers:
                reader.take()

    return work


def obvious(backbone: Backbone, pixels: Tensor, precision: str, size: int, kept: list[Any]) -> Work:
    """As published code does: attention unfused, hooks copy every map, output and activation to NumPy, into a list."""
    dtype = PRECISIONS[precision]

    def work() -> None:
        with hooked(backbone, kept), torch.inference_mode():
            for batch in pixels.split(size):
                with torch.autocast(pixels.device.type, dtype, enabled=dtype is not None):
                    backbone.module.forward_features(batch)  # type: ignore[operator]

    return work


@contextmanager
def hooked(backbone: Backbone, kept: list[Any]) -> Iterator[None]:
    """Hooks on every block that append to ``kept``; what an earlier run kept is forgotten."""
    kept.clear()

    def keep(module: Any, inputs: Any, output: Any = None) -> None:
        tensor = inputs[0] if output is None else output
        kept.append(tensor.detach().float().cpu().numpy())

    handles = []
    blocks: list[Any] = list(backbone.blocks)
    for block in blocks:
        block.attn.fused_attn = False
        handles += [
            block.attn.attn_drop.register_forward_hook(keep),
            block.register_forward_hook(keep),
            block.mlp.fc2.register_forward_pre_hook(keep),
        ]
    try:
        yield
    finally:
        for block, handle in zip([b for b in blocks for _ in range(3)], handles, strict=True):
            handle.remove()
            block.attn.fused_attn = True


def contenders(backbone: Backbone, pixels: Tensor, precision: str) -> dict[str, Work]:
    """Every way of reading, by name."""
    kept: list[Any] = []
    sinks = AttentionSinks(backbone, backbone.layout)
    return {
        "default": ours(backbone, pixels, precision, default_readers(backbone)),
        "default and sinks": ours(backbone, pixels, precision, [*default_readers(backbone), sinks]),
        "all": ours(backbone, pixels, precision, all_readers(backbone)),
        "obvious": obvious(backbone, pixels, precision, len(pixels), kept),
        "obvious, one by one": obvious(backbone, pixels, precision, 1, kept),
    }


def memory(case: Case, contender: str, precision: str, batches: int) -> float:
    """MiB beyond what the process held before, at its peak over some batches; runs in a process of its own."""
    backbone = make(case, "cpu")
    draw = torch.Generator().manual_seed(1)
    pixels = torch.randn(case.batch, 3, case.size, case.size, generator=draw)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    if contender == "bare":
        for _ in range(batches):
            bare(backbone, pixels, precision)()
    elif contender in OURS:
        for _ in range(batches):
            contenders(backbone, pixels, precision)[contender]()
    else:  # one list over all batches: only at the end is it saved
        size = 1 if contender.endswith("one") else case.batch
        obvious(backbone, pixels.repeat(batches, 1, 1, 1), precision, size, [])()
    return resident("VmHWM") - before


def resident(key: str) -> float:
    """MiB of this process in memory now (VmRSS) or at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def memory_elsewhere(label: str, contender: str, precision: str, batches: int) -> float:
    """:func:`memory` in a fresh process: a peak cannot be taken back."""
    asked = json.dumps([label, contender, precision, batches])
    command = [sys.executable, "-m", "benchmarks.extraction", "--memory", asked]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure(label: str, precision: str, rounds: int, device: str) -> list[list[str]]:
    """Rows of the table for one case: bare, then each contender."""
    case = CASES[label]
    backbone = make(case, device)
    draw = torch.Generator().manual_seed(1)
    pixels = torch.randn(case.batch, 3, case.size, case.size, generator=draw).to(device)
    ways = contenders(backbone, pixels, precision)
    reference, timings = compare(bare(backbone, pixels, precision), ways, rounds, device)
    rows = [[label, precision, "bare", f"{case.batch / reference:.2f}", "1", *peaks(label, "bare", precision, device)]]
    for name, timing in timings.items():
        ratio = f"{timing.ratio:.2f} ({timing.low:.2f} to {timing.high:.2f})"
        peak = peaks(label, name, precision, device, ways[name])
        rows.append([label, precision, name, f"{case.batch / timing.seconds:.2f}", ratio, *peak])
    return rows


def peaks(label: str, contender: str, precision: str, device: str, work: Work | None = None) -> list[str]:
    """Peak memory over two and over six batches on CPU; over one pass on CUDA."""
    if device == "cpu":
        return [f"{memory_elsewhere(label, contender, precision, batches):.0f}" for batches in (2, 6)]
    if work is None:
        return ["", ""]
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    return [f"{(torch.cuda.max_memory_allocated() - before) / 2**20:.0f}", ""]


def machine(device: str) -> str:
    """What it ran on, in words."""
    versions = f"torch {torch.__version__}, timm {timm.__version__}"
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, {versions}"
    return f"{torch.get_num_threads()} threads, {platform.machine()}, {versions}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, action="append", help="default: all of the device")
    parser.add_argument("--precision", choices=PRECISIONS, action="append", help="default: fp32 and bf16")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--default-allocator", action="store_true", help="glibc's own way with freed memory")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        label, contender, precision, batches = json.loads(options.memory)
        print(memory(CASES[label], contender, precision, batches))
        return
    if not options.default_allocator and not ALLOCATOR.items() <= os.environ.items():
        again = [sys.executable, "-m", "benchmarks.extraction", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, **ALLOCATOR})
    cases = options.case or list(CUDA_CASES if options.device == "cuda" else CPU_CASES)
    precisions = options.precision or (["bf16"] if options.device == "cuda" else ["fp32", "bf16"])
    print(f"{machine(options.device)}; {options.rounds} rounds\n", flush=True)
    head = ["case", "precision", "way", "images/s", "time / bare (quartiles)", "MiB, 2 batches", "6 batches"]
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head), flush=True)
    for label in cases:
        for precision in precisions:
            for row in measure(label, precision, options.rounds, options.device):
                print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
