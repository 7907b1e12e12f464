"""The passes: the model as it is, then, where it has outliers, for their neurons, and with these moved.

All is measured by what the pipeline measures with. Neurons are looked for in every other image, and what moving them
does is measured on the others: nothing is repaired on the images that the repair was chosen on.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from vit_registers.doctor.pictures import NAME, SPLIT
from vit_registers.doctor.watched import Watched
from vit_registers.extraction.plan import Rows
from vit_registers.forward.readers.attention import AttentionRows
from vit_registers.forward.readers.base import Arrays, Reader
from vit_registers.forward.readers.norms import EmbeddingNorms, NeighbourCosines, Norms
from vit_registers.forward.readers.sinks import AttentionSinks
from vit_registers.forward.readers.tokens import Tokens
from vit_registers.interventions.base import Applied, applied
from vit_registers.interventions.kinds.append import Append, AppendedTokens
from vit_registers.interventions.kinds.test_time_registers import MovedNeurons, TestTimeRegisters
from vit_registers.models.backbone import Backbone
from vit_registers.models.layout import TokenLayout
from vit_registers.params.passes import Detection
from vit_registers.params.statistics import Statistics
from vit_registers.pipeline.configs import DetectConfig
from vit_registers.registers import detect
from vit_registers.registers.detect import Judged, Neuron, PatchNorms, Scored
from vit_registers.registers.neurons import ranking

BATCH = {"cpu": 4}  # images at a time, so that the bar moves
ELSEWHERE = 16
SPLIT_FROM = 8  # images; of fewer, neurons are looked for and moved in the same ones
DOSES = (1, 2, 4, 8, 16, 32, 64)  # neurons that are moved, to find out how many are needed
DOSED = 8  # images with outliers on which that is tried
SINK_IMAGES = 16  # spread over all, in whose attention sinks are looked for: that doubles the time of a pass
LEFT = 0.05  # of the outliers, at most: enough neurons are moved
BEFORE, ZERO, MOVED = "as it is", "zero tokens", "test-time registers"


@dataclass(frozen=True)
class Settings:
    """How to look.

    ``threshold``: times the median norm of a block, above which a patch is an outlier. ``neurons``: how many register
    neurons are moved; None for the fewest of :data:`DOSES` that take the outliers away. ``tokens`` are appended.
    """

    threshold: float = 3.0
    neurons: int | None = None
    tokens: int = 1
    seed: int = 0

    def config(self, backbone: Backbone, images: int) -> DetectConfig:
        """Detection as the embedded study has it, but for what is said here."""
        detection = Detection(
            split=SPLIT,
            images=images,
            threshold_rule="ratio",
            threshold=self.threshold,
            outlier_layer="any",
            highest_layer="arising",
            score="activation",
            top_k=self.neurons or 1,
            minimum_share=1e-3,
            sparsity="off",
            sparsity_tokens="patches",
            bootstrap=200,
        )
        device = backbone.device.type
        return DetectConfig(
            seed=self.seed,
            device=device,
            dataset=NAME,
            model=backbone.name,
            batch_size=BATCH.get(device, ELSEWHERE),
            memory_mb=2000,  # not asked, as the batches have a size
            precision="fp32",
            detection=detection,
            statistics=Statistics(confidence=0.95, resamples=2000),
        )


@dataclass(frozen=True)
class Pass:
    """What readers kept of images under one condition, by the names of :mod:`vit_registers.forward.readers`."""

    layout: TokenLayout
    arrays: Arrays

    @property
    def norms(self) -> NDArray[np.float32]:
        """Of patches, at the output of every block (m, layers, p)."""
        return np.asarray(self.arrays["norms"][:, :, self.layout.patch_slice])

    @property
    def attention(self) -> NDArray[np.float32] | None:
        """Of [CLS], on patches, mean over heads (m, layers, p); None where there is no [CLS]."""
        if not self.layout.cls:
            return None
        return np.asarray(self.arrays["attention"][:, :, 0, self.layout.patch_slice], dtype=np.float32)

    @property
    def summary(self) -> NDArray[np.float32]:
        """What stands for an image (m, d): [CLS] after the final norm, the mean patch where there is none."""
        return np.asarray(self.arrays["cls" if self.layout.cls else "patch_mean"])

    def of(self, rows: Rows) -> "Pass":
        """The same of some images only."""
        return replace(self, arrays={name: array[rows] for name, array in self.arrays.items()})


class Smoothness(Reader):
    """Cosine of each patch after the final norm with its neighbours, as :class:`NeighbourCosines` of embeddings."""

    def __init__(self, backbone: Backbone, layout: TokenLayout) -> None:
        self.patches, self.cosines = layout.patch_slice, NeighbourCosines(backbone, layout)

    @override
    def final(self, tokens: Any) -> None:
        self.cosines.embedding(tokens[:, self.patches])

    @override
    def take(self) -> Arrays:
        return self.cosines.take()


@dataclass(frozen=True)
class Dose:
    """Share of the patches that stay outliers with so many ``neurons`` moved."""

    neurons: int
    share: float


@dataclass(frozen=True)
class Repair:
    """The neurons, and what was measured with them moved, on images ``rows``.

    ``neurons``: layer, index, score and the share of resamples that have it among the best. ``result``: what detection
    says of them. ``doses``: of the images that they were looked for in, whose share of outliers was ``before``; empty
    where their number was given. ``passes``: by condition.
    """

    neurons: list[tuple[int, int, float, float]]
    result: dict[str, Any]
    doses: list[Dose]
    before: float
    rows: Rows
    same_images: bool
    passes: dict[str, Pass]


@dataclass(frozen=True)
class Examination:
    """All that was measured. ``repair`` is None where there are no outliers, or no neuron fires at them: ``reason``.

    ``sinks``: arrays of attention sinks of the images ``sink_rows``.
    """

    backbone: Backbone
    settings: Settings
    config: DetectConfig
    first: Pass
    sinks: Arrays
    sink_rows: Rows
    judged: Judged
    repair: Repair | None = None
    reason: str | None = None
    rows: Rows = field(default_factory=lambda: np.arange(0))


def examine(backbone: Backbone, images: Watched, count: int, settings: Settings) -> Examination:
    """Examine a model on ``count`` images; what cannot be measured is refused by the first pass."""
    cfg, rows = settings.config(backbone, count), np.arange(count)
    first, sinks, sink_rows = _first(backbone, images, cfg, rows)
    norms = PatchNorms(first.norms, first.arrays["embedding_norms"])
    detect.refuse_not_finite(cfg, norms)
    judged = detect.judge(cfg, norms)
    reason = judged.result.get("reason")
    found = Examination(backbone, settings, cfg, first, sinks, sink_rows, judged, reason=reason, rows=rows)
    if not judged.found:
        return found
    repaired = _repair(found, images)
    return replace(found, reason=repaired) if isinstance(repaired, str) else replace(found, repair=repaired)


def _repair(found: Examination, images: Watched) -> Repair | str:
    """The neurons, and what moving them does; or why there are none."""
    backbone, cfg, settings, judged = found.backbone, found.config, found.settings, found.judged
    same = len(found.rows) < SPLIT_FROM
    finding, checking = (found.rows, found.rows) if same else (found.rows[::2], found.rows[1::2])
    affected = judged.affected[finding]
    with images.phase("neurons at outliers", int(affected.sum())):
        scores = detect.neuron_scores(cfg, backbone, images, finding, affected, judged.layers)
    dosed = finding[affected][:DOSED]
    before = float(judged.tokens.positions[dosed].mean()) if len(dosed) else 0.0
    doses = [] if settings.neurons else _doses(found, images, scores, dosed, before)
    count = settings.neurons or enough(doses, before)
    detection = cfg.detection.model_copy(update={"top_k": count})
    asked = cfg.model_copy(update={"detection": detection})
    result, ranked = detect.rank(asked, scores, detect.planted_neurons(backbone))
    if "reason" in result:
        return str(result["reason"])
    neurons = [(layer, index, score, frequency) for _, layer, index, score, frequency in ranked[:count]]
    moved = _moved([(layer, index) for layer, index, _, _ in neurons], settings)
    conditions: dict[str, Applied] = {ZERO: AppendedTokens(Append(tokens=settings.tokens)), MOVED: moved}
    passes = {BEFORE: found.first.of(checking)}
    for name, intervention in conditions.items():
        passes[name] = _pass(backbone, images, cfg, checking, intervention, f"with {name}", READERS)
    return Repair(neurons, {"highest_layer": scores.highest, **result}, doses, before, checking, same, passes)


def _moved(neurons: Sequence[Neuron], settings: Settings) -> MovedNeurons:
    """Test-time registers as the paper has them."""
    return MovedNeurons(TestTimeRegisters(tokens=settings.tokens), tuple(neurons))


def _doses(found: Examination, images: Watched, scores: Scored, rows: Rows, before: float) -> list[Dose]:
    """Outliers that are left with more and more neurons moved, until next to none are."""
    backbone, layers = found.backbone, found.judged.layers
    firing = int((scores.whole > 0.0).sum())
    order = ranking(scores.whole, DOSES[-1])
    doses: list[Dose] = []
    for count in (dose for dose in DOSES if dose <= firing):
        if doses and doses[-1].share <= LEFT * before:
            break
        moved = _moved(order[:count], found.settings)
        norms = _norms(backbone, images, found.config, rows, moved, f"{count} neurons moved")
        doses.append(Dose(count, float((norms[:, layers.layer] > layers.threshold).mean())))
    return doses


def enough(doses: Sequence[Dose], before: float) -> int:
    """The fewest neurons that leave nearly no outliers, else those that leave the fewest; 1 where none was tried."""
    if not doses:
        return 1
    return next((d for d in doses if d.share <= LEFT * before), min(doses, key=lambda d: (d.share, d.neurons))).neurons


def _norms(
    backbone: Backbone, images: Watched, cfg: DetectConfig, rows: Rows, intervention: Applied, what: str
) -> NDArray[np.float32]:
    """Norms of patches (m, layers, p) under an intervention."""
    with applied(backbone, intervention), images.phase(what, len(rows)):
        return detect.patch_norms(cfg, backbone, images, rows).blocks


def _first(backbone: Backbone, images: Watched, cfg: DetectConfig, rows: Rows) -> tuple[Pass, Arrays, Rows]:
    """The model as it is on all images, and arrays of attention sinks of some, with the rows of these."""
    count = min(SINK_IMAGES, len(rows))
    looked = rows[np.arange(count) * len(rows) // count]
    others = np.setdiff1d(rows, looked)
    kinds = [*READERS, EmbeddingNorms]
    first = _pass(backbone, images, cfg, looked, None, "attention sinks", [*kinds, AttentionSinks])
    sinks = {name: array for name, array in first.arrays.items() if name.startswith("sink_")}
    arrays = {name: array for name, array in first.arrays.items() if name not in sinks}
    if len(others):
        rest = _pass(backbone, images, cfg, others, None, "the model as it is", kinds).arrays
        order = np.argsort(np.concatenate([looked, others]))
        arrays = {name: np.concatenate([array, rest[name]])[order] for name, array in arrays.items()}
    return Pass(first.layout, arrays), sinks, looked


READERS: list[Any] = [Norms, AttentionRows, Tokens, Smoothness]


def _pass(
    backbone: Backbone,
    images: Watched,
    cfg: DetectConfig,
    rows: Rows,
    intervention: Applied | None,
    what: str,
    kinds: Sequence[Any],
) -> Pass:
    """Pass images under an intervention, for readers of some ``kinds``."""
    found: dict[str, list[NDArray[Any]]] = defaultdict(list)

    def keep(readers: Sequence[Reader]) -> None:
        for name, array in (item for reader in readers for item in reader.take().items()):
            found[name].append(array)

    with applied(backbone, intervention) as layout, images.phase(what, len(rows)):
        detect.passed(cfg, backbone, images, rows, lambda: [kind(backbone, layout) for kind in kinds], keep)
    return Pass(layout, {name: np.concatenate(arrays) for name, arrays in found.items()})
