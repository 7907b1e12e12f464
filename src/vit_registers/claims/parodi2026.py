"""The sentences of parodi2026 against the numbers that its authors published beside the post.

``published/parodi2026.json`` holds these numbers, with the commit they are from; shares and cosines between 0 and 1.
Tasks: ``g1`` linear probe on CLS, ``g2`` kNN retrieval, ``d1`` correspondence, ``d2`` segmentation. Layers count from
zero.
"""

from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from vit_registers.claims.finding import Finding, Verdict
from vit_registers.claims.judging import Entries, agree, held, judges, listed, mean, mostly
from vit_registers.core.files import read_json

PUBLISHED = Path(__file__).parent / "published" / "parodi2026.json"
PLAIN, REGISTERS, DINOV3 = "dinov2_no_reg", "dinov2_reg", "dinov3_vits16"
WITH_REGISTERS = (REGISTERS, DINOV3)
GLOBAL, DENSE = ("g1", "g2"), ("d1", "d2")
TOKENS = ("r1", "r2", "r3", "r4")
CHANCE = 0.1  # percent, of 1,000 classes


@cache
def published() -> dict[str, Any]:
    """The published numbers, as the file has them."""
    content: dict[str, Any] = read_json(PUBLISHED)
    return content


def _model(claim: str) -> str:
    return DINOV3 if "-dinov3-" in claim else REGISTERS if "-dinov2reg-" in claim else PLAIN


def score(model: str, condition: str, task: str) -> float:
    """A score of the table of ablations, in percent."""
    return 100 * published()["ablations"][model][condition][task]


def loss(model: str, condition: str, task: str) -> float:
    """Change by an ablation, in points."""
    return score(model, condition, task) - score(model, "full", task)


def attention(model: str, flow: str) -> list[float]:
    """Mean attention of a flow by layer, in percent, e.g. ``cls_to_registers``."""
    return [100 * value for value in published()["attention"][model]["mean"][flow]]


def probe(model: str, token: str) -> dict[int, float]:
    """Accuracy of a linear probe on one token by layer, in percent (the file of registers and CLS)."""
    content = published()["register_probe"][model]
    return {layer: 100 * value for layer, value in zip(content["layers"], content["scores"][token], strict=True)}


def sweep(model: str, token: str) -> dict[int, float]:
    """Accuracy of a linear probe by layer, in percent (the layer sweep: ``cls`` or ``patch_mean``)."""
    content = published()["layer_sweep"]
    scores = content["linear_probe"]["scores"][model][token]
    return {layer: 100 * value for layer, value in zip(content["layers"], scores, strict=True)}


def correspondence(model: str) -> dict[int, float]:
    """Accuracy of correspondence by layer, in percent (the layer sweep)."""
    content = published()["layer_sweep"]
    scores = content["correspondence"]["scores"][model]["gt_accuracy"]
    return {layer: 100 * value for layer, value in zip(content["layers"], scores, strict=True)}


def lesions(model: str) -> dict[str, float]:
    """Change of the CLS probe by zeroing one register, in points of the last layer of the sweep."""
    scores = published()["register_lesions"]["scores"][model]
    full = sweep(model, "cls")[published()["register_lesions"]["layer"]]
    return {register: 100 * scores[register]["cls"] - full for register in TOKENS}


def similarity(model: str, register: str) -> list[float]:
    """Cosines of a register with its nearest patches."""
    cosines: list[float] = published()["nearest_patches"][model]["registers"][register]["similarity"]
    return cosines


def places(model: str, register: str) -> list[tuple[int, int, int]]:
    """Image, row and column of a register's nearest patches."""
    found = published()["nearest_patches"][model]["registers"][register]
    return list(zip(found["image"], found["row"], found["column"], strict=True))


def _by_layer(values: dict[int, float], decimals: int = 1) -> str:
    return ", ".join(f"L{layer} {value:.{decimals}f}" for layer, value in values.items())


# Ablations: the table behind the interactive heat map.

