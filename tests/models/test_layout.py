"""Token layout: every position of a sequence belongs to exactly one group, in the stated order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_registers.models.layout import TokenLayout

layouts = st.builds(
    TokenLayout,
    st.integers(0, 1),
    st.integers(0, 16),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.integers(0, 8),
)


@given(layouts)
def test_the_groups_name_every_position_once(layout: TokenLayout) -> None:
    sequence = (
        ["cls"] * layout.cls
        + ["register"] * layout.registers
        + ["patch"] * (layout.grid[0] * layout.grid[1])
        + ["appended"] * layout.appended
    )
    assert layout.length == len(sequence)
    for name, group in [
        ("cls", layout.cls_slice),
        ("register", layout.register_slice),
        ("patch", layout.patch_slice),
        ("appended", layout.appended_slice),
    ]:
        assert list(range(layout.length))[group] == [i for i, token in enumerate(sequence) if token == name]
    assert list(layout.specials) == [i for i, token in enumerate(sequence) if token != "patch"]
    assert layout.prefix == sequence.index("patch")


@given(layouts)
def test_json_keeps_everything(layout: TokenLayout) -> None:
    assert TokenLayout.from_json(layout.to_json()) == layout


@pytest.mark.parametrize("tokens", [0, 4])
def test_appending_replaces_what_was_appended(tokens: int) -> None:
    layout = TokenLayout(1, 2, (3, 4), appended=7).with_appended(tokens)
    assert layout == TokenLayout(1, 2, (3, 4), tokens)
    assert TokenLayout.from_json({"cls": 1, "registers": 2, "grid": [3, 4]}) == layout.with_appended(0)
