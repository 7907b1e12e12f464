"""The methods text of the report, stated from the params that ran."""

from typing import Any

from vit_registers.core.prose import count, escape, joined, key, percent, plural, setting
from vit_registers.params import (
    CifarDataset,
    CocoDataset,
    Dataset,
    Detection,
    Extraction,
    FolderDataset,
    GeneratedDataset,
    Params,
    VocDataset,
)
from vit_registers.report import conditions
from vit_registers.report.methods_readouts import dense_heads, dino_seg, dinov2, information, looking, sweep, zero_shot
from vit_registers.report.methods_training import energy
from vit_registers.views.study import Study


def _block(layer: int) -> str:
    """A block of params in words: counted from the end where negative."""
    if layer >= 0:
        return f"block {layer}"
    return "the last block" if layer == -1 else f"block {-layer} from the end"


def dense(extraction: Extraction) -> str:
    """The images that every token was kept of."""
    return f"the first {count(extraction.dense_images)} images of the {key(extraction.dense_split)} split"


LARGEST = "the label of an image is the class of its largest object, by the area of the box"


def _data(name: str, dataset: Dataset) -> str:
    if isinstance(dataset, GeneratedDataset):
        return (
            f"{key(name)} is generated: {count(dataset.train)} training and {count(dataset.test)} test images of "
            f"${dataset.size} \\times {dataset.size}$ pixels, each one object of a simple shape before a sky gradient, "
            "often with textured ground, with plain distractors and pixel noise. Hue and brightness of the object make "
            "the class, with which shape and texture agree most of the time. Class, box and mask of every image are "
            f"known.{' The pictures are without colour, which tells most classes apart.' if dataset.grey else ''}"
        )
    if isinstance(dataset, FolderDataset):
        split = f"; unless it comes with a split, {percent(dataset.test_share)} of each class are held out for the test"
        return f"{key(name)} is a folder of images by class{split} (licence: {escape(dataset.licence)})."
    if isinstance(dataset, CifarDataset):
        return _cifar(name, dataset)
    licence = escape(dataset.licence)
    if isinstance(dataset, VocDataset):
        which = "difficult ones included" if dataset.difficult else "without difficult ones and images of them alone"
        return (
            f"{key(name)} is PASCAL VOC, its image list {key(dataset.train)} as training and {key(dataset.test)} as "
            f"test split, with the boxes of all objects, {which}; {LARGEST} (licence: {licence})."
        )
    if isinstance(dataset, CocoDataset):
        listed = f", the images of {key(dataset.list)}" if dataset.list else ""
        rare = "; classes too rare for that are left out" if dataset.rare == "drop" else ""
        return (
            f"{key(name)} is COCO{listed}, with the boxes of all objects but crowds; {LARGEST}. Of each class "
            f"{percent(dataset.train_share)} are drawn as training split and the others test{rare} "
            f"(licence: {licence})."
        )
    return f"{key(name)} is a table of images with labels and the split it ships with (licence: {licence})."


def _cifar(name: str, dataset: CifarDataset) -> str:
    """Which of both it is, and how many images were taken of each split."""
    published, classes = ("CIFAR-10", "10") if dataset.kind == "cifar10" else ("CIFAR-100", "100 fine")
    of = {"training": (dataset.train, 50_000), "test": (dataset.test, 10_000)}
    taken = [f"all {count(whole)} {split} images" if part is None else
             f"{count(part)} of the {count(whole)} {split} images" for split, (part, whole) in of.items()]  # fmt: skip
    drawn = ", drawn at random with as many of each class up to one" if dataset.train or dataset.test else ""
    return (
        f"{key(name)} is {published} as torchvision reads it, $32 \\times 32$ pixels in {classes} classes, with the "
        f"split it ships with: {' and '.join(taken)}{drawn} (licence: none stated by its authors)."
    )


def _models(params: Params, study: Study) -> list[str]:
    """Paragraphs on the models, one per kind."""
    used: dict[str, Any] = {name: params.models[name] for name in params.models_used()}
    said = {name: model.sentence(name, params) for name, model in used.items()}
    texts: list[str] = []
    if released := [said[name] for name, model in used.items() if model.step == "fetch"]:
        texts.append(f"Not trained here: {joined(released)}.")
    trained = {name: model for name, model in used.items() if model.step == "train"}
    for recipe in dict.fromkeys(model.recipe for model in trained.values()):
        of_recipe = {name: model for name, model in trained.items() if model.recipe == recipe}
        datasets = [key(dataset) for dataset in dict.fromkeys(model.dataset for model in of_recipe.values())]
        texts.append(
            f"Trained here from nothing, once each: {joined([said[name] for name in of_recipe])}, timm's "
            f"VisionTransformer \\citep{{timm}}. {params.recipes[recipe].sentence(joined(datasets))}"
        )
    ran = {model for _, model in params.pairs()}
    if monitored := [key(name) for name in dict.fromkeys(params.study.trainings) if name not in ran]:
        texts.append(f"Only monitored while they were trained, and not measured further: {joined(monitored)}.")
    return texts + [said[name] for name, model in used.items() if model.step not in ("fetch", "train")]


def _threshold(settings: Detection) -> str:
    where = _block(settings.outlier_layer)
    return {
        "ratio": f"{settings.threshold:g} times the median patch norm at {where}, over all images together",
        "absolute": f"{settings.threshold:g} at {where}",
        "percentile": f"the {settings.threshold:g}th percentile of all patch norms at {where}",
        "bimodal": f"the valley between two modes of the log patch norms at {where}, if Ashman's $D$ between them is "
        f"{settings.threshold:g} or more",
    }[settings.threshold_rule]


