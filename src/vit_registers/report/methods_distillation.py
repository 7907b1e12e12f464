"""The methods text of self-distillation without labels."""

from vit_registers.core.prose import joined, percent, plural, setting
from vit_registers.params import DinoRecipe


def text_of(recipe: DinoRecipe, where: str) -> str:
    """How the models of a recipe were trained on the data sets ``where``."""
    return " ".join((_optimisation(recipe, where), _teacher(recipe), _head(recipe), _crops(recipe), _colours(recipe)))


def _optimisation(recipe: DinoRecipe, where: str) -> str:
    spared = "biases and norms" if recipe.decay_tokens else "biases, norms, [CLS], registers and position embeddings"
    clipped = {"parameter": "of each parameter by itself", "whole": "of all parameters together"}[recipe.clip]
    return (
        f"They are {recipe.architecture.sentence()}, without a head. Training on {where} without labels by "
        f"self-distillation \\citep{{caron2021}}: what is measured is the teacher, a running mean of a student, which "
        f"is trained with stochastic depth {setting(recipe.drop_path)}. AdamW; learning rate {setting(recipe.lr)} "
        f"after {plural(recipe.warmup_epochs, 'epoch')} of linear warm-up from zero, then a cosine to "
        f"{setting(recipe.final_lr)}, step by step; $\\beta = ({recipe.betas[0]:g}, {recipe.betas[1]:g})$; weight "
        f"decay from {setting(recipe.weight_decay)} along a cosine to {setting(recipe.final_weight_decay)}, on all "
        f"but {spared}; gradients {clipped} clipped at norm {setting(recipe.clip_norm)}."
    )


def _teacher(recipe: DinoRecipe) -> str:
    teacher = recipe.teacher
    return (
        f"The momentum of the teacher goes from {setting(teacher.momentum)} along a cosine to one. Temperatures: "
        f"{setting(recipe.student_temperature)} of the student; of the teacher {setting(teacher.temperature)}, over "
        f"the first {plural(teacher.warmup_epochs, 'epoch')} linearly from {setting(teacher.warmup_temperature)}. Its "
        f"output is centred by a running mean of momentum {setting(teacher.centre_momentum)}."
    )


def _head(recipe: DinoRecipe) -> str:
    head = recipe.projection
    lengths = "of length one" if head.unit_prototypes else "whose lengths are learnt"
    return (
        f"Projection heads, in 32-bit precision throughout, have two hidden layers of {head.hidden}, a bottleneck of "
        f"{head.bottleneck} channels brought to length one, and {head.prototypes} prototypes {lengths}, which stay as "
        f"they were drawn for {plural(head.frozen_epochs, 'epoch')}."
    )


def _crops(recipe: DinoRecipe) -> str:
    crops = recipe.crops
    low, high = crops.global_scale
    text = f"Both see two crops of {percent(low)} to {percent(high)} of the area of an image"
    if not crops.local_crops:
        return f"{text}."
    low, high = crops.local_scale
    return (
        f"{text}; the student also {plural(crops.local_crops, 'crop')} of {percent(low)} to {percent(high)} at "
        f"${crops.local_size} \\times {crops.local_size}$ pixels, with "
        f"{recipe.positions.sentence()}."
    )


def _colours(recipe: DinoRecipe) -> str:
    colours = recipe.colours
    jitter, blurs = (joined([setting(value) for value in values]) for values in (colours.jitter, colours.blur_shares))
    low, high = colours.blur_radius
    return (
        f"A crop is mirrored with probability one half; brightness, contrast, saturation and hue change by up to "
        f"{jitter} with probability {setting(colours.jitter_share)}; it is grey with probability "
        f"{setting(colours.grey_share)}; blurred with a radius of {setting(low)} to {setting(high)} pixels with "
        f"probability {blurs} (first and second global crop, local crops); a second global crop is solarised with "
        f"probability {setting(colours.solarise_share)}."
    )
