"""The methods text of trainings, one recipe at a time."""

from collections.abc import Sequence

from vit_registers.core.prose import joined, key, percent, plural, setting
from vit_registers.params import AnyRecipe, Architecture, Deit3Recipe, DinoRecipe, Energy, SmallRecipe, TrainedModel
from vit_registers.report import methods_distillation


def text_of(recipe: AnyRecipe, datasets: Sequence[str]) -> str:
    """How the models of a recipe were trained: what is its own, then what every training has."""
    where = joined([key(d) for d in datasets])
    if isinstance(recipe, DinoRecipe):
        own = methods_distillation.text_of(recipe, where)
    else:
        own = _deit3(recipe, where) if isinstance(recipe, Deit3Recipe) else _small(recipe, where)
    precision = "in 32-bit precision" if recipe.precision == "fp32" else "in bfloat16 autocast with 32-bit weights"
    images = f"{recipe.shards} times {recipe.batch_size}" if recipe.shards > 1 else f"{recipe.batch_size}"
    return (
        f"{own} Training takes {plural(recipe.epochs, 'epoch')} in steps of {images} images, {precision}. After "
        "every epoch patch norms, the mean attention of [CLS] and registers at the last block and the cosines of their "
        f"maps are kept of the first {plural(recipe.watched_images, 'test image')}, and whole maps of the first "
        f"{recipe.watched_maps} of these."
    )


def one_trained(name: str, model: TrainedModel, recipe: AnyRecipe) -> str:
    """One trained model, with its shape where that is not the recipe's."""
    otherwise = ""
    if model.architecture.given and isinstance(recipe, SmallRecipe):
        otherwise = f", {_shape(recipe.architecture.model_copy(update=model.architecture.given))}"
    return f"{key(name)} ({plural(model.registers, 'register')}{otherwise})"


def _shape(shape: Architecture) -> str:
    return f"{plural(shape.depth, 'block')} of width {shape.width} with {plural(shape.heads, 'head')}"


def _deit3(recipe: Deit3Recipe, where: str) -> str:
    return (
        f"They are {recipe.architecture.sentence()}, "
        f"LayerScale from {setting(recipe.layer_scale)}, stochastic depth {setting(recipe.drop_path)}. Training on "
        f"{where} by the recipe of DeiT-III: LAMB, learning rate {setting(recipe.lr)} after "
        f"{plural(recipe.warmup_epochs, 'epoch')} of linear warm-up from {setting(recipe.warmup_lr)}, then a cosine to "
        f"{setting(recipe.final_lr)}, epoch by epoch; $\\beta = ({recipe.betas[0]:g}, {recipe.betas[1]:g})$; weight "
        f"decay {setting(recipe.weight_decay)} on matrices only; binary cross-entropy; gradients clipped at norm "
        f"{setting(recipe.clip_norm)}; random resized crops and mirroring, ThreeAugment, colour jitter "
        f"{setting(recipe.color_jitter)}, each image {recipe.repeats} times in an epoch of as many fewer images, "
        f"Mixup {setting(recipe.mixup)} and CutMix {setting(recipe.cutmix)}."
    )


# What is done to each image of the small recipe.
AUGMENTATIONS = {
    "dihedral": "a random flip or quarter turn of every image",
    "mirror": "every image mirrored with probability one half",
    "crop": "every image padded with black by an eighth of its side, cropped at random and mirrored with probability "
    "one half",
    "none": "images as they are",
}


def _small(recipe: SmallRecipe, where: str) -> str:
    shape = recipe.architecture
    scaled = f", LayerScale from {setting(shape.layer_scale)}" if shape.layer_scale else ""
    dropped = f", stochastic depth {setting(shape.drop_path)}" if shape.drop_path else ""
    return (
        f"Unless said otherwise they have {_shape(shape)}; all have patches of "
        f"${shape.patch_size} \\times {shape.patch_size}$ pixels on images of "
        f"${shape.image_size} \\times {shape.image_size}$, a [CLS] token and learned position embeddings, none of them "
        f"for registers{scaled}{dropped}. Training on {where}: AdamW, learning rate {setting(recipe.lr)} "
        f"after a linear warm-up over {percent(recipe.warmup_share)} of the steps, then a cosine to zero; "
        f"$\\beta = ({recipe.betas[0]:g}, {recipe.betas[1]:g})$; weight decay {setting(recipe.weight_decay)} on "
        f"matrices only; cross-entropy with label smoothing {setting(recipe.label_smoothing)}; gradients clipped at "
        f"norm {setting(recipe.clip_norm)}; {AUGMENTATIONS[recipe.augmentation]}."
    )


def energy(cfg: Energy) -> str:
    """Where the numbers of the table of energy come from."""
    listed = [
        f"{key(name)} lists {table.hours:g} hours on {plural(table.processors, 'processor')} of {table.watts:g}\\,W at "
        f" a PUE of {table.pue:g}, {table.kwh:g}\\,kWh and {table.kg:g}\\,kg"
        for name, table in cfg.published.items()
    ]
    published = f" {'; '.join(listed)}." if listed else ""
    return (
        rf"\paragraph{{Energy.}} Hours of the trainings as measured, processors of {cfg.watts:g}\,W, a PUE of "
        f"{cfg.pue:g} and {cfg.kg_per_kwh:g}\\,kg of CO$_2$ equivalent per kWh.{published}"
    )