def _detection(params: Params) -> str:
    settings = params.detection
    sparsity = {
        "off": "",
        "signed": " Neurons that are not sparse over tokens, counted with sign, are left out.",
        "absolute": " Neurons that are not sparse over tokens, counted by size, are left out.",
    }[settings.sparsity]
    text = (
        f"A patch is an artifact where the L2 norm of its raw block output exceeds {_threshold(settings)}; fewer than "
        f"{percent(settings.minimum_share)} of the patches count as none found. The score of a neuron is its mean "
        "absolute activation (the input of the MLP's second linear layer) over the artifacts of an image, averaged "
        f"over the images that have any, as \\citet{{jiang2025}} define it; {count(settings.images)} images are "
        f"ranked over, up to {_block(settings.highest_layer)}, and the first {settings.top_k} are taken.{sparsity} "
        f"Stability is the mean overlap of the first {settings.top_k} over {count(settings.bootstrap)} resamples of "
        "the images."
    )
    for further in params.study.detections:
        names = joined([key(model) for model in further.models])
        text += f" For {names} neurons are looked for on {key(further.dataset)} as well, with a threshold of its own."
    for name in params.detection_overrides:
        own = params.detection_of(name)
        text += f" For {key(name)} the threshold is {_threshold(own)} and the first {own.top_k} neurons are taken."
    return text


def _readouts(params: Params) -> list[str]:
    probe, knn, lost, statistics = params.probe, params.knn, params.lost, params.statistics
    features = {
        "cls": "[CLS]",
        "appended": "the appended token",
        "patch_mean": "the mean patch token",
        "cls+patch_mean": "[CLS] joined with the mean patch token",
    }
    steps = [name for name, on in (("normalised", lost.normalise), ("centred per image", lost.centre)) if on]
    keys = joined(steps) if steps else "raw"
    projected = {"q": "queries", "k": "keys", "v": "values"}[lost.feature]
    projected += ", each image at its own size," if params.extraction.projections_size == "native" else ""
    bias = "" if lost.bias == 0 else f", {setting(lost.bias)} added to their products"
    return [
        rf"\paragraph{{Linear probe and nearest neighbours.}} One linear layer on "
        f"{joined([features[f] for f in probe.features])} after the final norm, as \\citet{{kukade2025}} train it: "
        f"AdamW, learning rate {setting(probe.lr)} by a cosine to {setting(probe.final_lr)}, weight decay "
        f"{setting(probe.weight_decay)}, {plural(probe.epochs, 'epoch')} in batches of {probe.batch_size}, gradients "
        f"clipped at norm {setting(probe.clip_norm)}; the epoch with the lowest loss on a stratified "
        f"{percent(probe.validation_share)} of the training split is tested. All conditions start from the same "
        f"weights and see the same batches; numbers are averages over {plural(len(probe.seeds), 'seed')}."
        f"{dinov2(params)} Nearest "
        f"neighbours: $k = {knn.k}$ by cosine, weighted with temperature {setting(knn.temperature)}.",
        rf"\paragraph{{Object discovery.}} LOST \citep{{simeoni2021}} on the {projected} of {_block(lost.layer)} "
        rf"({keys}{bias}), "
        f"expansion over the $k = {lost.k}$ patches of lowest degree, as many on every grid; patches only, never "
        f"[CLS], registers or appended tokens. {sweep(params)}{dino_seg(params)}CorLoc is the share of images "
        "whose one box overlaps a true box by half or more (intersection over union).",
        information(params),
        energy(params.energy),
        looking(),
        dense_heads(params),
        *zero_shot(params),
        rf"\paragraph{{Statistics.}} Intervals hold {percent(statistics.confidence)}: Wilson for CorLoc, "
        f"{count(statistics.resamples)} bootstrap resamples of the test images for other readouts. Differences are "
        "paired over the same test images; their $p$ is from the exact McNemar test where there is one answer per "
        "image, and from a sign-flip permutation test where an answer is a number or an average over seeds. "
        "No correction is made for the number of comparisons. Every random draw derives from the study's one seed "
        f"({params.seed}) and the name of its purpose.",
    ]


def _batches(extraction: Extraction) -> str:
    if isinstance(extraction.batch_size, int):
        return f"batches of {extraction.batch_size}"
    return f"batches as large as fit into {count(extraction.memory_mb)} MiB, 128 images at most,"


def text(params: Params, study: Study) -> str:
    """The methods section, without its heading."""
    extraction = params.extraction
    parts = [
        r"\paragraph{Data.} " + " ".join(_data(name, params.datasets[name]) for name in params.datasets_used()),
        r"\paragraph{Models.} " + "\n\n".join(_models(params, study)),
        rf"\paragraph{{One pass.}} Each model passes over each data set once per condition, in "
        f"{_batches(extraction)} with {extraction.precision} arithmetic; all readouts read what that pass kept. What "
        f"needs every token (norms, attention, LOST) is kept for {dense(extraction)}. "
        "The norm of a token at a block is the L2 norm of the raw block output, before "
        "the final norm. Attention is averaged over heads.",
        r"\paragraph{Conditions.} Besides the model as it is (\texttt{baseline}):" + "\n" + conditions.text(params),
        r"\paragraph{Artifacts and register neurons.} " + _detection(params),
        *_readouts(params),
    ]
    return "\n\n".join(parts) + "\n"
