"""AdamW with 8-bit moments: near fp32 AdamW in bf16, where plain rounding falls behind; saved to the bit."""

import copy

import pytest
import torch

from zoo.training.adam8bit import FIRST, SECOND, AdamW8bit, _keep, _values, round_by_chance

LR, BETA2 = 1e-3, 0.95


def trained(dtype, optimizer, steps=300):
    """Mean squared error after fitting a linear map that needs 1,000 times smaller updates than its weights."""
    torch.manual_seed(0)
    x, weight = torch.randn(256, 64), torch.randn(64, 300)
    y = x @ (weight + 0.1 * torch.randn_like(weight))
    p = torch.nn.Parameter(weight.to(dtype))
    step = optimizer([p])
    for _ in range(steps):
        step.zero_grad()
        loss = ((x @ p.float() - y) ** 2).mean()
        loss.backward()
        step.step()
    return loss.item()


def plain(params):
    return torch.optim.AdamW(params, 1e-4, betas=(0.9, BETA2), weight_decay=0.0)


def ours(params):
    return AdamW8bit(params, 1e-4, BETA2)


def test_it_trains_like_fp32_adamw_where_plain_bf16_does_not():
    full, eight, rounded = (
        trained(torch.float32, plain),
        trained(torch.bfloat16, ours),
        trained(torch.bfloat16, plain),
    )
    start = trained(torch.float32, plain, steps=1)
    assert eight == pytest.approx(full, abs=0.03 * (start - full))
    assert rounded - full > 0.1 * (start - full)


@pytest.mark.parametrize(("levels", "signed"), [(FIRST, True), (SECOND, False)])
def test_moments_are_right_in_the_mean(levels, signed):
    torch.manual_seed(0)
    values = torch.randn(700) * torch.logspace(-2, 0, 700)  # the last block is not full
    values = values if signed else values.square()
    codes, scales, total = torch.zeros(700, dtype=torch.uint8), torch.zeros(3), torch.zeros(700)
    for _ in range(300):
        _keep(values, codes, scales, levels, signed)
        total += _values(codes, scales, levels, signed)
    torch.testing.assert_close(total / 300, values, rtol=0.03, atol=1e-6)


def test_rounding_by_chance_keeps_the_mean_and_what_is_no_number():
    torch.manual_seed(0)
    values = torch.full((200_000,), -1.001)
    assert round_by_chance(values).float().mean().item() == pytest.approx(-1.001, abs=1e-4)
    odd = round_by_chance(torch.tensor([float("nan"), float("inf"), float("-inf"), 0.0, 3.4e38]))
    assert odd[0].isnan()
    assert odd[1:4].tolist() == [float("inf"), float("-inf"), 0.0]


def test_state_survives_a_save_to_the_last_bit(tmp_path):
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.randn(40, 30).bfloat16())
    optimizer = ours([p])
    gradients = [torch.randn_like(p) for _ in range(4)]

    def go(q, step, some):
        for gradient in some:
            q.grad = gradient
            step.step()

    go(p, optimizer, gradients[:2])
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    q = torch.nn.Parameter(p.detach().clone())
    again = ours([q])
    again.load_state_dict(copy.deepcopy(torch.load(tmp_path / "state.pt", weights_only=True)))
    for parameter, step in ((p, optimizer), (q, again)):
        torch.manual_seed(1)
        go(parameter, step, gradients[2:])
    assert torch.equal(p, q)
    assert again.state[q]["second_codes"].dtype == torch.uint8
