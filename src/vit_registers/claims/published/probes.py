"""Judges of what probes read from [CLS] and registers, block by block."""

from vit_registers.claims.finding import Finding
from vit_registers.claims.judging import Entries, agree, held, judges, listed, mean, mostly
from vit_registers.claims.published.numbers import (
    CHANCE,
    DINOV3,
    PLAIN,
    REGISTERS,
    TOKENS,
    WITH_REGISTERS,
    attention,
    by_layer,
    correspondence,
    model_of,
    probe,
    published,
    score,
    similarity,
    sweep,
)


@judges("parodi2026-probe-layers")
def probe_layers(claim: str, entries: Entries) -> Finding:
    """Layers that are probed."""
    found = [content["layers"] for content in published()["register_probe"].values()]
    stated = [int(layer) for layer in entries.setting(claim).split(", ")]
    same = all(one == stated for one in found) and len(stated) == entries.number(claim)
    text = f"layers {', '.join(str(layer) for layer in found[0])}: {len(found[0])}, printed {entries.number(claim):g}"
    return Finding(claim, held(same), float(len(found[0])), text, "The file has them.")


def _largest_until(model: str, layer: int) -> dict[str, float]:
    """The largest accuracy of any token up to a layer, in each of the two files."""
    tokens = max(value for token in ("cls", *TOKENS) for at, value in probe(model, token).items() if at <= layer)
    swept = max(value for at, value in sweep(model, "cls").items() if at <= layer)
    return {"registers and CLS": tokens, "layer sweep": swept}


@judges("parodi2026-dinov2reg-early-probe", "parodi2026-dinov3-early-probe")
def early_probe(claim: str, entries: Entries) -> Finding:
    """The bound up to layer 8, in both files, and what it is in multiples of chance."""
    bound, found = entries.number(claim), _largest_until(model_of(claim), 8)
    largest = max(found.values())
    return Finding(
        claim,
        mostly(value < bound for value in found.values()),
        largest,
        "largest up to layer 8: "
        + ", ".join(f"{name} {value:.2f} %" for name, value in found.items())
        + f"; bound {bound:g}, chance {CHANCE:g}",
        f"Called near-random; it is {largest / CHANCE:.0f} times chance.",
    )


FINAL_PROBES = {
    "parodi2026-dinov2reg-cls-layer11": "cls",
    "parodi2026-dinov3-cls-layer11": "cls",
    "parodi2026-dinov3-r1-probe": "r1",
    "parodi2026-dinov3-r2-probe": "r2",
    "parodi2026-dinov3-r3-probe": "r3",
}


@judges(*FINAL_PROBES)
def final_probe(claim: str, entries: Entries) -> Finding:
    """A probe at the last layer."""
    model, token = model_of(claim), FINAL_PROBES[claim]
    value, swept = probe(model, token)[11], sweep(model, "cls")[11]
    other = f"; the layer sweep has {swept:.2f}" if token == "cls" else ""
    text = f"{model}, {token}, layer 11: {value:.2f} %, printed {entries.number(claim):g}{other}"
    same = agree(value, entries.number(claim), 1)
    reason = "Two fits of the same probe, with one seed." if token == "cls" else "The file has it, of one seed."
    return Finding(claim, held(same), value, text, reason if same else "The file has another number.")


@judges("parodi2026-dinov3-g1-full")
def full_score(claim: str, entries: Entries) -> Finding:
    """Three files with the same probe."""
    table, swept, probed = score(DINOV3, "full", "g1"), sweep(DINOV3, "cls")[11], probe(DINOV3, "cls")[11]
    return Finding(
        claim,
        held(agree(table, entries.number(claim), 1)),
        table,
        f"table of ablations {table:.2f} %, layer sweep {swept:.2f}, file of registers {probed:.2f}; printed "
        f"{entries.number(claim):g} here and {entries.number('parodi2026-dinov3-cls-layer11'):g} elsewhere",
        "Two fits of the same probe, each printed once: that one seed moves it so much gives the "
        "size of differences to trust.",
    )