SCORES = {
    "parodi2026-dinov2-g1-full": ("full", "g1"),
    "parodi2026-dinov2-g1-zero-cls": ("zero_cls", "g1"),
    "parodi2026-dinov2-d1-full": ("full", "d1"),
    "parodi2026-dinov2-d1-zero-cls": ("zero_cls", "d1"),
    "parodi2026-dinov2reg-d1-full": ("full", "d1"),
    "parodi2026-dinov2reg-d1-zero-cls": ("zero_cls", "d1"),
    "parodi2026-dinov2reg-g1-zero-registers": ("zero_registers", "g1"),
    "parodi2026-dinov3-d2-full": ("full", "d2"),
    "parodi2026-dinov3-d2-zero-cls": ("zero_cls", "d2"),
    "parodi2026-dinov3-g1-zero-registers": ("zero_registers", "g1"),
    "parodi2026-dinov3-d2-zero-registers": ("zero_registers", "d2"),
    "parodi2026-dinov3-d1-full": ("full", "d1"),
    "parodi2026-dinov3-d1-zero-registers": ("zero_registers", "d1"),
}
LOSSES = {
    "parodi2026-dinov2-g1-zero-cls-delta": ("zero_cls", "g1"),
    "parodi2026-dinov2-d1-zero-cls-delta": ("zero_cls", "d1"),
    "parodi2026-dinov2reg-d1-zero-cls-delta": ("zero_cls", "d1"),
    "parodi2026-dinov3-d2-zero-cls-delta": ("zero_cls", "d2"),
    "parodi2026-dinov3-g1-zero-registers-delta": ("zero_registers", "g1"),
    "parodi2026-dinov3-d2-zero-registers-delta": ("zero_registers", "d2"),
    "parodi2026-dinov3-d1-zero-registers-delta": ("zero_registers", "d1"),
    "parodi2026-dinov2reg-collective": ("zero_registers", "g1"),
    "parodi2026-dinov3-collective": ("zero_registers", "g1"),
}


@judges(*SCORES)
def ablation_score(claim: str, entries: Entries) -> Finding:
    """One cell of the table."""
    condition, task = SCORES[claim]
    value = score(_model(claim), condition, task)
    same = agree(value, entries.number(claim), 1)
    computation = f"{_model(claim)}, {condition}, {task}: {value:.2f} %, printed {entries.number(claim):g}"
    return Finding(
        claim, held(same), value, computation, "The table has it." if same else "The table has another number."
    )


@judges(*LOSSES)
def ablation_loss(claim: str, entries: Entries) -> Finding:
    """The difference of two cells."""
    condition, task = LOSSES[claim]
    model = _model(claim)
    value = loss(model, condition, task)
    same = agree(value, entries.number(claim), 1)
    computation = (
        f"{model}, {task}: {score(model, condition, task):.2f} - {score(model, 'full', task):.2f} "
        f"= {value:+.2f} points, printed "
        f"{entries.number(claim):+g}"
    )
    return Finding(
        claim, held(same), value, computation, "The table has it." if same else "The table has another number."
    )


@judges("parodi2026-zero-cls-kills-classification")
def classification_without_cls(claim: str, entries: Entries) -> Finding:
    """The probe on a zeroed CLS."""
    left = {model: score(model, "zero_cls", "g1") for model in WITH_REGISTERS}
    text = ", ".join(f"{model} {score(model, 'full', 'g1'):.1f} to {value:.1f} %" for model, value in left.items())
    return Finding(claim, held(max(left.values()) <= CHANCE + 1e-9), max(left.values()), text, "It falls to chance.")


def _losses(model: str, condition: str) -> dict[str, float]:
    return {task: loss(model, condition, task) for task in (*GLOBAL, *DENSE)}


def _told(losses: dict[str, float]) -> str:
    return ", ".join(f"{task} {change:+.1f}" for task, change in losses.items())


