"""Judges of attention by group of tokens, block by block."""

from itertools import pairwise

from vit_registers.claims.finding import Finding
from vit_registers.claims.judging import Entries, agree, held, judges, listed, mean, mostly
from vit_registers.claims.published.numbers import DINOV3, PLAIN, REGISTERS, attention, published


@judges("parodi2026-num-layers")
def layers(claim: str, entries: Entries) -> Finding:
    """Layers of all three models."""
    counts = {model: content["layers"] for model, content in published()["attention"].items()}
    same = set(counts.values()) == {int(entries.number(claim))}
    text = ", ".join(f"{model} {count}" for model, count in counts.items())
    return Finding(claim, held(same), float(max(counts.values())), text, "Counted in the attention file.")


@judges("parodi2026-flow-num-images")
def flow_images(claim: str, entries: Entries) -> Finding:
    """Images that attention is averaged over."""
    counts = {content["images"] for content in published()["attention"].values()}
    text = f"images per model {sorted(counts)}, printed {entries.number(claim):g}"
    return Finding(claim, held(counts == {entries.number(claim)}), float(max(counts)), text, "The file says so.")


@judges("parodi2026-flow-num-flows")
def flow_count(claim: str, entries: Entries) -> Finding:
    """Flows per layer."""
    counts = {len(content["mean"]) for content in published()["attention"].values()}
    text = f"flows per layer {sorted(counts)}, printed {entries.number(claim):g}"
    return Finding(claim, held(counts == {entries.number(claim)}), float(max(counts)), text, "The file has them.")


@judges("parodi2026-dinov2-patch-to-cls-min")
def patch_to_cls_least(claim: str, entries: Entries) -> Finding:
    """The least share over layers, and in how many the bound holds."""
    values, bound = attention(PLAIN, "patches_to_cls"), entries.number(claim)
    enough = [layer for layer, value in enumerate(values) if value > bound or agree(value, bound, 0)]
    return Finding(
        claim,
        held(len(enough) == len(values)),
        min(values),
        f"patches to CLS by layer {listed(values, 1)} %: at least {bound:g} in {len(enough)} of {len(values)} layers",
        "Not throughout: a few layers at the start and the last but one.",
    )


@judges("parodi2026-dinov2-patch-to-cls-max")
def patch_to_cls_most(claim: str, entries: Entries) -> Finding:
    """The largest share over layers."""
    values = attention(PLAIN, "patches_to_cls")
    text = (
        f"patches to CLS: largest {max(values):.1f} % at layer {values.index(max(values))}, "
        f"printed {entries.number(claim):g}"
    )
    return Finding(claim, held(agree(max(values), entries.number(claim), 0)), max(values), text, "The upper end holds.")


@judges("parodi2026-dinov2reg-cls-to-reg")
def cls_to_registers(claim: str, entries: Entries) -> Finding:
    """The largest share over layers, and that of the last."""
    values = attention(REGISTERS, "cls_to_registers")
    return Finding(
        claim,
        held(agree(max(values), entries.number(claim), 1)),
        max(values),
        f"CLS to registers by layer {listed(values, 1)} %: largest {max(values):.1f} at layer "
        f"{values.index(max(values))}, last "
        f"{values[-1]:.1f}, printed up to {entries.number(claim):g}",
        f"The printed number is below all {len(values)} layers."
        if entries.number(claim) < min(values)
        else "It is not the largest.",
    )


@judges("parodi2026-dinov2reg-cls-to-r2")
def cls_to_one_register(claim: str, entries: Entries) -> Finding:
    """The file has no attention to single registers; their sum is an upper bound."""
    last = attention(REGISTERS, "cls_to_registers")[-1]
    return Finding(
        claim,
        "inconclusive" if entries.number(claim) <= last else "contradicted",
        last,
        f"CLS to all registers at layer 11 {last:.1f} %, to R2 alone {entries.number(claim):g} printed",
        "Attention to single registers is not in the file; the sum allows it.",
    )


