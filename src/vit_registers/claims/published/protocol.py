"""Judges of what the post says of its models, data and tasks."""

from vit_registers.claims.finding import Finding
from vit_registers.claims.judging import Entries, held, judges
from vit_registers.claims.published.numbers import PLAIN, published, score


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