@judges("parodi2026-dinov3-r1-layer10", "parodi2026-dinov3-r3-layer10")
def probe_at_ten(claim: str, entries: Entries) -> Finding:
    """A register's probe at layer 10; R1's is said to be its largest."""
    token = "r1" if "-r1-" in claim else "r3"
    values = probe(DINOV3, token)
    same = agree(values[10], entries.number(claim), 1)
    peak = max(values, key=lambda layer: values[layer])
    bound = entries.number("parodi2026-dinov3-early-probe")
    return Finding(
        claim,
        held(same and (token == "r3" or peak == 10)),
        values[10],
        f"{token} by layer {by_layer(values, 2)} %, largest at layer {peak}",
        f"The number holds; what is called a peak is below the {bound:g} % that the same section calls near-random."
        if token == "r1" and values[10] < bound
        else "The number holds."
        if same
        else "The file has another number.",
    )


@judges("parodi2026-dinov3-r1-drop", "parodi2026-dinov3-r3-rise")
def last_step(claim: str, entries: Entries) -> Finding:
    """Layer 10 to 11; the printed difference is of two rounded numbers."""
    values = probe(DINOV3, "r1" if "-r1-" in claim else "r3")
    change = values[11] - values[10]
    text = f"{values[11]:.2f} - {values[10]:.2f} = {change:+.2f} points, printed {entries.number(claim):+g}"
    return Finding(
        claim, held(agree(change, entries.number(claim), 1, summands=2)), change, text, "As far as rounding tells."
    )


def _last_layer(model: str, tokens: tuple[str, ...]) -> dict[str, float]:
    return {token: probe(model, token)[11] for token in tokens}


@judges("parodi2026-dinov2reg-probe-min", "parodi2026-dinov2reg-probe-max")
def probe_range(claim: str, entries: Entries) -> Finding:
    """R1, R3 and R4 at the last layer."""
    values = _last_layer(REGISTERS, ("r1", "r3", "r4"))
    least = claim.endswith("-min")
    value = min(values.values()) if least else max(values.values())
    holds = value >= entries.number(claim) if least else value <= entries.number(claim)
    text = ", ".join(f"{token} {accuracy:.2f}" for token, accuracy in values.items())
    reason = f"The bound holds; the {'least' if least else 'largest'} is {value:.1f} %."
    return Finding(claim, held(holds), value, f"{text} %, bound {entries.number(claim):g}", reason)


@judges("parodi2026-content-abrupt")
def abrupt(claim: str, entries: Entries) -> Finding:
    """The share of the final accuracy that CLS has at layer 8."""
    models = (PLAIN, *WITH_REGISTERS)
    shares = {model: sweep(model, "cls")[8] / sweep(model, "cls")[11] for model in models}
    text = "; ".join(f"{model} {by_layer({at: sweep(model, 'cls')[at] for at in (6, 8, 10, 11)})}" for model in models)
    return Finding(
        claim,
        held(max(shares.values()) < 0.25),
        max(shares.values()),
        f"CLS {text} %",
        "More than three quarters come after layer 8 in all models; in DINOv3 the rise begins earlier "
        f"({shares[DINOV3]:.0%} of the final accuracy at layer 8).",
    )


def _onset(values: dict[int, float]) -> int:
    """The first layer with half of the largest value."""
    return next(layer for layer, value in values.items() if value >= max(values.values()) / 2)


@judges("parodi2026-temporal-dissociation")
def dissociation_in_depth(claim: str, entries: Entries) -> Finding:
    """Onset (half of the largest value) of attention to registers, and of what a probe finds in them."""
    text, gaps = [], []
    for model in WITH_REGISTERS:
        arrives = _onset(dict(enumerate(attention(model, "patches_to_registers"))))
        layers = published()["register_probe"][model]["layers"]
        holds = _onset({layer: mean(probe(model, token)[layer] for token in TOKENS) for layer in layers})
        gaps.append(holds - arrives)
        text.append(f"{model} attention at layer {arrives}, class at layer {holds}")
    computation = "half of the largest value: " + "; ".join(text)
    return Finding(claim, held(min(gaps) >= 2), float(min(gaps)), computation, "Layer 9 was not probed.")


