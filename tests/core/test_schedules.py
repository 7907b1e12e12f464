import pytest

from vit_registers.core.schedules import cosine, linear


def test_a_cosine_goes_from_the_first_to_the_last_value_which_the_step_after_the_last_would_have():
    assert cosine(1e-3, 1e-4, 0, 100) == pytest.approx(1e-3)
    assert cosine(1e-3, 1e-4, 25, 100) == pytest.approx(1e-4 + 9e-4 * (2 + 2**0.5) / 4)
    assert cosine(1e-3, 1e-4, 50, 100) == pytest.approx(5.5e-4)
    assert cosine(1e-3, 1e-4, 100, 100) == pytest.approx(1e-4)


def test_a_line_has_its_ends_at_the_first_and_the_last_step():
    assert [linear(0.0, 3.0, step, 4) for step in range(4)] == pytest.approx([0.0, 1.0, 2.0, 3.0])
    assert linear(2.0, 3.0, 0, 1) == 2.0
