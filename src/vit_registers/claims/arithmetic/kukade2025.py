"""What the printed numbers of kukade2025 say about its sentences."""

import re

from vit_registers.claims.finding import Finding
from vit_registers.claims.judging import (
    Entries,
    agree,
    disagreement,
    held,
    judges,
    listed,
    mean,
    mostly,
    smallest_test_set,
)

SOURCE = "kukade2025"
MODELS = ("dinov2", "clip")
DATASETS = ("orthonet", "pacemaker", "aptos")
# From beyond the source: Patel et al. 2021 (10.1148/ryai.2021200183), also the README of the authors; Kaggle's labelled
# training images of APTOS 2019; README of the authors.
ORTHONET_CLASSES = 12
APTOS_LABELLED = 3662
README_DINOV2_THRESHOLD = 150


def _number(entries: Entries, name: str) -> float:
    return entries.number(f"{SOURCE}-{name}")


def _change(entries: Entries, model: str, dataset: str) -> float:
    """Change of accuracy by test-time registers, in points."""
    return 100 * (_number(entries, f"{model}-{dataset}-ttr") - _number(entries, f"{model}-{dataset}-baseline"))


def _changes(entries: Entries, model: str) -> list[float]:
    return [_change(entries, model, dataset) for dataset in DATASETS]


def _test_images(entries: Entries, dataset: str) -> int:
    """Test images, from the four accuracies printed to four decimals."""
    names = [f"{model}-{dataset}-{condition}" for model in MODELS for condition in ("baseline", "ttr")]
    return smallest_test_set(_number(entries, name) for name in names)


def _patches(entries: Entries, model: str) -> float:
    return (_number(entries, "input-size") / _number(entries, f"{model}-patch-size")) ** 2


@judges("kukade2025-orthonet-class-count", "kukade2025-probe-dims-orthonet")
def orthonet_classes(claim: str, entries: Entries) -> Finding:
    """45 classes divide both test sets evenly; what decides is the data set's own paper."""
    ortho, pacemaker = _test_images(entries, "orthonet"), _test_images(entries, "pacemaker")
    classes = int(entries.number(claim))
    return Finding(
        claim,
        held(classes == ORTHONET_CLASSES),
        float(ORTHONET_CLASSES),
        f"OrthoNet's four accuracies are shares of {ortho} images, {ortho / classes:g} per class "
        f"with {classes} classes and "
        f"{ortho / ORTHONET_CLASSES:g} with {ORTHONET_CLASSES}; Pacemaker's of {pacemaker}, "
        f"{pacemaker / classes:g} per class "
        f"with {classes}",
        f"OrthoNet has {ORTHONET_CLASSES} implant models (Patel et al. 2021; README of the "
        f"authors); {classes} is the count of "
        "Pacemaker. The sizes alone do not decide: both test sets are multiples of it.",
    )


@judges("kukade2025-orthonet-test-size", "kukade2025-pacemaker-test-size", "kukade2025-aptos-test-size")
def test_size(claim: str, entries: Entries) -> Finding:
    """The smallest test set that has all four accuracies."""
    dataset = claim.split("-")[1]
    images = _test_images(entries, dataset)
    names = [f"{model}-{dataset}-{condition}" for model in MODELS for condition in ("baseline", "ttr")]
    correct = [_number(entries, name) * images for name in names]
    return Finding(
        claim,
        held(images == entries.number(claim)),
        float(images),
        f"all four accuracies are shares of {images} images: {listed(correct, 0)} correct",
        "The smallest number of images that fits; multiples of it fit as well.",
    )


@judges("kukade2025-changes-few-images")
def few_images(claim: str, entries: Entries) -> Finding:
    """Changes of accuracy in images."""
    changes = [
        _change(entries, model, dataset) * _test_images(entries, dataset) / 100
        for model in MODELS
        for dataset in DATASETS
    ]
    largest = max(abs(change) for change in changes)
    return Finding(
        claim,
        held(round(largest) <= entries.number(claim)),
        float(round(largest)),
        f"net change in images: {listed(changes, 0, sign=True)}",
        "One seed and no spread: none can be told from chance.",
    )


