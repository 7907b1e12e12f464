"""Halves that break no pair, and random neurons like those found: against slow versions, and one image at a time."""

import math
import statistics
from collections import Counter

import pytest
import torch

from helpers.interventions import assert_by_hand, passed, slow_move, some_statistics
from vit_registers.core.errors import InputError
from vit_registers.forward.hooks import second_linear
from vit_registers.interventions import neuron_sets
from vit_registers.interventions.base import Known, NotApplicable, layout_under
from vit_registers.interventions.kinds.test_time_registers import MovedNeurons, TestTimeRegisters

NAMES = (0, "shapes", "vit", "random")
FOUND = ((1, 5), (0, 7), (1, 2), (1, 90))
REGISTERS = {"found": True, "top_k": 4, "neurons": [[layer, index, 1.0] for layer, index in FOUND]}
HIDDEN = 128


def paired(backbone, layer, first, second, times=-1.0):
    """Make the second neuron write ``times`` what the first one writes."""
    weight = second_linear(backbone, layer).weight
    weight[:, second] = times * weight[:, first]


def resolved(backbone, statistics=None, registers=REGISTERS, **settings):
    return TestTimeRegisters(tokens=2, **settings).resolve(backbone, Known(registers, statistics, NAMES))


@pytest.mark.parametrize("name", ["dinov2", "dinov3", "clip", "swiglu_packed"])
def test_an_output_column_is_what_one_unit_of_activation_adds(make, pixels, by_hand, name):
    backbone = make(name, torch.float64)

    def more(layer, a):
        a = a.clone()
        a[3, 17] += float(layer == 1)
        return a

    before = by_hand(backbone, pixels[0].double()).outputs[1]
    after = by_hand(backbone, pixels[0].double(), change_activation=more).outputs[1]
    column = neuron_sets.output_columns(backbone, 1)[:, 17].double()
    torch.testing.assert_close(after[3] - before[3], column, rtol=0, atol=1e-6)


# --- half ------------------------------------------------------------------------------------------------------------


def test_without_pairs_half_are_the_first_in_the_ranking(make):
    backbone = make("dinov2")
    assert neuron_sets.half(backbone, FOUND) == FOUND[:2]
    assert neuron_sets.half(backbone, FOUND[:3]) == FOUND[:1]
    assert neuron_sets.pairs_together(backbone, FOUND) == [(one,) for one in FOUND]


def test_a_neuron_that_writes_the_opposite_comes_along(make):
    backbone = make("dinov2")
    paired(backbone, 1, 5, 90)
    assert neuron_sets.half(backbone, FOUND) == ((1, 5), (1, 90))
    assert neuron_sets.pairs_together(backbone, FOUND) == [((1, 5), (1, 90)), ((0, 7),), ((1, 2),)]
    assert resolved(backbone, neurons="half").neurons == ((1, 5), (1, 90))


def test_neurons_that_write_the_same_or_in_other_layers_are_no_pair(make):
    backbone = make("dinov2")
    paired(backbone, 1, 5, 90, times=1.0)
    weights = [second_linear(backbone, layer).weight for layer in (0, 1)]
    weights[0][:, 7] = -weights[1][:, 5]
    assert neuron_sets.half(backbone, FOUND) == FOUND[:2]


def test_half_of_a_single_pair_is_not_applicable(make):
    backbone = make("dinov2")
    paired(backbone, 1, 5, 2)
    only = REGISTERS | {"top_k": 2, "neurons": [[1, 5, 2.0], [1, 2, 1.0]]}
    assert isinstance(resolved(backbone, registers=only, neurons="half"), NotApplicable)
    assert neuron_sets.half(backbone, ((1, 5), (0, 7), (1, 2))) == ()  # the pair alone would be more than a half


# --- random ----------------------------------------------------------------------------------------------------------


def sets_of(backbone, count=200, matched_on=(), statistics=None, names=NAMES):
    drawn = neuron_sets.random_neurons(backbone, FOUND, list(matched_on), statistics, names)
    return [drawn.draw(row) for row in range(count)]