@judges("parodi2026-dinov2-cls-hub")
def cls_hub(claim: str, entries: Entries) -> Finding:
    """All tasks without registers, CLS zeroed."""
    losses = _losses(PLAIN, "zero_cls")
    reason = "Every task loses more than ten points."
    return Finding(
        claim, held(max(losses.values()) < -10), max(losses.values()), f"{PLAIN}: {_told(losses)} points", reason
    )


@judges("parodi2026-registers-buffer-dense")
def dense_buffered(claim: str, entries: Entries) -> Finding:
    """Dense losses of models with registers against the model without."""
    shares = [
        loss(model, "zero_cls", task) / loss(PLAIN, "zero_cls", task) for model in WITH_REGISTERS for task in DENSE
    ]
    text = "; ".join(
        f"{model} " + ", ".join(f"{task} {loss(model, 'zero_cls', task):+.1f}" for task in DENSE)
        for model in (PLAIN, *WITH_REGISTERS)
    )
    reason = f"They lose at most {max(shares):.0%} of what the model without registers loses."
    return Finding(claim, held(max(shares) < 0.1), max(shares), f"{text} points", reason)


@judges("parodi2026-zero-registers-hurts-all")
def hurts_all(claim: str, entries: Entries) -> Finding:
    """All tasks, registers zeroed."""
    losses = {model: _losses(model, "zero_registers") for model in WITH_REGISTERS}
    least = max(change for changes in losses.values() for change in changes.values())
    text = "; ".join(f"{model} {_told(changes)}" for model, changes in losses.items())
    return Finding(claim, held(least < 0), least, f"{text} points", f"All fall; the least, by {-least:.1f} points.")


@judges("parodi2026-double-dissociation")
def double_dissociation(claim: str, entries: Entries) -> Finding:
    """Global tasks that zeroing registers spares while it costs the dense ones: less than one point against more."""
    spared = [
        f"{model} {task}"
        for model in WITH_REGISTERS
        for task in GLOBAL
        if loss(model, "zero_registers", task) > -1
        and all(loss(model, "zero_registers", dense) < -1 for dense in DENSE)
    ]
    pairs = len(WITH_REGISTERS) * len(GLOBAL)
    text = "; ".join(f"{model} {_told(_losses(model, 'zero_registers'))}" for model in WITH_REGISTERS)
    return Finding(
        claim,
        held(len(spared) == pairs),
        f"{len(spared)} of {pairs}",
        f"registers zeroed: {text} points; a global task is spared (less than a point) in {len(spared)} of {pairs}",
        f"Zeroing CLS spares dense tasks, zeroing registers does not spare classification: one-sided. Spared: "
        f"{', '.join(spared) or 'none'}.",
    )


@judges("parodi2026-zero-layer")
def output_only(claim: str, entries: Entries) -> Finding:
    """What zeroing the outputs of the last block cannot change."""
    change = loss(DINOV3, "zero_registers", "g1")
    return Finding(
        claim,
        "contradicted" if abs(change) > 0.05 else "inconclusive",
        change,
        f"{DINOV3}, probe on CLS with registers zeroed: {change:+.1f} points; after the last block "
        "nothing reads registers: 0",
        "They must be zeroed before the last block. The second version of the text has every "
        "block; the files name only the "
        "layer that is read.",
    )


@judges("parodi2026-zero-cls-definition")
def cls_output_only(claim: str, entries: Entries) -> Finding:
    """Correspondence reads patches only, which an edit of the CLS output cannot change."""
    change = loss(PLAIN, "zero_cls", "d1")
    return Finding(
        claim,
        "contradicted" if abs(change) > 0.05 else "inconclusive",
        change,
        f"{PLAIN}, correspondence of patches with CLS zeroed: {change:+.1f} points; if only the output were zeroed: 0",
        "CLS must be zeroed before the last block as well; at the output too, as the probe is at chance.",
    )