@judges("kukade2025-original-protocols-kept")
def aptos_split(claim: str, entries: Entries) -> Finding:
    """Test accuracies of APTOS fit a tenth of the labelled training images."""
    images = _test_images(entries, "aptos")
    tenth = round(APTOS_LABELLED / 10)
    return Finding(
        claim,
        "contradicted" if images and images % tenth == 0 else "inconclusive",
        float(images),
        f"APTOS's four accuracies are shares of {images} images; a tenth of the {APTOS_LABELLED} "
        "labelled training images is "
        f"{tenth}",
        "Labels of the official test set are not public: the accuracies are of labelled training "
        "images that were held out.",
    )


@judges("kukade2025-norm-threshold-dinov2")
def threshold(claim: str, entries: Entries) -> Finding:
    """The threshold against that of the README and of darcet2024."""
    printed, darcet = entries.number(claim), entries.number("darcet2024-norm-threshold")
    return Finding(
        claim,
        held(printed == README_DINOV2_THRESHOLD),
        float(README_DINOV2_THRESHOLD),
        f"text {printed:g}; README of the authors {README_DINOV2_THRESHOLD}; darcet2024 {darcet:g}",
        "The configuration that was run is the README's.",
    )


@judges("kukade2025-highest-layer-clip")
def highest_layer(claim: str, entries: Entries) -> Finding:
    """One of the highest layers?"""
    layer, layers = entries.number(claim), _number(entries, "clip-num-layers")
    depth = layer / (layers - 1)
    return Finding(
        claim,
        held(depth > 0.5),
        depth,
        f"layer {layer:g} of 0 to {layers - 1:g} is at {depth:.0%} of the depth",
        "It is not one of the highest layers, as the text says, but the upper bound of the layers searched (upstream's "
        "highest_layer): neurons may come from all layers up to it.",
    )


@judges("kukade2025-highest-layer-dinov2")
def layer_after_onset(claim: str, entries: Entries) -> Finding:
    """Neurons of a layer cannot cause what begins before it."""
    layer, onset = entries.number(claim), _number(entries, "dinov2-norm-onset-layer")
    return Finding(
        claim,
        "inconclusive" if layer > onset else "reproduced",
        layer - onset,
        f"neurons of layer {layer:g}, growth of norms from layer {onset:g} on: {layer - onset:+g} layers",
        "Sec. 3.3 reads as a bound of the search, Sec. 4.1.1 as the one layer of all neurons, "
        "which could not cause growth that "
        "begins before it.",
    )


@judges("kukade2025-ttr-condition")
def registers_only_zeroed(claim: str, entries: Entries) -> Finding:
    """Norms of appended tokens if neurons were only set to zero."""
    register, peak = _number(entries, "dinov2-register-norm-median"), _number(entries, "dinov2-norm-peak")
    return Finding(
        claim,
        "contradicted" if register > peak else "inconclusive",
        register,
        f"median norm of the appended registers {register:g}, peak of patches without the intervention {peak:g}",
        "Tokens that receive nothing do not outgrow the outliers: activations were moved onto them, not only silenced.",
    )


@judges("kukade2025-metrics-list")
def metrics_reported(claim: str, entries: Entries) -> Finding:
    """Of the metrics listed, those with a number anywhere."""
    names = entries.setting(claim).split(", ")
    printed = {entry.metric for entry in entries if entry.source == SOURCE and entry.value is not None}
    shown = [name for name in names if any(metric == name or metric.startswith(f"{name}_") for metric in printed)]
    return Finding(
        claim,
        mostly(name in shown for name in names),
        f"{len(shown)} of {len(names)}",
        f"metrics with a number: {', '.join(shown) or 'none'}; without: "
        + (", ".join(name for name in names if name not in shown) or "none"),
        "The tables have one column of accuracy; the other metrics may have been computed, but are not shown.",
    )


@judges("kukade2025-dinov2-norm-onset-layer", "kukade2025-dinov2-map-onset")
def dinov2_onset(claim: str, entries: Entries) -> Finding:
    """Two sections on where DINOv2's norms begin to grow."""
    curve, maps = _number(entries, "dinov2-norm-onset-layer"), _number(entries, "dinov2-map-onset")
    return Finding(
        claim,
        held(curve == maps),
        curve - maps,
        f"Sec. 4.1.1 layer {curve:g}, Sec. 4.3.2 layer {maps:g}: {curve - maps:+g}",
        "The two sections disagree; nothing printed says which is right.",
    )