@judges("parodi2026-dinov2reg-retain")
def retain(claim: str, entries: Entries) -> Finding:
    """R1, R3 and R4 from layer 8 on."""
    rows = {token: [probe(REGISTERS, token)[layer] for layer in (8, 10, 11)] for token in ("r1", "r3", "r4")}
    rises = all(row == sorted(row) for row in rows.values())
    text = "; ".join(f"{token} {listed(row, 1)}" for token, row in rows.items())
    least = min(row[-1] for row in rows.values())
    return Finding(claim, held(rises), least, f"layers 8, 10, 11: {text} %", "All rise to the last layer.")


@judges("parodi2026-r1-attention-vs-content")
def content_of_r1(claim: str, entries: Entries) -> Finding:
    """The half of the sentence that the file has."""
    values = _last_layer(DINOV3, TOKENS)
    lowest = min(values, key=lambda token: values[token])
    return Finding(
        claim,
        "inconclusive" if lowest == "r1" else "contradicted",
        values["r1"],
        "layer 11: " + ", ".join(f"{token} {value:.1f}" for token, value in values.items()) + f" %: lowest {lowest}",
        "It holds least of the class; attention to single registers is not in the files.",
    )


@judges("parodi2026-dinov3-r3-abstract")
def abstract_register(claim: str, entries: Entries) -> Finding:
    """R3's probe against the others, and its nearest patches against R4's."""
    values = _last_layer(DINOV3, TOKENS)
    cosines = mean(similarity(DINOV3, "r3")), mean(similarity(DINOV3, "r4"))
    return Finding(
        claim,
        held(max(values, key=lambda token: values[token]) == "r3" and cosines[0] < cosines[1] / 2),
        values["r3"],
        ", ".join(f"{token} {value:.1f}" for token, value in values.items())
        + f" %; cosine with nearest patches R3 {cosines[0]:.2f}, R4 {cosines[1]:.2f}",
        "Both halves hold.",
    )


@judges("parodi2026-specialist-inversion", "parodi2026-takeaway-selective-query")
def specialists(claim: str, entries: Entries) -> Finding:
    """What R2 and R3 hold at the last layer."""
    reg, third = _last_layer(REGISTERS, TOKENS), _last_layer(DINOV3, TOKENS)
    lowest, highest = min(reg, key=lambda token: reg[token]), max(third, key=lambda token: third[token])
    return Finding(
        claim,
        "inconclusive" if (lowest, highest) == ("r2", "r3") else "contradicted",
        reg["r2"],
        f"{REGISTERS}: lowest {lowest} {reg[lowest]:.1f} %; {DINOV3}: highest {highest} "
        f"{third[highest]:.1f}, R2 of {REGISTERS} "
        f"{reg['r2'] / CHANCE:.0f} times chance",
        "R3 of DINOv3 holds most of the class, R2 least in DINOv2. That R2 serves low-level "
        "statistics is not shown: its probe is "
        "nearly as good as R3's, and the pictures are not in the file.",
    )


@judges(
    "parodi2026-correspondence-by-depth",
    sentence="correspondence peaks mid-layer, then declines, except DINOv3, which maintains 78.9 % at layer 11",
)
def correspondence_by_depth(claim: str, entries: Entries) -> Finding:
    """Peak and last layer of each model."""
    rows = {model: correspondence(model) for model in (PLAIN, *WITH_REGISTERS)}
    peaks = {model: max(row, key=lambda layer, row=row: row[layer]) for model, row in rows.items()}  # type: ignore[misc]
    falls = {model: row[11] - row[peaks[model]] for model, row in rows.items()}
    return Finding(
        claim,
        held(abs(falls[DINOV3]) < 1),
        falls[DINOV3],
        "; ".join(
            f"{model} {row[peaks[model]]:.1f} (L{peaks[model]}) to {row[11]:.1f} (L11), {falls[model]:+.1f}"
            for model, row in rows.items()
        ),
        "DINOv3 declines too, the least of the three.",
    )
