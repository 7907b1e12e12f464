"""A planted model, the same without its neurons, and models of all families, against slow and obvious numbers."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import by_hand
from helpers.interventions import slow_move
from helpers.passes import FAMILIES, NORM_AFTER_POOLING, make_backbone, one_image
from vit_registers.core.errors import InputError
from vit_registers.core.prose import plural
from vit_registers.data.images import load_image
from vit_registers.doctor import pictures
from vit_registers.doctor.command import neurons_of
from vit_registers.doctor.diagnosis import Diagnosis, diagnose, percent
from vit_registers.doctor.examine import BEFORE, MOVED, ZERO, Dose, Examination, Settings, enough, examine
from vit_registers.doctor.watched import Watched
from vit_registers.extraction.images import Images
from vit_registers.interventions.kinds.test_time_registers import TestTimeRegisters
from vit_registers.models import backbone as backbones
from vit_registers.models.layout import TokenLayout
from vit_registers.registers import detect

PLANTED = [(1, 3), (1, 40)]


class Given:
    """Normalised images in memory."""

    def __init__(self, images):
        self.images = images

    def batches(self, numbers):
        return (self.images[torch.from_numpy(rows)] for rows in numbers)


def examined(made: Path, name: str, most: int = 50, **settings) -> tuple[Examination, Diagnosis]:
    backbone = backbones.load(made / "models" / name)
    seen = pictures.read(made / "images", most)
    images = Watched(Images(seen.manifest, backbone.preprocess), quiet=True)
    found = examine(backbone, images, len(seen.manifest.table), Settings(**settings))
    return found, diagnose(found, seen, 1)


def norms_by_hand(made: Path, name: str) -> np.ndarray:
    """Patch norms (images, blocks, patches), one image at a time: behind [CLS] and one register."""
    backbone = backbones.load(made / "models" / name)
    passes = [one_image(backbone, backbone.preprocess(load_image(p))) for p in sorted((made / "images").iterdir())]
    return np.array([[[float(t.norm()) for t in out[2:]] for out in one.outputs] for one in passes])


@pytest.fixture(scope="module")
def planted(made: Path) -> tuple[Examination, Diagnosis]:
    return examined(made, "planted")


@pytest.fixture(scope="module")
def plain(made: Path) -> tuple[Examination, Diagnosis]:
    return examined(made, "plain")


def effect(diagnosis: Diagnosis, name: str, condition: str) -> float:
    return next(each for each in diagnosis.effects if each.name == name).conditions[condition].value


def test_the_planted_neurons_are_found_and_no_more_are_taken(planted) -> None:
    diagnosis = planted[1]
    assert diagnosis.found
    assert sorted((layer, index) for layer, index, _, _ in diagnosis.neurons) == PLANTED
    assert all(frequency > 0.98 for *_, frequency in diagnosis.neurons)  # some resamples have no outlier
    assert [diagnosis.detection[name] for name in ("precision", "recall")] == [1.0, 1.0]
    assert diagnosis.detection["stability"] > 0.98
    assert diagnosis.detection["highest_layer"] == 1
    assert [dose["neurons"] for dose in diagnosis.doses] == [1, 2]
    assert diagnosis.doses[1]["share"] == 0.0


def test_outliers_are_those_counted_by_hand_block_by_block(made: Path, planted) -> None:
    diagnosis, norms = planted[1], norms_by_hand(made, "planted")
    for layer in diagnosis.layers:
        of_block = norms[:, layer.layer]
        assert layer.median == pytest.approx(np.median(of_block), rel=1e-5)
        assert layer.largest_ratio == pytest.approx(of_block.max() / np.median(of_block), rel=1e-5)
        assert layer.share == pytest.approx((of_block > 3 * np.median(of_block)).mean())
    above = norms[:, 2] > 3 * np.median(norms[:, 2])
    assert diagnosis.outliers["first_layer"] == 1
    assert diagnosis.outliers["share"] == pytest.approx(above.mean())
    assert diagnosis.outliers["images_affected"] == above.any(axis=1).sum()
    assert set(np.flatnonzero(above.any(axis=0))) == set(by_hand.TAGGED)


def test_registers_take_the_outliers_away_and_zero_tokens_do_not(planted) -> None:
    found, diagnosis = planted
    before, zero, moved = (effect(diagnosis, "Outlier patches", name) for name in (BEFORE, ZERO, MOVED))
    assert found.repair is not None
    assert before == zero == pytest.approx(found.judged.tokens.positions[found.repair.rows].mean())
    assert moved == 0.0
    assert effect(diagnosis, "Largest patch norm", MOVED) < 0.2 * effect(diagnosis, "Largest patch norm", BEFORE)
    # In this model tokens do not attend to each other, so that [CLS] stays what it was.
    assert effect(diagnosis, "[CLS] against the model as it is", MOVED) == pytest.approx(1.0, abs=1e-6)


def test_what_is_repaired_was_not_chosen_on_the_images_of_the_measurement(planted) -> None:
    found, diagnosis = planted
    assert found.repair is not None
    assert found.repair.rows.tolist() == [1, 3, 5, 7, 9, 11, 13]
    assert diagnosis.images["same_images"] is False
    assert diagnosis.detection["images_ranked"] == found.judged.affected[::2].sum()


def test_of_a_few_images_all_serve_for_both_and_that_is_said(made: Path) -> None:
    found, diagnosis = examined(made, "planted", most=4)
    assert diagnosis.images["examined"] == 4
    assert diagnosis.images["same_images"] is True
    assert "There are so few images that neurons were looked for and moved in the same ones." in diagnosis.cautions
    assert found.repair is not None
    assert len(found.repair.rows) == 4
    assert diagnosis.cautions[0].startswith("Only 4 images: intervals are rough.")


def test_a_single_image_has_no_intervals(made: Path) -> None:
    _, diagnosis = examined(made, "planted", most=1)
    assert all(e.interval is None for effect in diagnosis.effects for e in effect.conditions.values())
    assert diagnosis.cautions[0].startswith("One image: nothing here has an interval")
    assert "interval" not in diagnosis.verdict


def test_the_verdict_of_the_planted_model_says_all_of_it_in_one_line(planted) -> None:
    diagnosis = planted[1]
    affected, share = diagnosis.outliers["images_affected"], diagnosis.outliers["share"]
    low, high = diagnosis.outliers["share_interval"]
    assert diagnosis.verdict == (
        f"planted has outlier tokens at 32x32 pixels: {percent(share)} of the patches (95 % interval {percent(low)} to "
        f"{percent(high)}) in {affected} of 14 images exceed 3 times the median norm, from block 1 of 3 on, counted "
        f"from 0; 1 test-time register for 2 neurons of block 1 takes them away: 0.00 % of the patches are outliers "
        f"then, {percent(effect(diagnosis, 'Outlier patches', ZERO))} with a zero token instead."
    )


def test_a_model_without_outliers_is_told_so_with_the_largest_ratio(made: Path, plain) -> None:
    found, diagnosis = plain
    norms = norms_by_hand(made, "plain")
    ratios = norms.max(axis=(0, 2)) / np.median(norms, axis=(0, 2))
    assert (diagnosis.found, found.repair, diagnosis.neurons, diagnosis.effects) == (False, None, [], [])
    assert diagnosis.verdict == (
        f"plain has no outlier tokens at 32x32 pixels: the largest patch norm is {ratios.max():.2f} times the median "
        f"of its block (block {ratios.argmax()} of 3, from 0); register neurons were not sought."
    )
    assert diagnosis.cautions[1] == (
        "No image of 14 has an outlier patch; by this number alone, up to 22 % of such images may have some (95 % "
        "Wilson interval)."
    )


def test_a_few_patches_above_the_threshold_are_too_few_and_told(made: Path, plain) -> None:
    """The threshold between the largest and the next patch norm of all: one patch of 224 exceeds it."""
    norms = norms_by_hand(made, "plain")
    ratios = norms / np.median(norms, axis=(0, 2))[None, :, None]
    ordered = np.sort(ratios[:, 2].ravel())
    found, _ = examined(made, "plain", threshold=float(ordered[-3:-1].mean()))
    assert found.judged.result["share"] >= 1e-3  # of so few patches one is enough
    config = found.config.model_copy(
        update={"detection": found.config.detection.model_copy(update={"minimum_share": 0.5})}
    )
    judged = detect.judge(config, detect.PatchNorms(found.first.norms, found.first.arrays["embedding_norms"]))
    diagnosis = diagnose(
        replace(found, config=config, judged=judged, repair=None, reason=judged.result["reason"]),
        pictures.read(made / "images", 50),
        1,
    )
    assert "of the patches exceed" in diagnosis.verdict
    assert "too few to count; register neurons were not sought." in diagnosis.verdict


def test_the_number_of_neurons_can_be_given(made: Path) -> None:
    _, diagnosis = examined(made, "planted", neurons=3)
    assert len(diagnosis.neurons) == 3
    assert diagnosis.doses == []
    assert diagnosis.detection["precision"] == pytest.approx(2 / 3)


def test_half_of_the_neurons_leaves_the_outliers_and_the_verdict_says_so(made: Path) -> None:
    _, diagnosis = examined(made, "planted", neurons=1)
    assert effect(diagnosis, "Outlier patches", MOVED) > 0.0
    assert "1 test-time register for 1 neuron of block 1 leaves most of them:" in diagnosis.verdict


def test_more_registers_are_spoken_of_as_several(made: Path) -> None:
    _, diagnosis = examined(made, "planted", tokens=2)
    assert "; 2 test-time registers for 2 neurons of block 1 take them away: 0.00 % of" in diagnosis.verdict


@pytest.mark.parametrize(
    ("shares", "expected"),
    [([], 1), ([0.0], 1), ([0.3, 0.01], 2), ([0.3, 0.2, 0.25], 2), ([0.4, 0.4, 0.4], 1), ([0.5, 0.021, 0.02], 4)],
)
def test_the_fewest_neurons_are_taken_that_leave_a_twentieth(shares: list[float], expected: int) -> None:
    doses = [Dose(2**i, share) for i, share in enumerate(shares)]
    assert enough(doses, 0.4) == expected


@pytest.mark.parametrize("family", [*FAMILIES, *NORM_AFTER_POOLING])
def test_every_family_is_examined_and_what_is_said_is_json(family: str, made: Path) -> None:
    backbone = make_backbone(family)
    images = Given(torch.randn(9, 3, 32, 48, generator=torch.Generator().manual_seed(1)))
    found = examine(backbone, Watched(images, quiet=True), 9, Settings(threshold=1.1))
    diagnosis = diagnose(found, pictures.read(made / "images", 9), 1)
    json.loads(json.dumps(diagnosis.to_json()), parse_constant=pytest.fail)
    assert diagnosis.found
    names = [each.name for each in diagnosis.effects]
    assert ("Attention of [CLS] on the outliers, last block" in names) is bool(backbone.layout.cls)
    assert sum(diagnosis.sinks[0].tokens.values()) == pytest.approx(1.0)


def by_hand_of(backbone, image, neurons: list[tuple[int, int]], condition: str):
    """A pass of an image under a condition, a number at a time."""
    how, layout = TestTimeRegisters(tokens=1), backbone.layout.with_appended(1)

    def changed(layer: int, a):
        chosen = [index for at, index in neurons if at == layer]
        return slow_move(a, chosen, layout, how) if chosen else a

    if condition == BEFORE:
        return one_image(backbone, image)
    return one_image(backbone, image, appended=1, **({"change_activation": changed} if condition == MOVED else {}))


def neighbours(tokens, layout: TokenLayout) -> float:
    """Mean cosine of patches with those below and to the right."""
    grid = tokens[layout.patch_slice].reshape(*layout.grid, -1).tolist()
    found = []
    for row in range(layout.grid[0]):
        for column in range(layout.grid[1]):
            for other in ((row + 1, column), (row, column + 1)):
                if other[0] < layout.grid[0] and other[1] < layout.grid[1]:
                    a, b = grid[row][column], grid[other[0]][other[1]]
                    product = sum(x * y for x, y in zip(a, b, strict=True))
                    found.append(product / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b)))
    return sum(found) / len(found)


def test_what_registers_change_is_what_it_is_by_hand() -> None:
    """A random model, half of whose patches are called outliers; every number from one image at a time."""
    backbone = make_backbone("dinov2_reg4")
    images = torch.randn(10, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    found = examine(backbone, Watched(Given(images), quiet=True), 10, Settings(threshold=1.05, neurons=3))
    diagnosis = diagnose(found, pictures.read(None, 1), 1)
    assert found.repair is not None
    neurons = [(layer, index) for layer, index, _, _ in found.repair.neurons]
    layer, limit, patches = found.judged.layers.layer, found.judged.layers.threshold, backbone.layout.patch_slice
    rows = [1, 3, 5, 7, 9]
    values: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        before = by_hand_of(backbone, images[row], neurons, BEFORE)
        outliers = before.outputs[layer][patches].norm(dim=-1) > limit
        for condition in (BEFORE, ZERO, MOVED):
            one = by_hand_of(backbone, images[row], neurons, condition)
            norms = one.outputs[layer][patches].norm(dim=-1)
            given = one.maps[-1].mean(0)[0, patches].tolist()
            shares = [share / sum(given) for share in given]
            cls, own = one.final[0], before.final[0]
            for name, value in {
                "Outlier patches": float((norms > limit).float().mean()),
                "Largest patch norm": float(norms.max()),
                "Attention of [CLS] on the outliers, last block": sum(
                    share for share, above in zip(given, outliers.tolist(), strict=True) if above
                ),
                "Patches that [CLS] attends to, last block": math.exp(-sum(s * math.log(s) for s in shares)),
                "Cosine of neighbouring patches": neighbours(one.final, backbone.layout),
                "[CLS] against the model as it is": float(cls @ own / (cls.norm() * own.norm())),
            }.items():
                values.setdefault((name, condition), []).append(value)
    for (name, condition), expected in values.items():
        assert effect(diagnosis, name, condition) == pytest.approx(np.mean(expected), rel=2e-3, abs=1e-5), name
    for each in diagnosis.effects:
        if each.change is not None:
            difference = np.mean(values[each.name, MOVED]) - np.mean(values[each.name, ZERO])
            assert each.change.value == pytest.approx(difference, rel=2e-2, abs=1e-4)
    assert effect(diagnosis, "[CLS] against the model as it is", MOVED) < 0.9999


def test_sinks_are_those_of_whole_attention_maps() -> None:
    backbone = make_backbone("deit3_reg4")
    images = torch.randn(3, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    found = examine(backbone, Watched(Given(images), quiet=True), 3, Settings(threshold=100.0))
    diagnosis = diagnose(found, pictures.read(None, 1), 1)
    for sink in diagnosis.sinks:
        maps = [one_image(backbone, image).maps[sink.layer] for image in images]
        means = torch.stack([of.mean((0, 1)) for of in maps])  # (image, token)
        assert sink.attention == pytest.approx(float(means.max(1).values.mean()), rel=1e-4)
        kinds = ["cls" if t == 0 else "registers" if t < 5 else "patches" for t in means.argmax(1).tolist()]
        assert sink.tokens == {k: kinds.count(k) / 3 for k in ("cls", "registers", "artifacts", "patches")}


def test_sinks_are_looked_for_in_some_images_spread_over_all() -> None:
    """What is measured of all is in the order of the images, whichever pass it comes from."""
    backbone = make_backbone("dinov2")
    images = torch.randn(19, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    found = examine(backbone, Watched(Given(images), quiet=True), 19, Settings(threshold=100.0))
    assert found.sink_rows.tolist() == [i * 19 // 16 for i in range(16)]
    assert len(found.sinks["sink_tokens"]) == 16
    for row in (0, 2, 6, 18):  # some of both
        expected = torch.stack([out[1:].norm(dim=-1) for out in one_image(backbone, images[row]).outputs])
        np.testing.assert_allclose(found.first.norms[row], expected, rtol=1e-4)


def test_a_model_that_overflows_is_refused(made: Path) -> None:
    backbone = backbones.load(made / "models" / "plain")
    backbone.blocks[2].mlp.fc2.bias[5] = np.inf  # type: ignore[union-attr, index]
    seen = pictures.read(made / "images", 50)
    images = Watched(Images(seen.manifest, backbone.preprocess), quiet=True)
    with pytest.raises(InputError, match="norms of model 'plain' on 'images' are not finite in 14 of 14 images"):
        examine(backbone, images, 14, Settings())


def test_neurons_that_are_saved_say_what_they_were_found_in(planted) -> None:
    neurons = neurons_of(*planted)
    assert sorted(neurons.places) == PLANTED
    assert (neurons.model, neurons.blocks, neurons.width) == ("planted", 3, 64)
    assert neurons.threshold == planted[0].judged.layers.threshold
    assert neurons.settings["outlier_layer"] == 2
    assert neurons.settings["stability"] == planted[1].detection["stability"]
    assert plural(len(neurons), "neuron") == "2 neurons"
