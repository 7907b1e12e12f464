"""What was done to the models, condition by condition, in words for the methods section."""

from vit_registers.core.prose import key, plural
from vit_registers.params import Append, Intervention, MoveNeurons, Params, Replace, RestrictClsAttention, singles


def text(params: Params) -> str:
    """A list of the study's conditions besides the baseline; ``None.`` where there are none."""
    used = dict.fromkeys(name for run in params.study.runs for name in run.interventions)
    items = [f"  \\item {_intervention(name, params.interventions[name], params)}" for name in used]
    return "\n".join([r"\begin{itemize}", *items, r"\end{itemize}"]) if items else "None."


def _intervention(name: str, value: Intervention, params: Params) -> str:
    said = "; ".join(_single(part, params) for part in singles(value))
    return f"{key(name)}: {said}."


def _single(part: Append | MoveNeurons | Replace | RestrictClsAttention, params: Params) -> str:
    if isinstance(part, Append):
        return f"{plural(part.tokens, 'zero token')} appended and nothing else touched"
    if isinstance(part, MoveNeurons):
        return _moved(part)
    if isinstance(part, Replace):
        return _replaced(part, params)
    skip = "with" if part.skip else "without"
    return (
        f"in the last block the attention output of [CLS] sums over {part.to} only, not renormalised, {skip} its skip "
        r"connection \citep{lappe2025}"
    )


def _replaced(part: Replace, params: Params) -> str:
    what = {"cls": "[CLS]", "registers": "the registers", "patches": "random patches, drawn per image,"}[part.tokens]
    if part.tokens == "patches":
        what = f"{'as many' if part.count is None else part.count} {what.removeprefix('the ')}"
        what += " as there are registers" if part.count is None else ""
    if part.only is not None:
        what = f"{'registers' if len(part.only) > 1 else 'register'} {', '.join(map(str, part.only))} (from 0)"
    images = params.calibration.images
    by = {
        "zero": "zeros",
        "mean": f"their mean over {images} calibration images, per block and token",
        "noise": f"Gaussian noise with their mean and deviation over {images} calibration images, per block and token",
        "shuffled": "those of another image of the batch"
        if part.donors == "batch"
        else "those of a calibration image, as they are in it untouched",
    }[part.by]
    where = "every block" if part.at == "every" else "the last block"
    return rf"{what} replaced by {by} at the output of {where} \citep{{parodi2026}}"


def _moved(value: MoveNeurons) -> str:
    which = {
        "found": "the register neurons that detection found",
        "half": "the first half of the neurons found",
        "next": "as many neurons, the next in the ranking",
        "random": "as many neurons drawn at random from the same layers",
    }[value.neurons]
    if value.top_k is not None:
        which += f" (counting the first {plural(value.top_k, 'neuron')} of the ranking as found)"
    patches = {
        "zero": "zero",
        "mean": "the mean over patches",
        "only_outliers": "the mean over patches where it exceeds mean plus standard deviation",
        "same": "left as it is",
    }[value.patches]
    cleared = "; on [CLS]: zero" if value.clear_cls else ""
    only = "" if value.images == "every" else "; only in the first image of every batch"
    if value.tokens == 0:
        return f"{which} are cleared (on patches: {patches}{cleared}) and nothing is appended{only}"
    seen = "patches and [CLS]" if value.max_includes_cls else "patches"
    own = "each its own" if value.max_over == "neuron" else "one for all neurons of a layer"
    scale = "" if value.scale == 1.0 else f"{value.scale:g} times "
    return (
        f"{plural(value.tokens, 'zero token')} appended; {which} take there {scale}the signed maximum "
        f"over {seen}, {own}, and on patches: {patches}{cleared}{only}"
    )
