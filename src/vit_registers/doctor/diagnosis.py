"""What was found, as plain data and in words: a line for the terminal, a JSON file, and the page."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vit_registers.core.prose import joined, plural
from vit_registers.core.stats import wilson
from vit_registers.doctor.effects import Effect, effects
from vit_registers.doctor.examine import MOVED, ZERO, Examination
from vit_registers.doctor.pictures import Pictures
from vit_registers.params.passes import SINK_ATTENTION, SINK_QUERIES
from vit_registers.registers.sinks import KINDS, artifacts, kinds_of

FEW = 20  # images: of fewer, intervals are rough
GONE, MOST = 0.1, 0.5  # of the outliers that zero tokens leave: none to speak of, less than half


@dataclass(frozen=True)
class Layer:
    """Patch norms at the output of a block: of all patches of all images together, ``largest`` over the median too."""

    layer: int
    median: float
    p99: float
    largest: float
    largest_ratio: float
    threshold: float
    share: float


@dataclass(frozen=True)
class Sink:
    """The most attended token of a block, mean over the images in which it was looked for.

    ``attention``: what it gets of all tokens' attention, mean over heads, ``median`` what the median token gets.
    ``heads``: share of heads in which nearly all tokens give one token most of their attention, a sink. ``tokens``: how
    often the most attended token is [CLS], a register, an artifact, another patch.
    """

    layer: int
    attention: float
    median: float
    heads: float
    tokens: dict[str, float]


@dataclass(frozen=True)
class Diagnosis:
    """All that is said of a model on some images.

    ``outliers``: what detection says of them. ``neurons``: layer, index, score, share of resamples. ``reason``: why
    there are no neurons.
    """

    model: dict[str, Any]
    images: dict[str, Any]
    settings: dict[str, Any]
    outliers: dict[str, Any]
    layers: list[Layer]
    sinks: list[Sink]
    neurons: list[tuple[int, int, float, float]]
    detection: dict[str, Any]
    doses: list[dict[str, Any]]
    effects: list[Effect]
    reason: str | None

    @property
    def found(self) -> bool:
        """Whether it has outlier tokens."""
        return "reason" not in self.outliers

    @property
    def highest(self) -> Layer:
        """The block with the largest ratio of a patch norm to the median."""
        return max(self.layers, key=lambda layer: layer.largest_ratio)

    @property
    def size(self) -> str:
        """Height and width of the input, in words."""
        return "x".join(str(side) for side in self.model["input"]) + " pixels"

    @property
    def verdict(self) -> str:
        """One line."""
        return f"{self.model['name']} {self._outliers()}{self._repair()}."

    def _outliers(self) -> str:
        """Whether there are any."""
        ratio, count = self.settings["threshold"], self.images["examined"]
        largest = (
            f"the largest patch norm is {self.highest.largest_ratio:.2f} times the median of its block (block "
            f"{self.highest.layer} of {len(self.layers)}, from 0)"
        )
        if not self.found:
            exceed = percent(self.outliers["share"])
            few = f", and {exceed} of the patches exceed {ratio:g} times it, too few to count"
            seen = few if self.outliers["share"] > 0.0 else ""
            return f"has no outlier tokens at {self.size}: {largest}{seen}; register neurons were not sought"
        interval = self.outliers["share_interval"]
        of = f" (95 % interval {percent(interval[0])} to {percent(interval[1])})" if count > 1 else ""
        return (
            f"has outlier tokens at {self.size}: {percent(self.outliers['share'])} of the patches{of} in "
            f"{self.outliers['images_affected']} of {plural(count, 'image')} exceed {ratio:g} times the median norm, "
            f"from block {self.outliers['first_layer']} of {len(self.layers)} on, counted from 0"
        )

    def _repair(self) -> str:
        """What the neurons are and do; nothing where there are no outliers."""
        if not self.found:
            return ""
        if not self.neurons:
            return f"; {self.reason}"
        blocks = sorted({layer for layer, *_ in self.neurons})
        where = f"block{'s' * (len(blocks) > 1)} {joined([str(block) for block in blocks])}"
        left, control = (self.share(name) for name in (MOVED, ZERO))
        one = self.settings["tokens"] == 1
        tokens = plural(self.settings["tokens"], "test-time register")
        if not control:
            return f"; no image that {tokens} could be tried on has an outlier"
        if left > MOST * control:
            said = "leaves" if one else "leave"
            said += " most of them"
        else:
            said = "takes" if one else "take"
            said += " them away" if left <= GONE * control else " most of them away"
        instead = "a zero token" if one else "zero tokens"
        return (
            f"; {tokens} for {plural(len(self.neurons), 'neuron')} of {where} {said}: {percent(left)} of the patches "
            f"are outliers then, {percent(control)} with {instead} instead"
        )

    def share(self, condition: str) -> float:
        """Share of outlier patches under a condition, on the images that the repair was measured on."""
        return next(each for each in self.effects if each.name == "Outlier patches").conditions[condition].value

    @property
    def cautions(self) -> list[str]:
        """How far this can be trusted, in sentences."""
        count, said = self.images["examined"], list[str]()
        if count == 1:
            said.append("One image: nothing here has an interval, and another image may look otherwise.")
        elif count < FEW:
            said.append(f"Only {count} images: intervals are rough. Take this for a first look; give {FEW} or more.")
        if not self.found and not self.outliers["images_affected"]:
            high = wilson(0, count, 0.95)[1]
            said.append(
                f"No image of {count} has an outlier patch; by this number alone, up to {100 * high:.0f} % of such "
                "images may have some (95 % Wilson interval)."
            )
        if self.images.get("same_images"):
            said.append("There are so few images that neurons were looked for and moved in the same ones.")
        if self.model["random"]:
            said.append("The weights are random: this says nothing about a trained model.")
        if self.model["note"]:
            said.append(f"The model was {self.model['note']}.")
        return said

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "verdict": self.verdict, "cautions": self.cautions, "found": self.found}


def percent(share: float) -> str:
    """A share in percent, as a person writes it."""
    return f"{100 * share:.2f} %"


def diagnose(found: Examination, pictures: Pictures, threads: int) -> Diagnosis:
    """All numbers of an examination."""
    repair = found.repair
    statistics = found.config.statistics
    return Diagnosis(
        model=_model(found),
        images={
            "source": pictures.source,
            "found": pictures.found,
            "examined": len(found.rows),
            "left_out": pictures.broken,
            "credits": pictures.credits,
            "same_images": bool(repair and repair.same_images),
            "with_sinks": len(found.sink_rows),
            "checked": 0 if repair is None else len(repair.rows),
        },
        settings={
            **asdict(found.settings),
            **found.config.detection.model_dump(mode="json", exclude={"threshold", "images", "top_k", "split"}),
            "confidence": statistics.confidence,
            "resamples": statistics.resamples,
            "precision": found.config.precision,
            "device": found.config.device,
            "threads": threads,
        },
        outliers=found.judged.result,
        layers=_layers(found),
        sinks=_sinks(found),
        neurons=[] if repair is None else repair.neurons,
        detection={} if repair is None else _detection(repair.result),
        doses=[] if repair is None else [asdict(dose) for dose in repair.doses],
        effects=[] if repair is None else effects(found, repair),
        reason=found.reason,
    )


def _model(found: Examination) -> dict[str, Any]:
    """What the model is."""
    backbone, metadata = found.backbone, found.backbone.metadata
    weights = metadata.get("weights", {})
    return {
        "name": backbone.name,
        "source": metadata.get("source", metadata.get("kind")),
        "architecture": metadata.get("architecture"),
        "weights": weights,
        "random": "seed" in weights,
        "note": metadata.get("note"),
        "parameters": sum(p.numel() for p in backbone.module.parameters()),
        "blocks": backbone.depth,
        "width": backbone.width,
        "heads": int(backbone.blocks[0].attn.num_heads),  # type: ignore[union-attr, arg-type]
        "cls": backbone.layout.cls,
        "registers": backbone.layout.registers,
        "grid": list(backbone.layout.grid),
        "patch": list(backbone.patch),
        "input": list(backbone.preprocess.size),
    }


def _layers(found: Examination) -> list[Layer]:
    """Patch norms by block."""
    norms, layers = found.first.norms, found.judged.layers
    rows = []
    for layer in range(norms.shape[1]):
        of_block = norms[:, layer].astype(float)
        median, p99 = (float(value) for value in np.quantile(of_block, (0.5, 0.99)))
        largest = float(of_block.max())
        ratio = largest / max(median, 1e-12)
        rows.append(Layer(layer, median, p99, largest, ratio, layers.thresholds[layer], layers.shares[layer]))
    return rows


def _sinks(found: Examination) -> list[Sink]:
    """Attention sinks by block, as the pipeline's reader left them (fesser2026)."""
    arrays, layout = found.sinks, found.first.layout
    limits = found.judged.layers.thresholds if found.judged.found else None
    artifact = artifacts(found.first.arrays["norms"][found.sink_rows], layout, limits)
    kinds = kinds_of(arrays["sink_tokens"].astype(np.int64), layout, artifact)[..., 0]
    return [
        Sink(
            layer,
            float(arrays["sink_shares"][:, layer, 0].mean()),
            float(arrays["sink_medians"][:, layer].mean()),
            float((arrays["sink_queries"][:, layer] >= np.float32(SINK_QUERIES)).mean()),
            {name: float((kinds[:, layer] == kind).mean()) for kind, name in enumerate(KINDS)},
        )
        for layer in range(kinds.shape[1])
    ]


def _detection(result: dict[str, Any]) -> dict[str, Any]:
    """What detection says of the neurons taken, without the list."""
    return {name: value for name, value in result.items() if name != "neurons"}


# When a head has a sink, in words.
SINK = f"{100 * SINK_QUERIES:.0f} % of tokens give one token {100 * SINK_ATTENTION:.0f} % of their attention or more"