@judges("kukade2025-dinov2-map-artifact-norm")
def dinov2_norm_at_onset(claim: str, entries: Entries) -> Finding:
    """The same layer in two figures."""
    maps, early = entries.number(claim), _number(entries, "dinov2-norm-early")
    return Finding(
        claim,
        held(maps <= early),
        maps / early,
        f"maps of layer {_number(entries, 'dinov2-map-onset'):g} above {maps:g}, curve below {early:g} through layer "
        f"{_number(entries, 'dinov2-norm-onset-layer') - 1:g}: {maps / early:g} times",
        "Sec. 4.3.2 and Sec. 4.1.1 cannot both be right.",
    )


@judges("kukade2025-clip-norm-early", "kukade2025-clip-map-onset")
def clip_onset(claim: str, entries: Entries) -> Finding:
    """Two sections on where CLIP's artifacts begin."""
    curve, maps = _number(entries, "clip-norm-onset-layer"), _number(entries, "clip-map-onset")
    early = _number(entries, "clip-norm-early")
    return Finding(
        claim,
        held(curve == maps),
        curve - maps,
        f"Sec. 4.3.1 artifacts from layer {maps:g}, Sec. 4.1.2 norms below {early:g} until the "
        f"jump at layer {curve:g}: "
        f"{curve - maps:+g}",
        "The two sections disagree; nothing printed says which is right.",
    )


@judges("kukade2025-clip-transition-less-dramatic")
def transition(claim: str, entries: Entries) -> Finding:
    """The jump of norms, as a difference and as a ratio."""
    clip = _number(entries, "clip-norm-early"), _number(entries, "clip-norm-plateau")
    dino = _number(entries, "dinov2-norm-early"), _number(entries, "dinov2-norm-peak")
    ratios = clip[1] / clip[0], dino[1] / dino[0]
    return Finding(
        claim,
        mostly((clip[1] - clip[0] < dino[1] - dino[0], ratios[0] < ratios[1])),
        ratios[0] / ratios[1],
        f"CLIP {clip[0]:g} to {clip[1]:g} ({ratios[0]:g} times), DINOv2 {dino[0]:g} to {dino[1]:g} "
        f"({ratios[1]:g} times)",
        "Milder as a difference, not as a ratio; and CLIP's comes within one layer.",
    )


@judges(
    "kukade2025-dinov2-aptos-delta-text", "kukade2025-dinov2-pacemaker-delta-text", "kukade2025-swing-dinov2-text-min"
)
def change_in_text(claim: str, entries: Entries) -> Finding:
    """A change of the running text against the table."""
    dataset = "aptos" if "aptos" in claim else "pacemaker"
    before, after = (_number(entries, f"dinov2-{dataset}-{condition}") for condition in ("baseline", "ttr"))
    change, images = _change(entries, "dinov2", dataset), _test_images(entries, dataset)
    return Finding(
        claim,
        held(agree(change, entries.number(claim), 1)),
        change,
        f"{after:.4f} - {before:.4f} = {change:+.2f} points, {change * images / 100:+.0f} of {images} images; text "
        f"{entries.number(claim):+g}",
        "The table has the numbers; the text is wrong.",
    )


@judges("kukade2025-range-abstract-min")
def worst_change(claim: str, entries: Entries) -> Finding:
    """The worst change over both models."""
    changes = _changes(entries, "dinov2") + _changes(entries, "clip")
    return Finding(
        claim,
        held(agree(min(changes), entries.number(claim), 2)),
        min(changes),
        f"changes of both tables {listed(changes, sign=True)}: worst {min(changes):+.2f}, abstract "
        f"{entries.number(claim):+g}",
        "The abstract has the worst of DINOv2; the conclusion has the worst of both.",
    )