@pytest.mark.parametrize("matched_on", [(), ("activation",), ("output_norm",), ("activation", "output_norm")])
def test_random_neurons_are_as_many_others_of_the_same_layers(make, matched_on):
    backbone = make("dinov2")
    for drawn in sets_of(backbone, matched_on=matched_on, statistics=some_statistics(backbone)):
        assert Counter(layer for layer, _ in drawn) == {0: 1, 1: 3}
        assert len(set(drawn)) == 4
        assert not set(drawn) & set(FOUND)
        assert all(0 <= index < HIDDEN for _, index in drawn)


def test_every_other_neuron_is_as_likely(make):
    drawn = [index for one in sets_of(make("dinov2"), 2000) for layer, index in one if layer == 1]
    times = Counter(drawn)
    assert len(times) == HIDDEN - 3
    share = 3 / 125
    assert max(abs(n - 2000 * share) for n in times.values()) < 4.5 * math.sqrt(2000 * share * (1 - share))


def test_a_set_belongs_to_the_image_and_the_condition(make):
    backbone = make("dinov2")
    sets = sets_of(backbone)
    assert len(set(sets)) > 190
    assert sets_of(backbone)[:9] == sets[:9]
    assert sets_of(backbone, names=(*NAMES[:3], "another"))[:9] != sets[:9]
    assert sets_of(backbone, names=(1, *NAMES[1:]))[:9] != sets[:9]


def slowly_nearest(values, neuron, others, count):
    """The ``count`` of ``others`` whose logarithms of all ``values`` are nearest to the neuron's, in deviations."""
    logs = [[math.log(max(v, 1e-12)) for v in of_quantity] for of_quantity in values]
    spread = [statistics.stdev(of_quantity) for of_quantity in logs]

    def distance(other):
        return math.hypot(*((log[other] - log[neuron]) / sd for log, sd in zip(logs, spread, strict=True)))

    return set(sorted(others, key=distance)[:count])


@pytest.mark.parametrize("matched_on", [("activation",), ("output_norm",), ("activation", "output_norm")])
def test_matched_neurons_are_drawn_from_those_most_like_the_one_they_stand_for(make, matched_on):
    backbone = make("dinov2")
    known = some_statistics(backbone)
    columns = neuron_sets.output_columns(backbone, 0)
    values = {"activation": known.neuron_activity[0].tolist(), "output_norm": columns.norm(dim=0).tolist()}
    others = [i for i in range(HIDDEN) if i != 7]
    expected = slowly_nearest([values[q] for q in matched_on], 7, others, neuron_sets.NEAREST)
    drawn = {index for one in sets_of(backbone, 600, matched_on, known) for layer, index in one if layer == 0}
    assert drawn == expected


def test_matched_neurons_are_nearer_than_random_ones_and_unlike_matches_widen_the_choice(make):
    backbone = make("dinov2")
    known = some_statistics(backbone)
    log = known.neuron_activity[1].double().log()

    def gap(matched_on):
        indices = [index for one in sets_of(backbone, 100, matched_on, known) for layer, index in one if layer == 1]
        return float((log[indices].mean() - log[[5, 2, 90]].mean()).abs())

    assert gap(["activation"]) < 0.5 * gap([])
    many = tuple((1, index) for index in range(60))  # as many as each other: the windows overlap, and none is empty
    drawn = neuron_sets.random_neurons(backbone, many, ["activation"], known, NAMES).draw(0)
    assert len(set(drawn)) == 60
    assert all(index >= 60 for _, index in drawn)


def test_what_cannot_be_drawn_is_refused_by_name(make):
    backbone = make("dinov2")
    many = tuple((1, index) for index in range(65))
    with pytest.raises(InputError, match="layer 1 of 'dinov2' has 128 neurons, fewer than twice the 65 found there"):
        neuron_sets.random_neurons(backbone, many, [], None, NAMES)
    with pytest.raises(InputError, match="condition 'random' matches neurons on their activation; calibrate first"):
        resolved(backbone, neurons="random", matched_on=["activation"])
    assert TestTimeRegisters(tokens=1, neurons="random", matched_on=["activation"]).calibrated
    assert not TestTimeRegisters(tokens=1, neurons="random", matched_on=["output_norm"]).calibrated