@judges("parodi2026-erank-dense-improves")
def rank_and_dense(claim: str, entries: Entries) -> Finding:
    """Dense scores in the order of falling rank (ranks from the post, scores from the table)."""
    names = ("parodi2026-erank-dinov2", "parodi2026-erank-dinov2-reg", "parodi2026-erank-dinov3")
    ranks = [entries.number(name) for name in names]
    models = [model for _, model in sorted(zip(ranks, (PLAIN, REGISTERS, DINOV3), strict=True), reverse=True)]
    scores = {task: [score(model, "full", task) for model in models] for task in DENSE}
    rises = [all(low < high for low, high in pairwise(row)) for row in scores.values()]
    return Finding(
        claim,
        held(all(rises)),
        scores["d1"][1] - scores["d1"][0],
        f"rank {listed(sorted(ranks, reverse=True), 1)}: correspondence {listed(scores['d1'], 1)}, segmentation "
        f"{listed(scores['d2'], 1)}",
        "Segmentation rises as the rank falls, correspondence does not: three models show no rule.",
    )


# Attention by token group.


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


# Probes by layer.


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
    bound, found = entries.number(claim), _largest_until(_model(claim), 8)
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
    model, token = _model(claim), FINAL_PROBES[claim]
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
        f"{token} by layer {_by_layer(values, 2)} %, largest at layer {peak}",
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
    text = "; ".join(f"{model} {_by_layer({at: sweep(model, 'cls')[at] for at in (6, 8, 10, 11)})}" for model in models)
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


# Single registers.


@judges("parodi2026-num-registers")
def register_count(claim: str, entries: Entries) -> Finding:
    """Registers that are zeroed one at a time."""
    counts = {len(scores) for scores in published()["register_lesions"]["scores"].values()}
    text = f"registers zeroed one at a time {sorted(counts)}, printed {entries.number(claim):g}"
    return Finding(claim, held(counts == {entries.number(claim)}), float(max(counts)), text, "The file has them.")


def _lesions_told(model: str) -> str:
    return ", ".join(f"{register} {change:+.2f}" for register, change in lesions(model).items())


@judges("parodi2026-dinov2reg-zero-r2-delta")
def without_r2(claim: str, entries: Entries) -> Finding:
    """R2 alone."""
    change = lesions(REGISTERS)["r2"]
    text = f"{_lesions_told(REGISTERS)} points, printed R2 {entries.number(claim):g}"
    return Finding(claim, held(agree(change, entries.number(claim), 1)), change, text, "The file has it.")


@judges("parodi2026-dinov2reg-zero-other-delta")
def without_others(claim: str, entries: Entries) -> Finding:
    """The other three."""
    largest = max(abs(change) for register, change in lesions(REGISTERS).items() if register != "r2")
    text = f"{_lesions_told(REGISTERS)} points, bound {entries.number(claim):g}"
    return Finding(claim, held(largest < entries.number(claim)), largest, text, f"The largest is {largest:.2f}.")


@judges("parodi2026-dinov2reg-individual-sum", "parodi2026-dinov3-individual-sum")
def single_sum(claim: str, entries: Entries) -> Finding:
    """The sum of four changes, with and without their signs; the printed one may be of four rounded numbers."""
    model, printed = _model(claim), entries.number(claim)
    changes = lesions(model).values()
    total, sizes = sum(changes), sum(abs(change) for change in changes)
    verdict: Verdict = (
        "reproduced"
        if agree(total, printed, 1)
        else "inconclusive"
        if agree(total, printed, 1, summands=4)
        else "contradicted"
    )
    return Finding(
        claim,
        verdict,
        total,
        f"{_lesions_told(model)}: sum {total:+.2f} points, of sizes {sizes:.2f}, printed {printed:g}",
        "Not the sum; near it, and what sizes without their signs add to."
        if verdict == "inconclusive"
        else "The sum."
        if verdict == "reproduced"
        else "The file has other numbers; that all together cost more than their sum stands.",
    )


