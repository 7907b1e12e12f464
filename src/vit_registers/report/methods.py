"""The methods text of the report, stated from the params that ran."""

from collections.abc import Sequence

from vit_registers.params import (
    Dataset,
    Detection,
    Extraction,
    FetchedModel,
    FileModel,
    FolderDataset,
    GeneratedDataset,
    OpenClipModel,
    Params,
    PlantedModel,
    Planting,
    PositionResampling,
    Recipe,
    ResizedModel,
    TaggedModel,
    TimmModel,
    TrainedModel,
)
from vit_registers.report import conditions
from vit_registers.report.latex_tables import count, escape, key
from vit_registers.report.names import plural
from vit_registers.report.study import Study


def joined(items: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + f" and {items[-1]}"


def _number(value: float) -> str:
    """A number of params as LaTeX: short decimals as they are, small ones as a power of ten."""
    text = f"{value:g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        return rf"${mantissa} \times 10^{{{int(exponent)}}}$"
    return f"${text}$"


def _percent(share: float) -> str:
    return rf"{100 * share:g}\,\%"


def _block(layer: int) -> str:
    """A block of params in words: counted from the end where negative."""
    if layer >= 0:
        return f"block {layer}"
    return "the last block" if layer == -1 else f"block {-layer} from the end"


def dense(extraction: Extraction) -> str:
    """The images that every token was kept of."""
    return f"the first {count(extraction.dense_images)} images of the {key(extraction.dense_split)} split"


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
        split = (
            f"; unless it comes with a split, {_percent(dataset.test_share)} of each class are held out for the test"
        )
        return f"{key(name)} is a folder of images by class{split} (licence: {escape(dataset.licence)})."
    licence = escape(dataset.licence)
    return f"{key(name)} is a table of images with labels and the split it ships with (licence: {licence})."


def _shape(depth: int, width: int, heads: int) -> str:
    return f"{plural(depth, 'block')} of width {width} with {plural(heads, 'head')}"


def _recipe(recipe: Recipe, datasets: Sequence[str]) -> str:
    shape = recipe.architecture
    precision = "in 32-bit precision" if recipe.precision == "fp32" else "in bfloat16 autocast with 32-bit weights"
    return (
        f"Unless said otherwise they have {_shape(shape.depth, shape.width, shape.heads)}; all have patches "
        f"of ${shape.patch_size} \\times {shape.patch_size}$ pixels on images of "
        f"${shape.image_size} \\times {shape.image_size}$, a [CLS] token and learned position embeddings, none of them "
        f"for registers. Training on {joined([key(d) for d in datasets])}: AdamW, learning rate {_number(recipe.lr)} "
        f"after a linear warm-up over {_percent(recipe.warmup_share)} of the steps, then a cosine to zero; "
        f"$\\beta = ({recipe.betas[0]:g}, {recipe.betas[1]:g})$; weight decay {_number(recipe.weight_decay)} on "
        f"matrices only; {plural(recipe.epochs, 'epoch')} in batches of {recipe.batch_size}; cross-entropy with label "
        f"smoothing {_number(recipe.label_smoothing)}; gradients clipped at norm {_number(recipe.clip_norm)}; a "
        f"random flip or quarter turn of every image; {precision}. Patch norms on the first "
        f"{count(recipe.watched_images)} test images are kept after every epoch."
    )


def _trained(name: str, model: TrainedModel, recipe: Recipe) -> str:
    """One trained model, with its shape where that is not the recipe's."""
    shape = recipe.architecture.model_copy(update=model.architecture.given)
    otherwise = f", {_shape(shape.depth, shape.width, shape.heads)}" if model.architecture.given else ""
    return f"{key(name)} ({plural(model.registers, 'register')}{otherwise})"


def _resampling(how: PositionResampling) -> str:
    antialiased = "with antialiasing" if how.antialias else "without antialiasing"
    offset = f" and with {_number(how.offset)} added to the new sides before they are divided" if how.offset else ""
    return f"position embeddings resampled bicubically {antialiased}{offset}"


def _input(model: FetchedModel | ResizedModel) -> str:
    """The input size that was asked for, and how the model got there."""
    height, width = model.size or (0, 0)
    return f"at ${height} \\times {width}$ pixels with learned {_resampling(model.positions)}"


def _fetched(name: str, model: FetchedModel) -> str:
    """Where the weights of a model are from, and its input size if it was asked for."""
    said = [_input(model)] if model.size else []
    if isinstance(model, TimmModel):
        weights = "released weights" if model.weights == "pretrained" else "random weights"
        said = [f"timm's {key(model.name)}", weights, *said]
    elif isinstance(model, OpenClipModel):
        said = [f"OpenCLIP's {key(model.name)}", key(model.pretrained) if model.pretrained else "random weights", *said]
    elif isinstance(model, FileModel):
        said = [f"timm's {key(model.name)} with the weights of {key(model.path)}", *said]
    return f"{key(name)} ({', '.join(said)})"


def _resized(name: str, model: ResizedModel) -> str:
    return (
        f"{key(name)} is {key(model.base)} {_input(model)}; nothing was trained for that size, and of each image the "
        "same share is seen."
    )


def _planting(name: str, base: str, planting: Planting) -> str:
    attracts = "a direction that attracts the [CLS] queries of later blocks"
    aim = {
        "random": "a random direction of zero mean",
        "cls": f"{attracts} and leaves the content of [CLS] as it is",
        "cls-raw": f"{attracts}, whatever the values carry into [CLS]",
    }[planting.direction]
    places = joined([str(position) for position in planting.positions])
    return (
        f"{key(name)} is {key(base)} with {plural(planting.neurons, 'register neuron')} written in closed form into "
        f"the MLP of block {planting.block} (blocks count from 0). They fire on the patches at positions {places} of "
        f"the grid (row by row from 0) where the picture is uniform there, and write {aim} of "
        f"{planting.norm_ratio:g} times the median patch norm at the last block. What marks the positions is a tag "
        f"added to their position embeddings, {planting.tag_strength:g} standard deviations of the residual stream "
        f"along it; moments and gate come from {count(planting.images)} training images."
    )


def _models(params: Params, study: Study) -> list[str]:
    """Paragraphs on the models, one per kind."""
    used = {name: params.models[name] for name in params.models_used()}
    texts: list[str] = []
    released = {name: model for name, model in used.items() if isinstance(model, FetchedModel)}
    if released:
        listed = [_fetched(name, model) for name, model in released.items()]
        texts.append(f"Not trained here: {joined(listed)}.")
    trained = {name: model for name, model in used.items() if isinstance(model, TrainedModel)}
    for recipe in dict.fromkeys(model.recipe for model in trained.values()):
        of_recipe = {name: model for name, model in trained.items() if model.recipe == recipe}
        listed = [_trained(name, model, params.recipes[recipe]) for name, model in of_recipe.items()]
        datasets = list(dict.fromkeys(model.dataset for model in of_recipe.values()))
        texts.append(
            f"Trained here from nothing, once each: {joined(listed)}, timm's VisionTransformer \\citep{{timm}}. "
            + _recipe(params.recipes[recipe], datasets)
        )
    for name, model in used.items():
        if isinstance(model, TaggedModel):
            texts.append(
                f"{key(name)} is {key(model.base)} with the tag alone: the clean reference of a planted model, "
                "whose artifacts it lacks."
            )
        elif isinstance(model, PlantedModel):
            texts.append(_planting(name, model.base, params.plantings[model.planting]))
        elif isinstance(model, ResizedModel):
            texts.append(_resized(name, model))
    return texts


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
        f"{_percent(settings.minimum_share)} of the patches count as none found. The score of a neuron is its mean "
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


def _dinov2(params: Params) -> str:
    """DINOv2's linear evaluation, where it is run."""
    cfg = params.linear_evaluation
    if cfg is None:
        return ""
    blocks = joined([str(b) for b in cfg.blocks])
    rates = ", ".join(_number(rate) for rate in cfg.learning_rates)
    return (
        f" Linear evaluation as for DINOv2 \\citep{{oquab2024}}: [CLS] of the last {blocks} blocks, each with and "
        f"without the mean patch, a head for each of the learning rates {rates} (times the batch over 256), SGD with "
        f"momentum 0.9, no decay, cosine to zero, {plural(cfg.epochs, 'epoch')} in batches of {cfg.batch_size}; the "
        "head is chosen on the same held-out share of the training split, not on the images that are reported."
    )


def _sweep(params: Params) -> str:
    """What LOST was swept over, where it was."""
    sweep = params.lost_sweep
    if sweep is None:
        return ""
    features = joined([{"q": "queries", "k": "keys", "v": "values"}[f] for f in sweep.features])
    centre = joined([{True: "centred per image", False: "not centred"}[c] for c in sweep.centre])
    return (
        f"Every model as it is was also run under every combination of {features}, blocks "
        f"{joined([str(layer) for layer in sweep.layers])} (counted from the end where negative), {centre}, raw or "
        f"L2-normalised with {joined([_number(b) for b in sweep.bias])} added to the products; the setting is chosen "
        f"on a random {_percent(sweep.chosen_on)} of the images and reported on the others. "
    )


def _dino_seg(params: Params) -> str:
    settings = params.dino_seg
    head = "the mean over heads" if settings.head is None else f"head {settings.head}"
    skip = ", the last one never counted (as the published code does)" if settings.skip_last_component else ""
    return (
        rf"DINO-seg \citep{{simeoni2021}}: {head} of the attention of [CLS] at the last block, the fewest patches that "
        f"hold {_percent(settings.mass)} of what patches get, and the box of their largest component{skip}. "
    )


def _information(params: Params) -> str:
    cfg = params.information
    return (
        rf"\paragraph{{Single tokens.}} Patches are high where they are artifacts, or, in a model without, above the "
        f"{cfg.high_percentile:g}th percentile of all patch norms. Of {count(cfg.images)} images one half trains and "
        "the other tests: a linear classifier of a patch's position, a least-squares and an MLP "
        f"({count(cfg.hidden)} hidden channels) reconstruction of its normalised pixels from its token after the final "
        rf"norm \citep{{darcet2024,bach2025}} (classifier and MLP: AdamW, learning rate {_number(cfg.lr)}, weight "
        f"decay {_number(cfg.weight_decay)}, {plural(cfg.epochs, 'epoch')} in batches of {cfg.batch_size}), and "
        f"logistic regression of the class on one token of each kind, over {plural(len(cfg.seeds), 'draw')} of tokens."
    )


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
    bias = "" if lost.bias == 0 else f", {_number(lost.bias)} added to their products"
    return [
        rf"\paragraph{{Linear probe and nearest neighbours.}} One linear layer on "
        f"{joined([features[f] for f in probe.features])} after the final norm, as \\citet{{kukade2025}} train it: "
        f"AdamW, learning rate {_number(probe.lr)} by a cosine to {_number(probe.final_lr)}, weight decay "
        f"{_number(probe.weight_decay)}, {plural(probe.epochs, 'epoch')} in batches of {probe.batch_size}, gradients "
        f"clipped at norm {_number(probe.clip_norm)}; the epoch with the lowest loss on a stratified "
        f"{_percent(probe.validation_share)} of the training split is tested. All conditions start from the same "
        f"weights and see the same batches; numbers are averages over {plural(len(probe.seeds), 'seed')}."
        f"{_dinov2(params)} Nearest "
        f"neighbours: $k = {knn.k}$ by cosine, weighted with temperature {_number(knn.temperature)}.",
        rf"\paragraph{{Object discovery.}} LOST \citep{{simeoni2021}} on the {projected} of {_block(lost.layer)} "
        rf"({keys}{bias}), "
        f"expansion over the $k = {lost.k}$ patches of lowest degree, as many on every grid; patches only, never "
        f"[CLS], registers or appended tokens. {_sweep(params)}{_dino_seg(params)}CorLoc is the share of images "
        "whose one box overlaps a true box by half or more (intersection over union).",
        _information(params),
        rf"\paragraph{{Statistics.}} Intervals hold {_percent(statistics.confidence)}: Wilson for CorLoc, "
        f"{count(statistics.resamples)} bootstrap resamples of the test images for other readouts. Differences are "
        "paired over the same test images; their $p$ is from the exact McNemar test where there is one answer per "
        "image, and from a sign-flip permutation test where answers are averaged over seeds. No correction is made "
        "for the number of comparisons. Every random draw derives from the study's one seed "
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
