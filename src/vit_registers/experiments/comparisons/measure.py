"""Conditions compared on the same images: differences with intervals, tests, equivalence, and repaired shares.

Every comparison reduces to a difference over all images and in the shared resamples of these. What is tested depends on
what the difference is evidence of: images, where both conditions have one training, or trainings, where there are
several; of one training against another there is no test. All p of a family are adjusted together, those of differences
and those of equivalence each for their number.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from vit_registers.core.errors import InputError
from vit_registers.core.inference import equivalence, error, holm, over_trainings, repaired, wald
from vit_registers.core.seeds import generator
from vit_registers.core.stats import mcnemar_exact, percentiles, sign_flip
from vit_registers.experiments.comparisons.params import Config, Pair
from vit_registers.experiments.job import Job
from vit_registers.experiments.outcomes import Measured, Outcome, Outcomes
from vit_registers.params.condition import BASELINE, Condition

ONE_EACH = "no p: one training against another, the interval is over images alone"


@dataclass(frozen=True)
class Difference:
    """A difference over ``n`` images with its interval, and how it is tested; ``p``: None where it is not.

    ``error`` and ``freedom``: its standard error and degrees of freedom.
    """

    pair: Pair
    measured: Measured
    value: float
    low: float
    high: float
    n: int
    p: float | None
    note: str
    error: float
    freedom: float = np.inf

    @property
    def axes(self) -> dict[str, Any]:
        """Where it stands in the table."""
        axes = _axes(self.pair) | {"feature": self.measured.feature, "head": self.measured.head}
        return axes | ({"trainings": len(self.pair.trainings)} if self.pair.trainings else {})


def run(cfg: Config, job: Job) -> None:
    """Fill a row for each comparison and everything that both sides have been measured of, and what follows from it."""
    models = {model for pair in cfg.pairs for model in pair.models}
    outcomes = Outcomes(cfg, cfg.dataset, cfg.sources, models, job.measures)
    families, shown = dict[str, list[Difference]](), set[Any]()
    for pair in cfg.pairs:
        sides = _pairs_of_sides(pair)
        common = _common(outcomes, pair, sides)
        if not common:
            missing = [str(side) for side in dict.fromkeys(sum(sides, ())) if not outcomes.of(side)]
            reason = f"not measured: {' and '.join(missing)}" if missing else "nothing was measured of both"
            job.rows.absent(["difference"], reason, **_axes(pair))
        for measured in common:
            both = [(outcomes.of(a)[measured], outcomes.of(b)[measured]) for a, b in sides]
            _same_images(pair, measured, [outcome for two in both for outcome in two])
            if pair.trainings:
                found = _over_trainings(cfg, job, pair, measured, both, shown)
            else:
                found = _over_images(cfg, pair, measured, *both[0])
            families.setdefault(pair.family, []).append(found)
            if pair.before is not None and measured in outcomes.of(pair.before):
                _repaired(cfg, job, found, outcomes.of(pair.before)[measured], *both[0])
    for differences in families.values():
        _fill(cfg, job, differences)


def _axes(pair: Pair) -> dict[str, Any]:
    return {
        "family": pair.family,
        "model": pair.a.model,
        "intervention": pair.a.intervention,
        "reference_model": pair.b.model,
        "reference_intervention": pair.b.intervention,
    }


def _pairs_of_sides(pair: Pair) -> list[tuple[Condition, Condition]]:
    """The two conditions, or those of every pair of trainings."""
    if not pair.trainings:
        return [(pair.a, pair.b)]
    return [(pair.a.model_copy(update={"model": a}), pair.b.model_copy(update={"model": b})) for a, b in pair.trainings]


def _common(outcomes: Outcomes, pair: Pair, sides: list[tuple[Condition, Condition]]) -> list[Measured]:
    """What was measured of all sides; of models as they are the frozen heads are the refitted ones, and left out."""
    every = [outcomes.of(side) for two in sides for side in two]
    unchanged = pair.a.intervention == pair.b.intervention == BASELINE
    return [
        measured
        for measured in every[0]
        if all(measured in found for found in every) and not (unchanged and measured.head == "frozen")
    ]


def _same_images(pair: Pair, measured: Measured, outcomes: list[Outcome]) -> None:
    if len({outcome.images for outcome in outcomes}) > 1:
        raise InputError(f"{pair.a} and {pair.b}: {measured.metric} was measured on different images")


def _over_images(cfg: Config, pair: Pair, measured: Measured, a: Outcome, b: Outcome) -> Difference:
    """The difference of two conditions on the same images."""
    resampled = a.sample.resampled - b.sample.resampled
    value = float(np.round(a.sample.value - b.sample.value, 12)) + 0.0  # sums of opposite signs leave -1e-19
    low, high = percentiles(resampled, cfg.statistics.confidence)
    deviation = error(resampled)
    p, note = _test(cfg, pair, measured, a, b, value, deviation) if pair.one_training else (None, ONE_EACH)
    return Difference(pair, measured, value, low, high, a.n, p, note, deviation)


def _test(
    cfg: Config, pair: Pair, measured: Measured, a: Outcome, b: Outcome, value: float, deviation: float
) -> tuple[float, str]:
    """Exact McNemar where an image has one 0/1 outcome; sign flips where it has a number, or several (their mean).

    Of scores of all images together a Wald test, as these have no values by image.
    """
    left, right = a.by_image, b.by_image
    if left is None or right is None:
        return wald(value, deviation), "Wald test with the standard error of resamples"
    single = left.shape[1] == 1 and right.shape[1] == 1
    if single and bool(left.isin([0.0, 1.0]).all(axis=None) and right.isin([0.0, 1.0]).all(axis=None)):
        return mcnemar_exact(left.to_numpy()[:, 0] > 0.5, right.to_numpy()[:, 0] > 0.5), "exact McNemar"
    draw = generator(cfg.seed, "sign flips", cfg.dataset, str(pair.a), str(pair.b), measured.test, measured.metric)
    p = sign_flip((left.mean(axis=1) - right.mean(axis=1)).to_numpy(), cfg.statistics.sign_flips, draw)
    return p, "sign flips" if single else "sign flips of the mean over seeds"


def _over_trainings(
    cfg: Config, job: Job, pair: Pair, measured: Measured, both: list[tuple[Outcome, Outcome]], shown: set[Any]
) -> Difference:
    """The difference over pairs of trainings with the same draws; rows of the means of both sides, each once."""
    n, confidence = both[0][0].n, cfg.statistics.confidence
    ways: dict[str, Any] = {"feature": measured.feature, "head": measured.head, "trainings": len(both)}
    for side, place in ((pair.a, 0), (pair.b, 1)):
        key = (str(side), measured, len(both))
        if key not in shown:
            shown.add(key)
            values = np.array([two[place].sample.value for two in both])
            resampled = np.stack([two[place].sample.resampled for two in both])
            mean = over_trainings(values, resampled, confidence)
            where = {"model": side.model, "intervention": side.intervention, **ways}
            job.rows.add(measured.metric, mean.value, n, low=mean.low, high=mean.high, **where)
    values = np.array([a.sample.value - b.sample.value for a, b in both])
    found = over_trainings(values, np.stack([a.sample.resampled - b.sample.resampled for a, b in both]), confidence)
    note = f"t over {len(both)} pairs of trainings with the same draws, and over images"
    return Difference(pair, measured, found.value, found.low, found.high, n, found.p, note, found.error, found.freedom)


def _repaired(cfg: Config, job: Job, found: Difference, before: Outcome, after: Outcome, control: Outcome) -> None:
    _same_images(found.pair, found.measured, [before, after, control])
    share = repaired(before.sample, after.sample, control.sample, cfg.statistics.confidence)
    axes = {**found.axes, "of": found.measured.metric}
    job.rows.add("repaired_share", share.value, found.n, low=share.low, high=share.high, note=share.reason, **axes)


def _fill(cfg: Config, job: Job, differences: list[Difference]) -> None:
    """Rows of a family: its differences, and whether they are smaller than the margins."""
    alpha = 1.0 - cfg.statistics.confidence
    adjusted = _adjusted([each.p for each in differences])
    margins = [cfg.settings.margins.get(each.measured.metric) if each.p is not None else None for each in differences]
    same = [
        None if margin is None else equivalence(each.value, each.error, margin, each.n, each.freedom)
        for each, margin in zip(differences, margins, strict=True)
    ]
    for each, p, margin, small, small_adjusted in zip(
        differences, adjusted, margins, same, _adjusted(same), strict=True
    ):
        number: dict[str, Any] = {"low": each.low, "high": each.high, "p": each.p, "p_adjusted": p, "note": each.note}
        job.rows.add(each.measured.metric, each.value, each.n, **number, **each.axes)
        if margin is None or p is None or small_adjusted is None:
            continue
        verdict = {
            (True, True): "differs, within margin",
            (True, False): "differs",
            (False, True): "the same",
            (False, False): "open",
        }[p < alpha, small_adjusted < alpha]
        job.rows.add(
            "equivalent",
            float(small_adjusted < alpha),
            each.n,
            p=small,
            p_adjusted=small_adjusted,
            note=f"margin {margin:g}",
            **each.axes,
            of=each.measured.metric,
            verdict=verdict,
        )


def _adjusted(ps: list[float | None]) -> list[float | None]:
    """Holm over the p that there are."""
    found = iter(holm([p for p in ps if p is not None]))
    return [None if p is None else next(found) for p in ps]
