"""What the printed numbers of bach2025 say about its sentences."""

from itertools import pairwise

from vit_registers.claims.finding import Finding
from vit_registers.claims.judging import Entries, agree, disagreement, held, judges, listed, mean

SOURCE = "bach2025"
REGISTERS = (2, 4, 8, 16)
TOKENS = "tokcls-deit3-small"
TOKEN_DATASETS = ("imagenette", "caltech101", "flowers102", "cifar10")
# From beyond the source: GPUs of the official DeiT-III command, whose batch size is per GPU.
OFFICIAL_GPUS = 8


def _number(entries: Entries, name: str) -> float:
    return entries.number(f"{SOURCE}-{name}")


def _gains(entries: Entries, scores: str) -> list[float]:
    """Change of a score by number of registers: ``top1`` or ``lost-deit3``."""
    plain = "top1-reg0" if scores == "top1" else f"{scores}-noreg"
    return [_number(entries, f"{scores}-reg{count}") - _number(entries, plain) for count in REGISTERS]


def _gap(entries: Entries, cell: str, condition: str) -> float:
    """High-norm minus low-norm accuracy, in points."""
    return 100 * (_number(entries, f"{cell}-high-{condition}") - _number(entries, f"{cell}-low-{condition}"))


@judges("bach2025-dinov2-analysed-size")
def analysed_size(claim: str, entries: Entries) -> Finding:
    """Findings on the giant and on the large model, LOST aside."""
    left_out = ("lost-corloc", "model-spec")
    models = [entry.model or "" for entry in entries if entry.source == SOURCE and entry.experiment not in left_out]
    giant = sum("vitg14" in model for model in models)
    large = sum("vitl14" in model for model in models)
    return Finding(
        claim,
        held(giant == 0),
        f"{giant} of giant",
        f"findings outside of LOST: {giant} on ViT-g/14, {large} on ViT-L/14",
        "Figures 1, 4, 5, 6 and Sec. 4.2.2 analyse the giant model, which Sec. 3.1 never lists.",
    )


@judges("bach2025-prior-work-large-only")
def prior_work(claim: str, entries: Entries) -> Finding:
    """Base models that darcet2024 reports on."""
    base = {"deit3-base-in22k", "openclip-vitb16-shutterstock"}
    found = {name for name in base for entry in entries if entry.source == "darcet2024" and entry.model == name}
    return Finding(
        claim,
        held(not found),
        f"{len(found)} base models",
        f"models of base size in darcet2024: {', '.join(sorted(found)) or 'none'}",
        "Sec. 2 says so itself: both show artifacts.",
    )


@judges("bach2025-train-batch-size")
def batch_size(claim: str, entries: Entries) -> Finding:
    """The batch of a step, read per GPU and in total."""
    size, devices = entries.number(claim), _number(entries, "train-gpus")
    return Finding(
        claim,
        "inconclusive",
        size * devices,
        f"per GPU {size:g} x {devices:g} = {size * devices:g}, in total {size:g}; the official "
        f"command {size:g} x {OFFICIAL_GPUS}"
        f" = {size * OFFICIAL_GPUS:g}",
        "Not said which; the learning rate is not scaled with it.",
    )


@judges("bach2025-overall-gain-modest")
def overall_gain(claim: str, entries: Entries) -> Finding:
    """Changes of classification and of object discovery."""
    top1, corloc = _gains(entries, "top1"), _gains(entries, "lost-deit3")
    return Finding(
        claim,
        held(mean(top1) > 0 and mean(corloc) > 0),
        mean(top1),
        f"ImageNet top-1 {listed(top1, sign=True)}, mean {mean(top1):+.2f} points; CorLoc "
        f"{listed(corloc, sign=True)}, mean "
        f"{mean(corloc):+.2f} (registers {listed(REGISTERS, 0)})",
        "Only object discovery gains.",
    )


@judges("bach2025-mse-increase")
def error_increase(claim: str, entries: Entries) -> Finding:
    """The increase of the error, in percent."""
    high, low = _number(entries, "mse-high-norm"), _number(entries, "mse-low-norm")
    increase = 100 * (high / low - 1)
    return Finding(
        claim,
        held(agree(increase, entries.number(claim), 1)),
        increase,
        f"{high:g} / {low:g} - 1 = {increase:.1f} %; {100 * high / low:.1f} % of it",
        "The ratio was printed as an increase.",
    )


@judges("bach2025-artifact-threshold-percentile")
def percentile(claim: str, entries: Entries) -> Finding:
    """The share above a percentile against the share above a fixed norm."""
    share, darcet = 100 - entries.number(claim), _number(entries, "darcet-outlier-share")
    return Finding(
        claim,
        held(agree(share, darcet, 2)),
        share,
        f"above percentile {entries.number(claim):g}: {share:g} % by construction; above norm "
        f"{entries.number('darcet2024-norm-threshold'):g}: {darcet:g} %",
        "Said to follow darcet2024, which has a fixed norm; a percentile finds artifacts in every model.",
    )


