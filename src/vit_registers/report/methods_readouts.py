"""The methods text of single readouts."""

from vit_registers.core.prose import count, escape, joined, percent, plural, setting
from vit_registers.params import Params


def dinov2(params: Params) -> str:
    """DINOv2's linear evaluation, where it is run."""
    cfg = params.linear_evaluation
    if cfg is None:
        return ""
    blocks = joined([str(b) for b in cfg.blocks])
    rates = ", ".join(setting(rate) for rate in cfg.learning_rates)
    return (
        f" Linear evaluation as for DINOv2 \\citep{{oquab2024}}: [CLS] of the last {blocks} blocks, each with and "
        f"without the mean patch, a head for each of the learning rates {rates} (times the batch over 256), SGD with "
        f"momentum 0.9, no decay, cosine to zero, {plural(cfg.epochs, 'epoch')} in batches of {cfg.batch_size}; the "
        "head is chosen on the same held-out share of the training split, not on the images that are reported."
    )


def sweep(params: Params) -> str:
    """What LOST was swept over, where it was."""
    sweep = params.lost_sweep
    if sweep is None:
        return ""
    features = joined([{"q": "queries", "k": "keys", "v": "values"}[f] for f in sweep.features])
    centre = joined([{True: "centred per image", False: "not centred"}[c] for c in sweep.centre])
    return (
        f"Every model as it is was also run under every combination of {features}, blocks "
        f"{joined([str(layer) for layer in sweep.layers])} (counted from the end where negative), {centre}, raw or "
        f"L2-normalised with {joined([setting(b) for b in sweep.bias])} added to the products; the setting is chosen "
        f"on a random {percent(sweep.chosen_on)} of the images and reported on the others. "
    )


def dino_seg(params: Params) -> str:
    """The other method of object discovery."""
    settings = params.dino_seg
    head = "the mean over heads" if settings.head is None else f"head {settings.head}"
    skip = ", the last one never counted (as the published code does)" if settings.skip_last_component else ""
    return (
        rf"DINO-seg \citep{{simeoni2021}}: {head} of the attention of [CLS] at the last block, the fewest patches that "
        f"hold {percent(settings.mass)} of what patches get, and the box of their largest component{skip}. "
    )


def information(params: Params) -> str:
    """What single tokens know."""
    cfg = params.information
    return (
        rf"\paragraph{{Single tokens.}} Patches are high where they are artifacts, or, in a model without, above the "
        f"{cfg.high_percentile:g}th percentile of all patch norms. Of {count(cfg.images)} images one half trains and "
        "the other tests: a linear classifier of a patch's position, a least-squares and an MLP "
        f"({count(cfg.hidden)} hidden channels) reconstruction of its normalised pixels from its token after the final "
        rf"norm \citep{{darcet2024,bach2025}} (classifier and MLP: AdamW, learning rate {setting(cfg.lr)}, weight "
        f"decay {setting(cfg.weight_decay)}, {plural(cfg.epochs, 'epoch')} in batches of {cfg.batch_size}), and "
        f"logistic regression of the class on one token of each kind, over {plural(len(cfg.seeds), 'draw')} of tokens."
    )


def looking() -> str:
    """Where registers look."""
    return (
        r"\paragraph{Where registers look.} How alike two tokens look is the cosine of their attention over the "
        "patches at one block, image by image, averaged over all pairs of registers or over [CLS] with each "
        r"\citep{bach2025}. Registers that behave as slots would look at different regions of an image "
        r"\citep{darcet2024}: a register wins a patch where it attends more to it than the others do; of what it pays "
        "to patches, the share on the object is that inside the true boxes, brought to the model's input as for object "
        "discovery and counted by the share of each patch that they cover. The spread of these shares over registers, "
        "largest less smallest in each image, is above zero even where registers ignore the image, so it is measured "
        "again with the maps of the next image over the object of this one."
    )


def dense_heads(params: Params) -> str:
    """Segmentation and depth."""
    cfg = params.dense
    return (
        r"\paragraph{Segmentation and depth.} Linear heads on the patch tokens after the final norm "
        rf"\citep{{darcet2024,oquab2024}}, trained on a random {percent(cfg.train_share)} of the dense images and "
        "tested on the others, the same for every model and condition: refitted to each condition, and kept from the "
        r"model as it is \citep{parodi2026}. Their maps are upsampled bilinearly to the pixels that the model sees, "
        "which masks and depth reach by the same resize and crop, each taking its nearest. Segmentation tells every "
        f"class and the background: cross-entropy on one pixel of {cfg.every} in each row and column, AdamW on "
        f"whitened channels, learning rate {setting(cfg.lr)} by a cosine to zero, weight decay "
        f"{setting(cfg.weight_decay)}, {plural(cfg.epochs, 'epoch')} in batches of {plural(cfg.batch_size, 'image')}; "
        "mIoU is over classes, of the pixels of all test images together. Depth is a ridge regression of the mean "
        "depth of each patch (DINOv2 sorts depths into bins instead), with RMSE over the pixels of all test images; 1 "
        "is the largest depth that a "
        f"map can hold. The ridge, of the regression and of the whitening, is {setting(cfg.ridge)} of the mean "
        "squared channel."
    )


def zero_shot(params: Params) -> list[str]:
    """How classes were told by their names, where a model of the study can."""
    if not params.text_pairs():
        return []
    templates = params.zero_shot.templates
    if templates == "openai":
        said = "OpenAI's prompts for ImageNet"
    elif templates == "simple":
        said = "OpenCLIP's short list of prompts"
    else:
        quoted = [f"``{escape(template)}''" for template in templates]
        said = f"the {'prompt' if len(quoted) == 1 else 'prompts'} {joined(quoted)}"
    return [
        rf"\paragraph{{Zero-shot classification.}} As \citet{{darcet2024}} evaluate OpenCLIP: [CLS] after the final "
        f"norm, projected to the text space, against each class, which is the mean over {said} with its name of the "
        "text tower's unit vectors; the class of the highest cosine is told."
    ]