@judges("kukade2025-swing-larger-in-dinov2")
def swing(claim: str, entries: Entries) -> Finding:
    """Three readings of accuracy that swings more."""
    dino, clip = _changes(entries, "dinov2"), _changes(entries, "clip")
    spans = max(dino) - min(dino), max(clip) - min(clip)
    means = mean(abs(change) for change in dino), mean(abs(change) for change in clip)
    larger = sum(abs(one) > abs(other) for one, other in zip(dino, clip, strict=True))
    return Finding(
        claim,
        mostly((spans[0] > spans[1], means[0] > means[1], 2 * larger > len(dino))),
        spans[0] - spans[1],
        f"span {spans[0]:.2f} against {spans[1]:.2f} points; mean size {means[0]:.2f} against "
        f"{means[1]:.2f}; larger on {larger} "
        f"of {len(dino)} data sets",
        "True of the span and, barely, of the mean, both by OrthoNet alone.",
    )


@judges("kukade2025-clip-changes-smaller")
def clip_smaller(claim: str, entries: Entries) -> Finding:
    """Whether CLIP changes less on each data set."""
    dino, clip = _changes(entries, "dinov2"), _changes(entries, "clip")
    smaller = [abs(one) < abs(other) for one, other in zip(clip, dino, strict=True)]
    return Finding(
        claim,
        held(all(smaller)),
        f"{sum(smaller)} of {len(smaller)}",
        f"CLIP {listed(clip, sign=True)}, DINOv2 {listed(dino, sign=True)} "
        f"({', '.join(DATASETS)}): smaller on {sum(smaller)} of "
        f"{len(smaller)}",
        "False where DINOv2 hardly changes.",
    )


@judges("kukade2025-reduction-range-min")
def reductions(claim: str, entries: Entries) -> Finding:
    """All four reductions of artifacts, in percent."""
    pairs = {
        "DINOv2 norm": ("dinov2-norm-peak", "dinov2-ttr-norm-max"),
        "DINOv2 attention": ("dinov2-cls-attn-final", "dinov2-ttr-cls-attn"),
        "CLIP norm": ("clip-norm-plateau", "clip-ttr-norm-max"),
        "CLIP attention": ("clip-cls-attn-peak", "clip-ttr-cls-attn-peak"),
    }
    falls = {
        name: 100 * (1 - _number(entries, after) / _number(entries, before)) for name, (before, after) in pairs.items()
    }
    smallest = min(falls.values())
    return Finding(
        claim,
        held(agree(smallest, entries.number(claim), 0)),
        smallest,
        ", ".join(f"{name} {fall:.1f} %" for name, fall in falls.items()) + f": least {smallest:.1f} %",
        "The abstract's range is that of DINOv2; CLIP is outside.",
    )


@judges(
    "kukade2025-dinov2-ttr-cls-attn",
    "kukade2025-dinov2-patch-attn-median",
    "kukade2025-clip-ttr-cls-attn-peak",
    "kukade2025-clip-patch-attn-median",
)
def attention_of_patches(claim: str, entries: Entries) -> Finding:
    """A median above the maximum, and a per-patch value that would add up to more than one."""
    model = "dinov2" if "-dinov2-" in claim else "clip"
    largest = _number(entries, "dinov2-ttr-cls-attn" if model == "dinov2" else "clip-ttr-cls-attn-peak")
    median, patches = _number(entries, f"{model}-patch-attn-median"), _patches(entries, model)
    return Finding(
        claim,
        held(median <= largest and median * patches <= 1),
        median / largest,
        f"median {median:g} over maximum {largest:g} = {median / largest:.1f}; {patches:g} patches x {median:g} = "
        f"{median * patches:.1f} > 1"
        if median * patches > 1
        else f"median {median:g} over maximum {largest:g} = {median / largest:.1f}",
        "The two figures measure different things, a single patch and a sum over patches, and do not say so.",
    )


@judges("kukade2025-clip-map-columns")
def columns(claim: str, entries: Entries) -> Finding:
    """The rightmost column of the patch grid."""
    last = _number(entries, "input-size") / _number(entries, "clip-patch-size") - 1
    given = [int(number) for number in re.findall(r"\d+", entries.claim(claim).statement)]
    return Finding(
        claim,
        held(bool(given) and given[-1] == last and entries.number(claim) in given),
        last,
        f"columns 0 to {last:g}; given {given[0] if given else '-'} to {given[-1] if given else '-'}",
        "What is called the rightmost columns leaves out the last one.",
    )