@judges("bach2025-lost-register-counts")
def register_counts(claim: str, entries: Entries) -> Finding:
    """Numbers of registers in the text against those that were trained."""
    text = {int(count) for count in entries.setting(claim).split(",")}
    trained = {int(count) for count in entries.setting("bach2025-train-register-counts").split(",")}
    return Finding(
        claim,
        held(text == trained - {0}),
        ", ".join(str(count) for count in sorted(text - trained)) or "none",
        f"text {sorted(text)}, trained {sorted(trained)}: never trained {sorted(text - trained)}",
        "Table 1 has the models that were trained.",
    )


@judges("bach2025-lost-dino")
def dino_row(claim: str, entries: Entries) -> Finding:
    """Rows of DINO in the LOST table of darcet2024."""
    rows = [
        entry.id
        for entry in entries
        if entry.source == "darcet2024"
        and entry.experiment == "lost-corloc"
        and (entry.model or "").startswith("dino-")
    ]
    return Finding(
        claim,
        "inconclusive",
        f"{len(rows)} rows",
        f"text credits {entries.number(claim):g} to darcet2024, whose LOST table has {len(rows)} rows of DINO",
        "Size of the model and source of the number are not stated.",
    )


@judges("bach2025-lost-plateau")
def plateau(claim: str, entries: Entries) -> Finding:
    """Gains of CorLoc from each number of registers to the next."""
    gains = _gains(entries, "lost-deit3")
    steps = [after - before for before, after in pairwise(gains)]
    return Finding(
        claim,
        held(steps[-1] <= steps[-2]),
        steps[-1],
        f"CorLoc from 2 to 4 to 8 to 16 registers: {listed(steps, sign=True)} points",
        "The last step is larger than the one before it.",
    )


@judges("bach2025-lost-small-capacity-explanation")
def small_capacity(claim: str, entries: Entries) -> Finding:
    """Two models of one size, one gains and one loses."""
    sizes = _number(entries, "deit3-small-params"), _number(entries, "dinov2-small-params")
    dino = _number(entries, "lost-dinov2-small-reg") - _number(entries, "lost-dinov2-small-noreg")
    deit = _gains(entries, "lost-deit3")
    return Finding(
        claim,
        "contradicted" if min(deit) > 0 > dino and abs(sizes[0] / sizes[1] - 1) < 0.1 else "inconclusive",
        dino,
        f"DINOv2 Small ({sizes[1]:g} million) {dino:+.2f} points of CorLoc, DeiT-III Small ({sizes[0]:g} million) "
        f"{listed(deit, sign=True)}",
        "Size does not tell the two apart; Sec. 5 itself says that artifacts decide, not scale.",
    )


@judges("bach2025-tokcls-deit3-small-flowers102-high-reg")
def order_flips(claim: str, entries: Entries) -> Finding:
    """The order of high-norm and low-norm tokens with and without registers."""
    cell = f"{TOKENS}-flowers102"
    before, after = _gap(entries, cell, "noreg"), _gap(entries, cell, "reg")
    change = 100 * (entries.number(claim) - _number(entries, f"{cell}-high-noreg"))
    return Finding(
        claim,
        "inconclusive",
        after,
        f"high minus low {before:+.2f} points without registers, {after:+.2f} with; high-norm tokens {change:+.2f}",
        "The number cannot be checked here. The order is the other one with registers and "
        "high-norm tokens get far worse, which "
        "is more than the two becoming even, as the text has it."
        if after < 0 < before
        else "The number cannot be checked here; the order of the two stays.",
    )


@judges("bach2025-tokcls-deit3-small-flowers102-cls-noreg", "bach2025-tokcls-deit3-small-flowers102-cls-reg")
def perfect_accuracy(claim: str, entries: Entries) -> Finding:
    """How far the CLS token is above the best patch token, by data set."""
    condition = claim.rsplit("-", 1)[1]
    above = {
        name: 100
        * (
            _number(entries, f"{TOKENS}-{name}-cls-{condition}")
            - max(_number(entries, f"{TOKENS}-{name}-{norm}-{condition}") for norm in ("high", "low"))
        )
        for name in TOKEN_DATASETS
    }
    return Finding(
        claim,
        "inconclusive",
        above["flowers102"],
        "CLS above the better patch token by "
        + ", ".join(f"{name} {points:.1f}" for name, points in above.items())
        + " points",
        "Perfect on 102 kinds of flowers without any spread, far above every other data set: "
        "training accuracy, or a split that "
        "leaks; what was split how is not published.",
    )


@judges("bach2025-tokcls-dinov2-small-imagenette-gap-reg")
def gap_grows(claim: str, entries: Entries) -> Finding:
    """The gap, and in how many cells it narrows."""
    cells = [f"tokcls-{model}-small-{dataset}" for model in ("deit3", "dinov2") for dataset in TOKEN_DATASETS]
    narrows = [abs(_gap(entries, cell, "reg")) < abs(_gap(entries, cell, "noreg")) for cell in cells]
    gaps = [_gap(entries, "tokcls-dinov2-small-imagenette", condition) for condition in ("noreg", "reg")]
    return Finding(
        claim,
        held(agree(gaps[1], entries.number(claim), 2)),
        gaps[1],
        f"high minus low {gaps[0]:+.2f} points without registers, {gaps[1]:+.2f} with; the gap "
        f"narrows in {sum(narrows)} of "
        f"{len(narrows)} cells",
        "The number holds; it goes against the narrowing that the text reports.",
    )