@judges("parodi2026-dinov2reg-superadditivity", "parodi2026-dinov3-superadditivity")
def superadditivity(claim: str, entries: Entries) -> Finding:
    """The joint loss over the sum of single losses; a sum of four rounded changes may be off by 0.2 points."""
    model, printed = _model(claim), entries.number(claim)
    joint, total = loss(model, "zero_registers", "g1"), sum(lesions(model).values())
    ratio = joint / total
    bounds = joint / (total - 0.2), joint / (total + 0.2)
    near = min(bounds) <= printed <= max(bounds)
    return Finding(
        claim,
        "reproduced" if agree(ratio, printed, 2) else "inconclusive" if near else "contradicted",
        ratio,
        f"{joint:.1f} / {total:.2f} = {ratio:.2f}, from the printed sum {printed:g}",
        "Larger than what the post's sum gives; that the losses do not add stands.",
    )


@judges("parodi2026-non-additive")
def non_additive(claim: str, entries: Entries) -> Finding:
    """Joint loss against the sum, both models."""
    pairs = {model: (loss(model, "zero_registers", "g1"), sum(lesions(model).values())) for model in WITH_REGISTERS}
    ratio = min(joint / total for joint, total in pairs.values())
    text = "; ".join(f"{model} {joint:+.1f} together, {total:+.2f} summed" for model, (joint, total) in pairs.items())
    return Finding(claim, held(ratio > 2), ratio, f"{text} points", f"At least {ratio:.1f} times the sum.")


@judges("parodi2026-individual-modest")
def single_modest(claim: str, entries: Entries) -> Finding:
    """The largest single loss against the joint one."""
    pairs = {model: (min(lesions(model).values()), loss(model, "zero_registers", "g1")) for model in WITH_REGISTERS}
    share = max(single / joint for single, joint in pairs.values())
    text = "; ".join(
        f"{model} at most {single:+.2f}, together {joint:+.1f}" for model, (single, joint) in pairs.items()
    )
    return Finding(claim, held(share < 0.5), share, f"{text} points", f"At most {share:.0%} of the joint loss.")


# Nearest patches.


@judges("parodi2026-patch-size")
def patch_size(claim: str, entries: Entries) -> Finding:
    """Sizes of patches in the file of nearest patches."""
    sizes = {model: content["patch_size"] for model, content in published()["nearest_patches"].items()}
    grids = {model: content["grid"] for model, content in published()["nearest_patches"].items()}
    return Finding(
        claim,
        held(set(sizes.values()) == {int(entries.number(claim))}),
        float(sizes[DINOV3]),
        ", ".join(f"{model} {size} pixels, grid {grids[model][0]}x{grids[model][1]}" for model, size in sizes.items()),
        "True of DINOv2 only: the models differ in their number of patches.",
    )


@judges("parodi2026-gallery-neighbours")
def neighbours(claim: str, entries: Entries) -> Finding:
    """Nearest patches per register."""
    counts = {content["top_k"] for content in published()["nearest_patches"].values()}
    text = f"nearest patches {sorted(counts)}, printed {entries.number(claim):g}"
    return Finding(claim, held(counts == {entries.number(claim)}), float(max(counts)), text, "The file says so.")


GALLERY = {
    "parodi2026-dinov2reg-gallery-r2-cosine": (("r2",), 1),
    "parodi2026-dinov2reg-gallery-others-cosine": (("r1", "r3", "r4"), 2),
    "parodi2026-dinov3-r4-cosine": (("r4",), 2),
    "parodi2026-dinov3-gallery-others-cosine": (("r1", "r2", "r3"), 1),
}


@judges(*GALLERY)
def gallery_cosine(claim: str, entries: Entries) -> Finding:
    """Means over the nearest patches, or the nearest one, to the decimals of a number that is printed as about."""
    registers, decimals = GALLERY[claim]
    rows = {register: similarity(_model(claim), register) for register in registers}
    fits = [
        any(agree(value, entries.number(claim), decimals) for value in (mean(row), max(row))) for row in rows.values()
    ]
    return Finding(
        claim,
        held(all(fits)),
        mean(mean(row) for row in rows.values()),
        "; ".join(f"{register} {listed(row, 3)}, mean {mean(row):.2f}" for register, row in rows.items())
        + f"; printed about {entries.number(claim):g}",
        f"True of {sum(fits)} of {len(fits)} registers." if len(fits) > 1 else "As far as about tells.",
    )


