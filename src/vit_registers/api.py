"""The public Python API: register neurons of a timm model in one's own code.

    import timm, vit_registers

    model = timm.create_model("vit_small_patch14_dinov2", pretrained=True).eval()
    neurons = vit_registers.load_neurons("registers.json")  # vit-registers doctor ... --save registers.json
    with vit_registers.test_time_registers(model, neurons, tokens=1):
        features = model.forward_features(images)

All of it is what the pipeline itself runs. Whatever is wrong with what is given raises :class:`InputError`, in one
line. ``vit_registers.<name>`` imports this module, and with it torch and timm, when it is first asked for.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vit_registers.core.errors import InputError
from vit_registers.doctor.examine import Settings, examine
from vit_registers.doctor.watched import Watched
from vit_registers.forward import hooks
from vit_registers.interventions.base import applied
from vit_registers.interventions.kinds.test_time_registers import MovedNeurons, TestTimeRegisters
from vit_registers.models.backbone import Backbone
from vit_registers.models.layout import TokenLayout
from vit_registers.models.preprocess import Preprocess
from vit_registers.models.supported import layout_of
from vit_registers.registers.detect import LISTED
from vit_registers.registers.neuron_file import Neurons, load

__all__ = ["InputError", "Neurons", "find_register_neurons", "load_neurons", "test_time_registers"]


def load_neurons(path: Path | str) -> Neurons:
    """Register neurons that ``vit-registers doctor --save`` or :meth:`Neurons.save` wrote to ``path``.

    :class:`InputError` where there is no such file, or it holds something else.
    """
    return load(path)


@contextmanager
def test_time_registers(
    model: nn.Module,
    neurons: Neurons,
    tokens: int = 1,  # noqa: PT028  no test
    *,
    keep_tokens: bool = False,  # noqa: PT028
    other_weights: bool = False,  # noqa: PT028
) -> Iterator[nn.Module]:
    """Within the context ``model`` computes with ``tokens`` test-time registers (jiang2025); yields the model itself.

    In every forward pass of images (b, 3, h, w), ``tokens`` zero tokens are appended to the sequence. Right before the
    second linear layer of an MLP, each of them takes the value of each of the ``neurons`` that is largest in magnitude
    over the patches, and the patches take 0. With ``tokens=0`` the neurons are cleared and nothing is appended. It
    works on images of any batch size, under autocast, and with gradients.

    ``forward_features`` gives (b, t, d) as without registers, so that whatever reads tokens goes on working, mean
    pooling included. With ``keep_tokens`` the registers stand behind the patches, (b, t + tokens, d), as in the
    pipeline. ``forward_intermediates`` would take what is appended for patches: it is refused unless ``tokens=0``.

    Hooks do it and are removed at the end, also after an exception; weights are never touched. Checksums are taken once
    when the context is entered: enter it around the loop over batches.

    :class:`InputError` where ``model`` is no ViT of timm that can be measured, has other blocks and neurons than the
    model that these were found in, or other weights (``other_weights=True`` lets them pass, as for a fine-tuned model);
    and in a pass of images of another size than the model was made for.
    """
    if tokens < 0:
        raise InputError(f"tokens: {tokens}; expected 0 or more")
    backbone = _backbone(model)
    neurons.check(backbone, other_weights)
    moved = MovedNeurons(TestTimeRegisters(tokens=tokens), neurons.places)
    with applied(backbone, moved) as layout, ExitStack() as stack:
        on = hooks.Hooks(stack)
        on.input(hooks.block(backbone, 0), lambda x: _refuse_other_size(x, layout, backbone.name))
        if tokens:
            _refuse_intermediates(model, stack)
        if tokens and not keep_tokens:
            on.output(hooks.after_blocks(backbone), lambda x: x[:, : layout.patch_slice.stop])
        yield model


test_time_registers.__test__ = False  # type: ignore[attr-defined]  # pytest: its name begins as that of a test does


def find_register_neurons(
    model: nn.Module, images: Tensor, *, neurons: int | None = None, threshold: float = 3.0, seed: int = 0
) -> Neurons:
    """The register neurons of a timm ``model``, from ``images`` (n, 3, h, w) normalised as the model takes them.

    Patches are outliers whose norm exceeds ``threshold`` times the median of their block. ``neurons``: how many to
    take; by default the fewest of 1, 2, 4 ... 64 whose moving to one appended token takes the outliers away. What
    moving them does is measured on every second image and stands in no file: ``vit-registers doctor`` reports it.

    :class:`InputError` where the model cannot be measured, has no outliers, or no neuron that fires at them.
    """
    if not 1 <= (neurons or 1) <= LISTED:
        raise InputError(f"neurons: {neurons}; expected 1 to {LISTED}, or None")
    if images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise InputError(f"images: shape {tuple(images.shape)}; expected (n, 3, h, w)")
    backbone = _backbone(model)
    expected = tuple(side * patch for side, patch in zip(backbone.layout.grid, backbone.patch, strict=True))
    if tuple(images.shape[2:]) != expected:
        raise InputError(f"images: {tuple(images.shape[2:])} pixels; the model was made for {expected}")
    batches = _Tensors(images.to(next(model.parameters()).dtype))
    with _modes_kept(model):
        settings = Settings(threshold=threshold, neurons=neurons, seed=seed)
        found = examine(backbone, Watched(batches, quiet=True), len(images), settings)
    if found.repair is None:
        raise InputError(f"model '{backbone.name}': {found.reason}")
    told = {"threshold": threshold, "seed": seed, "outlier_layer": found.judged.layers.layer, "input": list(expected)}
    said = {name: found.repair.result[name] for name in ("stability", "highest_layer", "images_ranked")}
    best = [(layer, index, score) for layer, index, score, _ in found.repair.neurons]
    return Neurons.of(backbone, best, found.judged.layers.threshold, told | said)


class _Tensors:
    """Images that are in memory already."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def batches(self, numbers: Sequence[NDArray[np.int64]]) -> Iterator[Tensor]:
        """One batch per entry of ``numbers``."""
        for rows in numbers:
            yield self.images[torch.from_numpy(rows).to(self.images.device)]


