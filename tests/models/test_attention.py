"""Summaries of attention against softmax maps that are built whole, in float64; and the interceptor."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.backends import cuda

from vit_registers.models import attention
from vit_registers.models.attention import CHUNK, Attention, Call, Interceptor, fused, log_sum_exp

# The kernel's exponentials are less exact in half precision, and so is its log-sum-exp.
TOLERANCES = {torch.float64: 1e-5, torch.float32: 1e-5, torch.bfloat16: 2e-4, torch.float16: 2e-4}


def whole_map(q, k):
    logits = q.double() @ k.double().transpose(-1, -2) / q.shape[-1] ** 0.5
    return logits.softmax(dim=-1)


@pytest.mark.parametrize(
    ("tokens", "dtype"),
    [
        *((tokens, torch.float32) for tokens in (1, 17, CHUNK, CHUNK + 1)),
        *((2 * CHUNK + 3, dtype) for dtype in TOLERANCES),
    ],
    ids=str,
)
def test_without_a_kernel_the_log_sum_exp_is_the_kernels(tokens, dtype):
    draw = torch.Generator().manual_seed(tokens)
    q, k, v = (3.0 * torch.randn(2, 2, tokens, 16, generator=draw, dtype=torch.float64) for _ in range(3))
    q, k, v = (x.to(dtype) for x in (q, k, v))
    _, kernel = fused(q, k, v, 0.25)
    fallback = log_sum_exp(q, k, 0.25)
    exact = (q.double() @ k.double().transpose(-1, -2) * 0.25).logsumexp(-1)
    torch.testing.assert_close(fallback.double(), exact, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(kernel.double(), exact, rtol=1e-6, atol=TOLERANCES[dtype])


def test_huge_logits_overflow_nothing():
    draw = torch.Generator().manual_seed(0)
    q, k, v = (100.0 * torch.randn(1, 1, 9, 16, generator=draw) for _ in range(3))
    for lse in (fused(q, k, v, 0.25)[1], log_sum_exp(q, k, 0.25)):
        rows = Attention(q, k, v, lse, 0.25).full()
        torch.testing.assert_close(rows.sum(-1), torch.ones(1, 1, 9), rtol=0, atol=1e-2)
        assert rows.argmax(-1).tolist() == whole_map(q, k).argmax(-1).tolist()


@pytest.mark.parametrize(
    ("name", "takes", "gives"),
    [
        ("_scaled_dot_product_flash_attention_for_cpu", ["query", "key", "value"], ["output", "logsumexp"]),
        ("_scaled_dot_product_flash_attention", ["query", "key", "value"], ["output", "logsumexp"]),
        (
            "_scaled_dot_product_efficient_attention",
            ["query", "key", "value", "attn_bias", "compute_log_sumexp"],
            ["output", "log_sumexp"],
        ),
    ],
)
def test_torchs_private_operators_take_and_give_what_the_tap_relies_on(name, takes, gives):
    schema = getattr(torch.ops.aten, name).default._schema
    assert [argument.name for argument in schema.arguments][: len(takes)] == takes
    assert "scale" in [argument.name for argument in schema.arguments if argument.kwarg_only]
    assert [result.name for result in schema.returns][:2] == gives
    required = [a.name for a in schema.arguments if not a.has_default_value()]
    assert required == takes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_on_cpu_the_kernel_is_used_and_gives_torchs_own_output(dtype):
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 33, 8, generator=draw).to(dtype) for _ in range(3))
    out, lse = fused(q, k, v, 0.5)
    assert lse.shape == (2, 3, 33)
    assert torch.equal(out, F.scaled_dot_product_attention(q, k, v, scale=0.5))


FLASH, EFFICIENT = "_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention"


@pytest.mark.parametrize(
    ("can_flash", "can_efficient", "width", "missing", "expected"),
    [
        (True, True, 16, None, FLASH),
        (True, True, 20, None, EFFICIENT),  # the flash operator by itself takes multiples of 8
        (False, True, 16, None, EFFICIENT),  # fp32, or an old device
        (True, True, 16, FLASH, EFFICIENT),
        (True, False, 20, None, None),
        (False, True, 16, EFFICIENT, None),
        (False, False, 16, None, None),
    ],
)
def test_on_cuda_the_kernel_is_one_that_torch_has_for_the_tensors(
    monkeypatch, can_flash, can_efficient, width, missing, expected
):
    """On tensors without content: which operator is called, and that its padding is taken off, need no device."""
    called = []

    class Operators:
        def __getattr__(self, name):
            if name == missing:
                raise AttributeError(name)
            called.append(name)
            return getattr(torch.ops.aten, name)

    monkeypatch.setattr(cuda, "can_use_flash_attention", lambda asked: can_flash)
    monkeypatch.setattr(cuda, "can_use_efficient_attention", lambda asked: can_efficient)
    monkeypatch.setattr(attention, "operators", Operators)
    with FakeTensorMode():
        q, k, v = (torch.empty(2, 3, 17, width, dtype=torch.float16, device="cuda") for _ in range(3))
        found = fused(q, k, v, 0.25)
    if expected is None:
        assert found is None
    else:
        out, lse = found
        assert called[-1] == expected
        assert out.shape == (2, 3, 17, width)
        assert lse.shape == (2, 3, 17)


def test_on_another_device_there_is_no_kernel():
    q = torch.empty(2, 3, 17, 8, device="meta")
    assert fused(q, q, q, 0.25) is None


# --- the interceptor -------------------------------------------------------------------------------------------------


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 0.3},
        {"is_causal": True},
        {"attn_mask": torch.ones(5, 5, dtype=torch.bool).tril()},
        {"attn_mask": normal(5, 5)},
        {"dropout_p": 0.5},
    ],
    ids=str,
)
def test_a_call_that_is_passed_on_is_the_one_that_was_made(options):
    q, k, v = normal(3, 2, 4, 5, 8)
    torch.manual_seed(1)
    expected = F.scaled_dot_product_attention(q, k, v, **options)
    torch.manual_seed(1)
    with Interceptor(Call.output):
        assert torch.equal(F.scaled_dot_product_attention(q, k, v, **options), expected)


def test_grouped_queries_are_passed_on_too():
    q, k, v = normal(2, 4, 5, 8), normal(2, 2, 5, 8), normal(2, 2, 5, 8)
    expected = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    with Interceptor(Call.output):
        assert torch.equal(F.scaled_dot_product_attention(q, k, v, enable_gqa=True), expected)


@pytest.mark.parametrize(
    ("options", "plain"),
    [
        ({}, True),
        ({"scale": 0.3}, True),
        ({"is_causal": True}, False),
        ({"attn_mask": torch.ones(5, 5, dtype=torch.bool)}, False),
        ({"dropout_p": 0.5}, False),
    ],
    ids=str,
)
def test_only_self_attention_without_mask_and_dropout_is_plain(options, plain):
    q, k, v = normal(3, 2, 4, 5, 8)
    assert Call(q, k, v, **options).plain == plain
    assert not Call(q[:, :, :1], k, v, **options).plain  # a query that pools


def test_nothing_but_attention_is_intercepted_and_the_context_ends():
    q, k, v = normal(3, 2, 4, 5, 8)
    calls = []

    def attend(call):
        calls.append(call)
        return torch.zeros_like(call.value)

    with Interceptor(attend):
        assert torch.equal(F.softmax(q, -1), q.softmax(-1))
        assert not F.scaled_dot_product_attention(q, key=k, value=v).any()
    assert [call.key is k for call in calls] == [True]
    assert F.scaled_dot_product_attention(q, k, v).any()
    assert len(calls) == 1


def test_of_two_interceptors_the_outer_sees_what_the_inner_passes_on():
    q, k, v = normal(3, 2, 4, 5, 8)
    outer, inner = [], []

    def noting(calls):
        return lambda call: calls.append(call) or call.output()

    with Interceptor(noting(outer)):
        with Interceptor(noting(inner)):
            F.scaled_dot_product_attention(q, k, v)
        with Interceptor(lambda call: call.measured()[0]):
            found = F.scaled_dot_product_attention(q, k, v)
    assert (len(outer), len(inner)) == (1, 1)
    assert torch.equal(found, F.scaled_dot_product_attention(q, k, v))


def test_there_is_one_interceptor_in_the_package():
    """Of two, the inner would keep the outer from seeing what both intercept."""
    files = Path(attention.__file__).parents[1].rglob("*.py")
    assert [file.name for file in files if "(TorchFunctionMode)" in file.read_text()] == ["attention.py"]