@judges("parodi2026-dinov2reg-subordinate")
def subordinate(claim: str, entries: Entries) -> Finding:
    """The same flow in both models: what patches give to registers, and to CLS."""
    registers, cls = attention(REGISTERS, "patches_to_registers"), attention(REGISTERS, "patches_to_cls")
    third = attention(DINOV3, "patches_to_registers")
    below = sum(to_register < to_cls for to_register, to_cls in zip(registers, cls, strict=True))
    return Finding(
        claim,
        mostly((2 * below > len(cls), registers[-1] < third[-1], mean(registers) < mean(third))),
        f"{below} of {len(cls)} layers",
        f"{REGISTERS}: registers get less of patch attention than CLS in {below} of {len(cls)} "
        "layers; to registers at layer 11 "
        f"{registers[-1]:.1f} %, {DINOV3} {third[-1]:.1f}; mean of layers {mean(registers):.1f} and {mean(third):.1f}",
        "Two flows were compared, from CLS in one model and, as the post has it, from patches in "
        "the other. In the same flow "
        "registers are ahead of CLS, and no less used than in DINOv3.",
    )


@judges("parodi2026-dinov3-patch-to-reg")
def patch_to_registers(claim: str, entries: Entries) -> Finding:
    """Patches to registers at the last layer, and where the number comes from."""
    patches, cls = (attention(DINOV3, f"{flow}_to_registers")[-1] for flow in ("patches", "cls"))
    return Finding(
        claim,
        held(agree(patches, entries.number(claim), 1)),
        patches,
        f"layer 11: patches to registers {patches:.1f} %, CLS to registers {cls:.1f}, printed "
        f"{entries.number(claim):g}",
        "The printed number is of CLS, not of patches."
        if agree(cls, entries.number(claim), 1)
        else "Neither flow has it.",
    )


@judges("parodi2026-dinov3-patch-to-r1")
def patch_to_one_register(claim: str, entries: Entries) -> Finding:
    """A single register cannot get more than all."""
    patches, cls = (attention(DINOV3, f"{flow}_to_registers")[-1] for flow in ("patches", "cls"))
    return Finding(
        claim,
        "contradicted" if entries.number(claim) > patches else "inconclusive",
        patches,
        f"layer 11: patches to all four registers {patches:.1f} %, to R1 alone "
        f"{entries.number(claim):g} printed; CLS to all "
        f"{cls:.1f}",
        "More than the sum; of CLS it may be true, but attention to single registers is not in the file.",
    )


@judges("parodi2026-dinov3-flow-layer")
def flow_layer(claim: str, entries: Entries) -> Finding:
    """The layer at which CLS gives registers the printed share."""
    values, share = attention(DINOV3, "cls_to_registers"), entries.number("parodi2026-dinov3-patch-to-reg")
    found = [layer for layer, value in enumerate(values) if agree(value, share, 1)]
    return Finding(
        claim,
        held(found == [int(entries.number(claim))]),
        ", ".join(str(layer) for layer in found) or "none",
        f"CLS to registers by layer {listed(values, 1)} %: {share:g} at layer {', '.join(map(str, found)) or 'none'}",
        "The layer holds, for attention of CLS.",
    )


@judges("parodi2026-dinov3-attn-gradual")
def gradual(claim: str, entries: Entries) -> Finding:
    """Whether the share grows from the middle layer to the last."""
    values = attention(DINOV3, "patches_to_registers")
    later = values[len(values) // 2 :]
    falls = sum(after < before for before, after in pairwise(later))
    peak = values.index(max(values))
    return Finding(
        claim,
        held(falls == 0),
        values[-1],
        f"patches to registers by layer {listed(values, 1)} %: largest at layer {peak}, from layer "
        f"{len(values) // 2} on it falls "
        f"{falls} times",
        f"It grows from layer 6 to 10 but for one step, and ends at {values[-1]:.1f} %, below "
        "layer 1; layer 2 is above all of "
        "layers 3 to 9.",
    )


@judges(
    "parodi2026-dinov3-cls-to-registers",
    sentence="29.1 % of CLS attention goes to registers in DINOv3",
)
def cls_to_registers_dinov3(claim: str, entries: Entries) -> Finding:
    """The last layer, with the standard error over images."""
    printed = 29.1
    content = published()["attention"][DINOV3]
    value = attention(DINOV3, "cls_to_registers")[-1]
    error = 100 * content["std"]["cls_to_registers"][-1] / content["images"] ** 0.5
    same = agree(value, printed, 1)
    return Finding(
        claim,
        "reproduced" if same else "inconclusive",
        value,
        f"layer 11: {value:.2f} % (standard error of {content['images']} images {error:.2f}), printed {printed:g}: "
        f"{printed - value:+.2f} points, {(printed - value) / (2**0.5 * error):.1f} standard errors of a difference",
        "Near, but further than another sample of as many images would be; it is of another run, "
        "which is not published.",
    )
