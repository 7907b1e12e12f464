"""Judges of single registers: what each costs, and whether the costs add up."""

from vit_registers.claims.finding import Finding, Verdict
from vit_registers.claims.judging import Entries, agree, held, judges
from vit_registers.claims.published.numbers import REGISTERS, WITH_REGISTERS, lesions, loss, model_of, published


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
    model, printed = model_of(claim), entries.number(claim)
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
    model, printed = model_of(claim), entries.number(claim)
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
