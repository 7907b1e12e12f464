"""Judges of what ablations cost: the table behind the interactive heat map."""

from itertools import pairwise

from vit_registers.claims.finding import Finding
from vit_registers.claims.judging import Entries, agree, held, judges, listed
from vit_registers.claims.published.numbers import (
    CHANCE,
    DENSE,
    DINOV3,
    GLOBAL,
    PLAIN,
    REGISTERS,
    WITH_REGISTERS,
    loss,
    model_of,
    score,
)

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
    value = score(model_of(claim), condition, task)
    same = agree(value, entries.number(claim), 1)
    computation = f"{model_of(claim)}, {condition}, {task}: {value:.2f} %, printed {entries.number(claim):g}"
    return Finding(
        claim, held(same), value, computation, "The table has it." if same else "The table has another number."
    )


@judges(*LOSSES)
def ablation_loss(claim: str, entries: Entries) -> Finding:
    """The difference of two cells."""
    condition, task = LOSSES[claim]
    model = model_of(claim)
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
