from collections import Counter

import pytest

from vit_registers import params
from vit_registers.core.errors import InputError
from vit_registers.interventions.resolve import Known, NotApplicable, choose, resolve
from vit_registers.interventions.values import Append, Chain, MoveNeurons, Replace, RestrictClsAttention

NAMES = (0, "shapes", "vit", "move")
RANKED = [[1, 5, 9.0], [0, 7, 8.0], [1, 2, 7.0], [1, 90, 6.0], [2, 1, 5.0], [0, 3, 4.0], [2, 2, 3.0], [1, 1, 2.0]]
RANKED += [[2, 9, 1.5], [0, 0, 1.0]]
FOUND = {"found": True, "top_k": 4, "neurons": RANKED}
NONE = {"found": False, "top_k": 4, "neurons": [], "reason": "no artifacts found: 0.00% of the patches"}


def test_the_baseline_is_the_empty_intervention(make):
    assert resolve(None, make("dinov2"), Known(None, None, NAMES)) is None


def test_append_and_zero_need_no_detection(make):
    backbone = make("dinov2_reg4")
    assert resolve(params.Append(kind="append", tokens=3), backbone, Known(None, None, NAMES)) == Append(3)
    zero = params.Replace(kind="replace", tokens="registers", at="last")
    assert resolve(zero, backbone, Known(None, None, NAMES)) == Replace("registers", at="last")


@pytest.mark.parametrize(("name", "tokens"), [("dinov2", "registers"), ("without_cls", "cls")])
def test_zeroing_what_a_model_does_not_have_is_not_applicable(make, name, tokens):
    found = resolve(params.Replace(kind="replace", tokens=tokens), make(name), Known(None, None, NAMES))
    assert found == NotApplicable(f"the model has no {tokens}")


def test_every_setting_of_a_move_is_carried_over(make):
    settings = {
        "tokens": 3,
        "scale": 0.5,
        "patches": "mean",
        "max_over": "layer",
        "max_includes_cls": True,
        "clear_cls": True,
    }
    found = resolve(
        params.MoveNeurons(kind="move", neurons="found", **settings), make("dinov2"), Known(FOUND, None, NAMES)
    )
    assert found == MoveNeurons(neurons=((1, 5), (0, 7), (1, 2), (1, 90)), **settings)


def test_the_defaults_of_params_and_of_the_intervention_agree(make):
    found = resolve(params.MoveNeurons(kind="move", tokens=1), make("dinov2"), Known(FOUND, None, NAMES))
    assert found == MoveNeurons(((1, 5), (0, 7), (1, 2), (1, 90)), 1)


def test_moving_without_detection_is_refused_by_name(make):
    with pytest.raises(InputError, match="condition 'move' moves register neurons; detect them first"):
        resolve(params.MoveNeurons(kind="move", tokens=1), make("dinov2"), Known(None, None, NAMES))


@pytest.mark.parametrize("which", ["found", "half", "next", "random"])
def test_where_detection_found_none_its_reason_is_repeated(make, which):
    source = params.MoveNeurons(kind="move", tokens=1, neurons=which)
    assert resolve(source, make("dinov2"), Known(NONE, None, NAMES)) == NotApplicable(NONE["reason"])


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("found", ((1, 5), (0, 7), (1, 2), (1, 90))),
        ("half", ((1, 5), (0, 7))),
        ("next", ((2, 1), (0, 3), (2, 2), (1, 1))),
    ],
)
def test_ranked_neurons_are_chosen_by_rank(make, which, expected):
    assert choose(which, make("dinov2"), FOUND, NAMES) == expected


def test_random_neurons_are_others_of_the_same_layers_and_depend_on_the_condition(make):
    backbone = make("dinov2")
    draws = [choose("random", backbone, FOUND, (seed, *NAMES[1:])) for seed in range(200)]
    for drawn in draws:
        assert Counter(layer for layer, _ in drawn) == {0: 1, 1: 3}
        assert len(set(drawn)) == 4
        assert not set(drawn) & {(1, 5), (0, 7), (1, 2), (1, 90)}
        assert all(0 <= index < 128 for _, index in drawn)
    assert len({neuron for drawn in draws for neuron in drawn if neuron[0] == 1}) > 100  # of 125, in 600 draws
    assert choose("random", backbone, FOUND, NAMES) == draws[0]
    assert choose("random", backbone, FOUND, (*NAMES[:3], "another")) != draws[0]


def test_the_first_k_of_the_ranking_can_be_moved_instead_of_what_detection_takes(make):
    part = params.MoveNeurons(kind="move", tokens=2, top_k=2)
    assert resolve(part, make("dinov2"), Known(FOUND, None, NAMES)) == MoveNeurons(((1, 5), (0, 7)), 2)
    more = params.MoveNeurons(kind="move", tokens=2, top_k=len(FOUND["neurons"]) + 1)
    with pytest.raises(InputError, match=r"top_k: \d+ neurons, but detection lists \d+; lower it, or raise"):
        resolve(more, make("dinov2"), Known(FOUND, None, NAMES))


def test_replacements_that_draw_have_a_seed_of_their_own_and_others_have_none(make):
    backbone, known = make("dinov2_reg4"), Known(None, None, NAMES)
    zero = params.Replace(kind="replace", tokens="registers")
    patches = params.Replace(kind="replace", tokens="patches")
    assert resolve(zero, backbone, known).seed == 0
    first = resolve(patches, backbone, known)
    assert first.count == 4  # as many as the model has registers
    assert first.seed != resolve(patches, backbone, Known(None, None, (*NAMES[:3], "another"))).seed
    assert resolve(patches, make("dinov2"), known) == NotApplicable(
        "the model has no registers to set the number of patches"
    )


def test_chains_and_restrictions_are_resolved_part_by_part(make):
    known = Known(FOUND, None, NAMES)
    move = params.MoveNeurons(kind="move", tokens=1, top_k=1)
    only = params.RestrictClsAttention(kind="restrict_cls_attention", to="registers")
    both = params.Chain(kind="chain", of=[move, only])
    expected = Chain((MoveNeurons(((1, 5),), 1), RestrictClsAttention("registers")))
    assert resolve(both, make("dinov2"), known) == expected
    assert resolve(only, make("dinov2"), known) == NotApplicable("the model has no registers")
    assert resolve(only, make("without_cls"), known) == NotApplicable("the model has no [CLS]")
    assert resolve(both, make("dinov2"), Known(NONE, None, NAMES)) == NotApplicable(NONE["reason"])