@judges("kukade2025-clip-map-peak-baseline", "kukade2025-dinov2-map-peak-baseline")
def attention_above_one(claim: str, entries: Entries) -> Finding:
    """Attention values above one."""
    peak = entries.number(claim)
    clip = "-clip-" in claim
    curve = _number(entries, "clip-norm-plateau" if clip else "dinov2-norm-peak")
    attention = _number(entries, "clip-cls-attn-peak" if clip else "dinov2-cls-attn-final")
    return Finding(
        claim,
        held(peak <= 1),
        peak,
        f"map above {peak:g}, called attention, which is at most 1 and peaks at {attention:g} in "
        "the curves; norms of the "
        f"curves {curve:g}",
        "What is plotted is the norm, not attention.",
    )


@judges("kukade2025-clip-map-peak-ttr", "kukade2025-dinov2-map-peak-ttr")
def map_below_median(claim: str, entries: Entries) -> Finding:
    """A maximum below the median."""
    model = "clip" if "-clip-" in claim else "dinov2"
    peak, median = entries.number(claim), _number(entries, f"{model}-patch-norm-median")
    before, stated = _number(entries, f"{model}-map-peak-baseline"), _number(entries, f"{model}-norm-reduction")
    return Finding(
        claim,
        held(peak >= median),
        peak / median,
        f"maximum of the maps {peak:g}, median norm of patches {median:g}, maximum of the curve "
        f"{_number(entries, f'{model}-ttr-norm-max'):g}; fall {100 * (1 - peak / before):.0f} % "
        f"against {stated:g} % stated",
        "A maximum cannot be below the median: the maps show something else, or the numbers are wrong.",
    )


@judges("kukade2025-medical-benefit-more")
def medical_benefit(claim: str, entries: Entries) -> Finding:
    """Mean change by data set."""
    means = {dataset: mean(_change(entries, model, dataset) for model in MODELS) for dataset in DATASETS}
    return Finding(
        claim,
        held(min(means["orthonet"], means["aptos"]) > means["pacemaker"]),
        means["aptos"] - means["pacemaker"],
        "mean change of the two models "
        + ", ".join(f"{dataset} {change:+.2f}" for dataset, change in means.items())
        + " points",
        "APTOS loses. Pacemaker is no general object recognition either: it shows devices in X-ray images.",
    )


WORDING = (
    disagreement(
        "kukade2025-fine-tuned-definition",
        "contradicted",
        "A frozen backbone has the norms and attention of the pre-trained one, so that the first "
        "research question has no "
        "content. The code agrees with the definition: what is said of adaptation falls.",
        says="Sec. 3.3, 5.3: fine-tuned models adapt to registers",
    ),
    disagreement(
        "kukade2025-detection-in-all-variants",
        "inconclusive",
        "No result of a fine-tuned model is shown.",
        cites="kukade2025-fine-tuned-definition",
    ),
    disagreement(
        "kukade2025-sparsity-filter",
        "inconclusive",
        "Neither threshold nor formula is given.",
        says="no passage defines the filter",
    ),
    disagreement(
        "kukade2025-consistency-ranking",
        "inconclusive",
        "The score is not defined.",
        says="Sec. 4.1, 5.3: thresholds on attention; Sec. 3.3 has only norms and sparsity",
    ),
    disagreement(
        "kukade2025-registers-equal-classes",
        "contradicted",
        "One of the two is wrong; Sec. 7 also has it as future work.",
        cites="kukade2025-only-four-tested",
    ),
    disagreement(
        "kukade2025-only-four-tested",
        "contradicted",
        "One of the two is wrong.",
        cites="kukade2025-registers-equal-classes",
    ),
    disagreement(
        "kukade2025-lit-untrained-registers",
        "contradicted",
        "Walmer et al. wrote Teaching Matters. The paper meant is jiang2025, which moves "
        "activations to an appended token and "
        "trains nothing.",
        says="Sec. 2.2, title: names the paper on doing without trained registers",
    ),
)
