"""What the printed numbers of darcet2024, and operations counted in its architectures, say about its sentences."""

from vit_registers.claims import register_cost
from vit_registers.claims.finding import Finding
from vit_registers.claims.judging import Entries, agree, disagreement, held, judges, listed

SOURCE = "darcet2024"
FAMILIES = ("deit3", "openclip", "dinov2")
LOST_DATASETS = ("voc07", "voc12", "coco20k")
LINEAR_DATASETS = ("imagenet", "ade20k", "nyud")
LOWER_IS_BETTER = ("nyud",)
# From beyond the source: the patches of the official DeiT-III ViT-B.
DEIT3_PATCH = 16


def _number(entries: Entries, name: str) -> float:
    return entries.number(f"{SOURCE}-{name}")


def _change(entries: Entries, cell: str) -> float:
    """With registers minus without, of one cell of a table."""
    return _number(entries, f"{cell}-reg") - _number(entries, f"{cell}-noreg")


def _lost(entries: Entries, family: str) -> list[float]:
    return [_change(entries, f"lost-{family}-{dataset}") for dataset in LOST_DATASETS]


def _gains(entries: Entries) -> dict[str, float]:
    """Improvement of each linear and zero-shot cell, errors with their sign turned."""
    cells = {f"linear-{family}-{dataset}" for family in FAMILIES for dataset in LINEAR_DATASETS} | {"zeroshot-openclip"}
    gains = {cell: _change(entries, cell) for cell in sorted(cells)}
    return {cell: -gain if cell.endswith(LOWER_IS_BETTER) else gain for cell, gain in gains.items()}


@judges("darcet2024-flops-4-registers", "darcet2024-flops-16-registers")
def cost(claim: str, entries: Entries) -> Finding:
    """Operations counted in the architectures of the paper at 224 pixels."""
    registers = 16 if "-16-" in claim else 4
    counted, bound = register_cost.increases(registers), entries.number(claim)
    within = [label for label, increase in counted.items() if increase < bound]
    return Finding(
        claim,
        held(len(within) == len(counted)),
        max(counted.values()),
        f"{registers} registers, counted at 224 pixels: "
        + ", ".join(f"{label} +{increase:.2f} %" for label, increase in counted.items())
        + f"; stated below {bound:g} %",
        f"Within the bound: {', '.join(within) or 'none'}. The fewer patches, the larger the share of registers.",
    )


@judges("darcet2024-deit3-patch-size")
def deit3_patches(claim: str, entries: Entries) -> Finding:
    """What four registers would cost with patches of 32 pixels."""
    size, bound = entries.number(claim), _number(entries, "flops-4-registers")
    increase = register_cost.increase(register_cost.PATCH_32, 4)
    return Finding(
        claim,
        held(size == DEIT3_PATCH),
        float(DEIT3_PATCH),
        f"four registers beside the patches of a ViT-B/32 at 224 pixels cost +{increase:.2f} %, "
        f"stated below {bound:g} %",
        f"The official DeiT-III ViT-B has patches of {DEIT3_PATCH} pixels; there is none with 32.",
    )


@judges("darcet2024-linear-deit3-nyud-delta", "darcet2024-linear-openclip-imagenet-delta")
def worse_cell(claim: str, entries: Entries) -> Finding:
    """A derived difference, and its direction."""
    cell = claim.removeprefix(f"{SOURCE}-").removesuffix("-delta")
    change, worse = _change(entries, cell), _gains(entries)[cell] < 0
    decimals = 3 if cell.endswith(LOWER_IS_BETTER) else 1
    return Finding(
        claim,
        held(agree(change, entries.number(claim), decimals)),
        change,
        f"{_number(entries, f'{cell}-reg'):g} - {_number(entries, f'{cell}-noreg'):g} = {change:+.{decimals}f}",
        "The difference holds; it is a loss, against the slide's sentence that registers never harm."
        if worse
        else "The difference is no loss.",
    )


@judges("darcet2024-registers-do-not-harm")
def no_harm(claim: str, entries: Entries) -> Finding:
    """Cells that get worse, all tables of downstream scores."""
    gains = _gains(entries)
    worse = [cell for cell, gain in gains.items() if gain < -1e-9]
    same = sum(abs(gain) <= 1e-9 for gain in gains.values())
    return Finding(
        claim,
        held(not worse),
        f"{len(worse)} of {len(gains)} worse",
        f"of {len(gains)} cells {len(worse)} get worse ({', '.join(worse) or 'none'}), {same} the same, "
        f"{len(gains) - len(worse) - same} better",
        "The losses are of the last digit; nothing printed gives the spread.",
    )


@judges("darcet2024-lost-all-models-improve")
def all_improve(claim: str, entries: Entries) -> Finding:
    """Changes of CorLoc by model and data set."""
    changes = {family: _lost(entries, family) for family in FAMILIES}
    worse = sum(change < 0 for family in changes.values() for change in family)
    return Finding(
        claim,
        held(worse == 0),
        f"{worse} of 9 worse",
        "; ".join(f"{family} {listed(change, 1, sign=True)}" for family, change in changes.items())
        + f" ({', '.join(LOST_DATASETS)})",
        "The caption leaves out OpenCLIP.",
    )


@judges("darcet2024-lost-openclip-smaller-gain")
def openclip_gain(claim: str, entries: Entries) -> Finding:
    """Whether OpenCLIP gains at all."""
    changes = _lost(entries, "openclip")
    others = [_lost(entries, family) for family in FAMILIES if family != "openclip"]
    smaller = all(change < min(other) for change, other in zip(changes, zip(*others, strict=True), strict=True))
    return Finding(
        claim,
        held(min(changes) > 0 and smaller),
        max(changes),
        f"OpenCLIP {listed(changes, 1, sign=True)} points ({', '.join(LOST_DATASETS)})",
        "Not a smaller gain but a loss.",
    )


WORDING = (
    disagreement(
        "darcet2024-model-size-onset",
        "contradicted",
        "OpenCLIP and DeiT-III are ViT-B: the rule can only be of the DINOv2 models.",
        cites="darcet2024-artifacts-models",
    ),
    disagreement(
        "darcet2024-neighbor-cosine",
        "contradicted",
        "Fig. 5a compares input patches, and the paper finds that artifacts resemble their neighbours more.",
        cites="darcet2024-location-redundant",
    ),
    disagreement(
        "darcet2024-method-token-order",
        "inconclusive",
        "Registers without positions make any order the same model; it matters to who slices the output.",
        cites="darcet2024-method-learnable-registers",
    ),
    disagreement(
        "darcet2024-position-antialias",
        "inconclusive",
        "Of the stripes it may hold; the slide's addition, that it fixes the artifacts, does not, "
        "as the next slide shows.",
        cites="darcet2024-position-borders",
    ),
    disagreement(
        "darcet2024-outliers-qk-not-v",
        "inconclusive",
        "Of all models in one place, of OpenCLIP in the other.",
        cites="darcet2024-lost-openclip-values",
    ),
)
