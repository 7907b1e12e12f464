import pytest
import torch

from vit_registers.core.threads import threads


@pytest.fixture(autouse=True)
def restored():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("fails", [False, True])
def test_the_number_of_threads_is_set_and_set_back(fails):
    def compute():
        with threads(3):
            assert torch.get_num_threads() == 3
            with threads():
                assert torch.get_num_threads() == 1
                if fails:
                    raise ZeroDivisionError
            assert torch.get_num_threads() == 3

    if fails:
        with pytest.raises(ZeroDivisionError):
            compute()
    else:
        compute()
    assert torch.get_num_threads() == 2


def test_it_decorates_a_step():
    @threads()
    def step():
        return torch.get_num_threads()

    assert [step(), torch.get_num_threads(), step()] == [1, 2, 1]