def _backbone(model: Any) -> Backbone:
    """A model of timm as the pipeline has it; nothing of it is copied or changed."""
    config = getattr(model, "pretrained_cfg", None) or {}
    name = str(config.get("architecture") or type(model).__name__)
    unused = Preprocess.square(1, 1, "bicubic", (0.0,) * 3, (1.0,) * 3)  # images come normalised
    with _modes_kept(model):
        layout = layout_of(model, name)
    return Backbone(name, model, layout, unused, {"architecture": config.get("architecture")})


@contextmanager
def _modes_kept(model: Any) -> Iterator[None]:
    """Within the context the model is in eval mode; then each of its modules is again in the mode that it was in."""
    modes = {module: module.training for module in model.modules()} if isinstance(model, nn.Module) else {}
    try:
        if modes:
            model.eval()
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _refuse_intermediates(model: nn.Module, stack: ExitStack) -> None:
    """Until ``stack`` is closed, refuse what lays appended tokens out as patches, at some widths without an error."""

    def refused(*arguments: Any, **options: Any) -> None:
        raise InputError("forward_intermediates: would take test-time registers for patches; use forward_features")

    model.forward_intermediates = refused  # type: ignore[assignment]
    stack.callback(delattr, model, "forward_intermediates")


def _refuse_other_size(tokens: Tensor, layout: TokenLayout, name: str) -> None:
    """Refuse a sequence that is not of the size that the layout is of: registers would be taken for patches."""
    if tokens.shape[1] != layout.length:
        given, expected = (length - layout.appended for length in (tokens.shape[1], layout.length))
        raise InputError(
            f"model '{name}': an image gave {given} tokens, {expected} were expected; make the model for images of "
            "this size, as by timm.create_model(..., img_size=...)"
        )