def test_likeness_is_what_sets_have_over_what_those_found_have(make):
    backbone = make("dinov2")
    known = some_statistics(backbone)
    sets = [((0, 1), (1, 2), (1, 3), (1, 4)), FOUND]
    found = neuron_sets.likeness(backbone, FOUND, sets, known)

    def slow(values):
        means = [statistics.fmean(values(*neuron) for neuron in neurons) for neurons in (sets[0], FOUND)]
        return means[0] / means[1]

    activity = slow(lambda layer, index: float(known.neuron_activity[layer, index]))
    norm = slow(lambda layer, index: float(neuron_sets.output_columns(backbone, layer)[:, index].norm()))
    assert found["activation"] == pytest.approx([activity, 1.0])
    assert found["output_norm"] == pytest.approx([norm, 1.0])
    assert neuron_sets.likeness(backbone, FOUND, sets, None).keys() == {"output_norm"}


def test_likeness_says_where_nothing_can_be_matched(make):
    """Neurons that write a hundred times as much as any other have no match, and the record says so."""
    backbone = make("dinov2")
    for layer, index in FOUND:
        second_linear(backbone, layer).weight[:, index] *= 100.0
    how = resolved(backbone, neurons="random", matched_on=["output_norm"], draws="each_image")
    assert len(how.likeness["output_norm"]) == neuron_sets.COMPARED
    assert max(how.likeness["output_norm"]) < 0.1
    assert how.described()["likeness"] == how.likeness
    assert len(resolved(backbone, neurons="random").likeness["output_norm"]) == 1
    assert resolved(backbone).likeness is None


# --- moved -----------------------------------------------------------------------------------------------------------


def test_one_set_for_all_images_or_one_for_each(make):
    backbone = make("dinov2")
    one = resolved(backbone, neurons="random")
    assert len(one.neurons) == 4
    assert one.drawn is None
    each = resolved(backbone, neurons="random", draws="each_image")
    assert each.neurons == ()
    assert each.layers == one.layers == [0, 1]
    assert one.described() != each.described()
    assert each.described() == resolved(backbone, neurons="random", draws="each_image").described()
    assert (
        each.described()
        != resolved(backbone, neurons="random", draws="each_image", matched_on=["output_norm"]).described()
    )


@pytest.mark.parametrize("name", ["dinov2_reg4", "swiglu_packed"])
def test_each_image_has_its_own_set_moved_whatever_its_batch(make, pixels, by_hand, name):
    backbone = make(name, torch.float64)
    registers = REGISTERS | {"neurons": [[1, 5, 4.0], [0, 7, 3.0], [1, 2, 2.0], [1, 11, 1.0]]}
    how = resolved(backbone, registers=registers, neurons="random", draws="each_image")
    rows = [40, 3, 17, 4, 90]
    layout = layout_under(backbone, how)
    whole = passed(backbone, pixels.double(), how, rows)[1]
    for image, row in enumerate(rows):
        own = how.drawn.draw(row)

        def change(layer, a, own=own):
            neurons = [index for at, index in own if at == layer]
            return slow_move(a, neurons, layout, how.how) if neurons else a

        expected = by_hand(backbone, pixels[image].double(), appended=2, change_activation=change)
        torch.testing.assert_close(whole[image], expected.final, rtol=0, atol=1e-10)
    alone = passed(backbone, pixels[2:4].double(), how, rows[2:4])[1]
    torch.testing.assert_close(alone, whole[2:4], rtol=0, atol=1e-10)


def test_half_of_pairs_is_moved_as_its_neurons_are(make, pixels, by_hand):
    backbone = make("dinov2", torch.float64)
    paired(backbone, 1, 5, 90)
    how = resolved(backbone, neurons="half")
    assert how == MovedNeurons(how.how, ((1, 5), (1, 90)))
    layout = layout_under(backbone, how)

    def change(layer, a):
        return slow_move(a, [5, 90], layout, how.how) if layer == 1 else a

    assert_by_hand(backbone, pixels.double(), how, by_hand, 2, change_activation=change)