@judges("bach2025-tokcls-dinov2-small-flowers102-high-noreg")
def outliers_without_artifacts(claim: str, entries: Entries) -> Finding:
    """High-norm tokens of a model that is said to have no artifacts."""
    gap = _gap(entries, "tokcls-dinov2-small-flowers102", "noreg")
    return Finding(
        claim,
        "inconclusive",
        gap,
        f"high minus low {gap:+.2f} points || {entries.passage('bach2025-dinov2-small-no-artifacts')}",
        "The number cannot be checked here. The two percent of largest norm exist in every model: "
        "that they classify better does "
        "not show artifacts.",
    )


def _energy(entries: Entries) -> float:
    """Energy of the GPUs, in MWh."""
    return _number(entries, "carbon-gpu-hours") * _number(entries, "carbon-gpu-power") / 1e6


@judges("bach2025-carbon-pue")
def pue(claim: str, entries: Entries) -> Finding:
    """The power usage effectiveness that the listed energy has."""
    energy, printed = _energy(entries), _number(entries, "carbon-energy")
    implied = printed / energy
    return Finding(
        claim,
        held(agree(implied, entries.number(claim), 1)),
        implied,
        f"{printed:g} MWh / ({_number(entries, 'carbon-gpu-hours'):g} h x "
        f"{_number(entries, 'carbon-gpu-power'):g} W) = "
        f"{implied:.2f}, listed {entries.number(claim):g}",
        "The listed energy follows from 1.1.",
    )


@judges("bach2025-carbon-energy")
def energy(claim: str, entries: Entries) -> Finding:
    """Hours, power and effectiveness multiplied."""
    total = _energy(entries) * _number(entries, "carbon-pue")
    return Finding(
        claim,
        held(agree(total, entries.number(claim), 2)),
        total,
        f"{_number(entries, 'carbon-gpu-hours'):g} h x {_number(entries, 'carbon-gpu-power'):g} W x "
        f"{_number(entries, 'carbon-pue'):g} = {total:.3f} MWh, listed {entries.number(claim):g}",
        "Energy and effectiveness of the same table do not fit.",
    )


@judges("bach2025-carbon-emitted-text")
def emissions(claim: str, entries: Entries) -> Finding:
    """Models that the hours are of, and the carbon intensity that the emissions have."""
    trained = _number(entries, "carbon-hours-total") / _number(entries, "carbon-hours-per-model")
    kilograms, listed_energy = entries.number(claim), 1000 * _number(entries, "carbon-energy")
    full = 1000 * _energy(entries) * _number(entries, "carbon-pue")
    same = agree(kilograms / 1000, _number(entries, "carbon-emitted-table"), 2)
    return Finding(
        claim,
        held(trained == 2 and same),
        trained,
        f"hours of {trained:g} models, text has both; {kilograms:g} kg / {listed_energy:g} kWh = "
        f"{kilograms / listed_energy:.3f} "
        f"kg per kWh, / {full:.0f} kWh = {kilograms / full:.3f}; table {_number(entries, 'carbon-emitted-table'):g} t",
        "The emissions are of all models, not of two; the intensity that they imply is nowhere printed.",
    )


WORDING = (
    disagreement(
        "bach2025-register-init",
        "inconclusive",
        "The standard deviation is needed to repeat it.",
        says="no passage gives the standard deviation",
    ),
    disagreement(
        "bach2025-mlp-tokens",
        "inconclusive",
        "Whether one network or two are trained decides what is compared.",
        says="no passage gives data set, optimiser, learning rate, scale of pixels, or the number of networks",
    ),
    disagreement(
        "bach2025-deit3-neighbor-cosine",
        "contradicted",
        "Uniform areas resemble their neighbours more, not less.",
        cites="bach2025-deit3-low-texture",
    ),
    disagreement(
        "bach2025-deit3-low-texture",
        "contradicted",
        "Uniform areas resemble their neighbours more, not less.",
        cites="bach2025-deit3-neighbor-cosine",
    ),
    disagreement(
        "bach2025-register-map-cosine",
        "inconclusive",
        "Caption and Appendix D take the fall for specialisation, the text takes the level for its absence.",
        cites="bach2025-registers-no-specialization",
    ),
    disagreement(
        "bach2025-lost-preprocessing",
        "inconclusive",
        "The original LOST keeps the whole image; cropping changes which boxes can be found.",
        says="no passage gives the sizes, or how boxes are cropped",
    ),
    disagreement(
        "bach2025-tokcls-sampling",
        "inconclusive",
        "The two percent of largest norm in a batch need not hold a token of every image.",
        says="no passage says whether it is a token of each image or of each batch",
    ),
    disagreement(
        "bach2025-tokcls-classifier",
        "inconclusive",
        "Accuracies of other work cannot be compared without them.",
        says="no passage gives regularisation, solver, split or size of images",
    ),
)