@judges("parodi2026-dinov3-r1-texture")
def same_patches(claim: str, entries: Entries) -> Finding:
    """Whether R1 and R2 have different nearest patches."""
    first, second = set(places(DINOV3, "r1")), set(places(DINOV3, "r2"))
    shared, images = len(first & second), {image for image, _, _ in first | second}
    return Finding(
        claim,
        "contradicted" if first == second else "inconclusive",
        f"{shared} of {len(first)} shared",
        f"nearest patches of R1 and R2: {shared} of {len(first)} are the same, all from {len(images)} of "
        f"{published()['nearest_patches'][DINOV3]['images']} images",
        "The same patches cannot be dark backgrounds for one and homogeneous areas for the other.",
    )


@judges("parodi2026-dinov3-r4-texture")
def ground(claim: str, entries: Entries) -> Finding:
    """Images that R4's nearest patches are from."""
    images = [image for image, _, _ in places(DINOV3, "r4")]
    largest = max(images.count(image) for image in images)
    return Finding(
        claim,
        "inconclusive",
        f"{largest} of {len(images)} from one image",
        f"nearest patches of R4: {len(images)} from {len(set(images))} images, {largest} of them from one",
        "Ground here, green vegetation in the note of the gallery; patches of so few images tell no texture.",
    )


# Protocol.


@judges("parodi2026-models")
def models(claim: str, entries: Entries) -> Finding:
    """Models of the table of ablations against those named."""
    names, stated = list(published()["ablations"]), entries.setting(claim).split(", ")
    return Finding(
        claim,
        held(len(names) == len(stated)),
        f"{len(names)} models",
        f"files {', '.join(names)}; ledger {', '.join(stated)}",
        "Three models; the files name the size of the third only.",
    )


@judges("parodi2026-model-scale")
def scale(claim: str, entries: Entries) -> Finding:
    """Names in the files that tell a size."""
    names = list(published()["ablations"])
    small = [name for name in names if "vits" in name]
    return Finding(
        claim,
        "inconclusive",
        f"{len(small)} of {len(names)}",
        f"files {', '.join(names)}: size in the name of {', '.join(small)}; layers "
        f"{published()['attention'][PLAIN]['layers']}",
        "ViT-S and ViT-B both have twelve layers: of the two DINOv2 models the size is inferred.",
    )


@judges("parodi2026-task-g1")
def task_g1(claim: str, entries: Entries) -> Finding:
    """What the files say of the probe."""
    content, least = published()["layer_sweep"]["linear_probe"], score(PLAIN, "zero_cls", "g1")
    return Finding(
        claim,
        "inconclusive",
        f"{content['dataset']}, {content['train_images']} / {content['test_images']} images",
        f"files: {content['dataset']}, train {content['train_images']}, test "
        f"{content['test_images']}, {len(content['seeds'])} "
        f"seed; zeroed CLS {least:.1f} %, chance of {100 / least:.0f} classes",
        "The post gives no data set or split; both parts are of ImageNet's validation images by number. Optimiser and "
        "regularisation stay open.",
    )


@judges("parodi2026-task-d1")
def task_d1(claim: str, entries: Entries) -> Finding:
    """What the files say of correspondence."""
    content = published()["layer_sweep"]["correspondence"]
    return Finding(
        claim,
        "inconclusive",
        f"{content['dataset']}, {content['pairs']} pairs",
        f"files: {content['dataset']}, {content['pairs']} pairs, accuracy with interval and cycle consistency",
        "The post names no data set; how far off a match may be is in neither.",
    )


@judges("parodi2026-task-d2")
def task_d2(claim: str, entries: Entries) -> Finding:
    """What the files say of segmentation."""
    full = {model: score(model, "full", "d2") for model in published()["ablations"]}
    return Finding(
        claim,
        "inconclusive",
        "scores only",
        "files: " + ", ".join(f"{model} {value:.1f} %" for model, value in full.items()),
        "Neither the post nor the files name data set or decoder.",
    )
