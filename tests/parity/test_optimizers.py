"""Updates are those of torch, transformers and bitsandbytes.

Arithmetic in fp32: an update is a handful of operations of 6e-8 each on numbers below 1. The 8-bit tests are
bitsandbytes' own: p = 0.1 N(0, 1), g = 0.01 N(0, 1), lr 1e-3, 50 steps, against the same rule with fp32 state; once with
p and state copied over after every step, which shows the arithmetic, and once running freely, which shows what the
storage costs. bitsandbytes' CPU quantiser is not nearest (it goes through a grid of 65,536 points), so that its codes
are compared by value.
"""

import subprocess

import bitsandbytes as bnb
import pytest
import safetensors.torch
import torch
import transformers
from bitsandbytes.functional import create_dynamic_map

SIGNED, UNSIGNED = create_dynamic_map(signed=True), create_dynamic_map(signed=False)
BLOCK = 256


@pytest.fixture
def update(tool, tmp_path):
    """update(p, gradients, first, *settings, **states): every p after an update, and the last states."""
    def call(p, gradients, first, *settings, **states):
        tensors = {"p": p, **{f"g/{k}": g for k, g in enumerate(gradients)}, **{f"p.{k}": v for k, v in states.items()}}
        safetensors.torch.save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()},
                                    tmp_path / "in.safetensors")
        words = [tool("update_tool"), tmp_path / "in.safetensors", tmp_path / "out.safetensors", first, *settings]
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        # Copies: what is loaded is mapped, and the next call writes the file anew.
        out = {k: v.clone() for k, v in safetensors.torch.load_file(tmp_path / "out.safetensors").items()}
        history = [out.pop(f"p/{k}") for k in range(len(gradients))]
        return history, {k.removeprefix("p."): v for k, v in out.items()}

    return call


def problem(shape, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    p = 0.1 * torch.randn(*shape, generator=generator)
    return p, [0.01 * torch.randn(*shape, generator=generator) for _ in range(steps)]


def theirs(optimizer, p, gradients):
    """Every p after an update."""
    weight = torch.nn.Parameter(p.clone())
    made = optimizer([weight])
    history = []
    for g in gradients:
        weight.grad = g.clone().to(weight.dtype)
        made.step()
        history.append(weight.detach().clone())
    return history, made


SETTINGS = ["bf16=false", "learning_rate=1e-2", "weight_decay=0.1", "max_grad_norm=0"]
RULES = {
    "adamw_torch": (lambda ps: torch.optim.AdamW(ps, lr=1e-2, weight_decay=0.1), []),
    "adafactor": (lambda ps: transformers.optimization.Adafactor(ps, lr=1e-2, weight_decay=0.1, scale_parameter=False,
                                                                 relative_step=False), []),
    "adafactor scaled": (lambda ps: transformers.optimization.Adafactor(
        ps, lr=1e-2, weight_decay=0.1, scale_parameter=True, relative_step=False, clip_threshold=0.5),
        ["optim_args=scale_parameter=true,clip_threshold=0.5"]),
    "adafactor_torch": (lambda ps: torch.optim.Adafactor(ps, lr=1e-2, weight_decay=0.1), []),
    "sgd": (lambda ps: torch.optim.SGD(ps, lr=1e-2, weight_decay=0.1), []),
    "sgd momentum": (lambda ps: torch.optim.SGD(ps, lr=1e-2, weight_decay=0.1, momentum=0.9, nesterov=True),
                     ["optim_args=momentum=0.9,nesterov=true"]),
}


@pytest.mark.parametrize("shape", [(40, 72), (513,)], ids=["matrix", "vector"])
@pytest.mark.parametrize("rule", RULES)
def test_twenty_updates_equal_the_package(update, rule, shape):
    optimizer, words = RULES[rule]
    p, gradients = problem(shape, 20)
    expected, _ = theirs(optimizer, p, gradients)
    ours, _ = update(p, gradients, 1, f"optim={rule.split()[0]}", *SETTINGS, *words)
    for mine, other in zip(ours, expected):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-5)


def test_lion_equals_bitsandbytes(update):
    p, gradients = problem((40, 72), 20)
    expected, _ = theirs(lambda ps: bnb.optim.Lion32bit(ps, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1), p, gradients)
    ours, _ = update(p, gradients, 1, "optim=lion_32bit", "bf16=false", "learning_rate=1e-3", "weight_decay=0.1",
                     "adam_beta2=0.99", "max_grad_norm=0")
    # A sign near zero may fall otherwise, and moves the weight by 2 lr.
    different = (ours[-1] - expected[-1]).abs() > 1e-6 + 1e-5 * expected[-1].abs()
    assert different.sum() <= 15
    assert (ours[-1] - expected[-1]).abs().max() <= 4e-3


def decode(codes, absmax, table):
    scale = absmax.repeat_interleave(BLOCK)[:codes.numel()].view(codes.shape)
    return table[codes.long()] * scale


SHAPES = [(1024, 32), (64, 1024), (32, 4097)]
EIGHT = ["bf16=false", "learning_rate=1e-3", "weight_decay=0", "max_grad_norm=0"]


def adam_fp32(p, m, v, g, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    return p - lr / (1 - beta1**t) * m / (v.sqrt() / (1 - beta2**t)**0.5 + eps), m, v


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rule", ["adamw_bnb_8bit", "adamw_8bit"])
def test_8bit_adam_has_the_arithmetic_of_adam(update, rule, shape):
    p, gradients = problem(shape, 12)
    states = {}
    m = v = torch.zeros(shape)
    for t, g in enumerate(gradients, 1):
        (ours,), states = update(p, [g], t, f"optim={rule}", *EIGHT, **states)
        expected, m, v = adam_fp32(p, m, v, g, t)
        assert (ours - expected).abs().mean() < 1e-9
        stored_m = decode(states["state1"], states["absmax1"], SIGNED)
        stored_v = decode(states["state2"], states["absmax2"], UNSIGNED)
        stored_v = stored_v**2 if rule == "adamw_8bit" else stored_v
        # Half a step of the map at its coarsest, of the block's largest.
        assert ((stored_m - m).abs() > 3e-3 + 1e-3 * m.abs()).sum() < 20
        assert ((stored_v - v).abs() > 3e-3 + 1e-3 * v.abs()).sum() < 20
        p, m, v = ours, stored_m, stored_v


def free_run(update, rule, shape, seed=0):
    """Mean and largest difference to fp32 Adam after 50 updates."""
    p, gradients = problem(shape, 50, seed)
    (*_, ours), _ = update(p, gradients, 1, f"optim={rule}", *EIGHT)
    expected, m, v = p, torch.zeros(shape), torch.zeros(shape)
    for t, g in enumerate(gradients, 1):
        expected, m, v = adam_fp32(expected, m, v, g, t)
    difference = (ours - expected).abs()
    return difference.mean().item(), difference.max().item()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rule", ["adamw_bnb_8bit", "adamw_8bit"])
def test_8bit_adam_stays_near_adam(update, rule, shape):
    mean, largest = free_run(update, rule, shape)
    assert mean < 1.5e-4 and largest < 2e-3
    assert free_run(update, "adamw_torch", shape)[0] < 1e-7


def uneven(shape, steps, sigma, seed):
    """Gradients whose rows and columns differ in size as exp(sigma N(0, 1)), and elements by half as much."""
    p, gradients = problem(shape, steps, seed)
    generator = torch.Generator().manual_seed(seed + 1000)
    rows, columns, elements = (torch.randn(*size, generator=generator) for size in ((shape[0], 1), (1, shape[1]), shape))
    size = (sigma * (rows + columns) + sigma / 2 * elements).exp()
    return p, [size * g for g in gradients]


def uneven_run(update, rule, sigma, seed):
    """What all weights are off after 100 updates, relative to what fp32 Adam moved them; the most a weight is, in lr."""
    start, gradients = uneven((64, 1024), 100, sigma, seed)
    (*_, ours), _ = update(start, gradients, 1, f"optim={rule}", *EIGHT)
    p, m, v = start, torch.zeros_like(start), torch.zeros_like(start)
    for t, g in enumerate(gradients, 1):
        p, m, v = adam_fp32(p, m, v, g, t)
    return ((ours - p).norm() / (p - start).norm()).item(), ((ours - p).abs().max() / 1e-3).item()


def test_the_root_of_v_survives_uneven_gradients(update, record_property):
    """A code of v below its map's smallest step reads as 0, and the update as m / eps; of the root, far later."""
    figures = {}
    for sigma in (0.4, 1.0):
        for rule in ("adamw_bnb_8bit", "adamw_8bit"):
            runs = [uneven_run(update, rule, sigma, seed) for seed in (0, 1)]
            figures[sigma, rule] = [sum(run[0] for run in runs) / 2, max(run[1] for run in runs)]
            record_property(f"{rule} {sigma}", figures[sigma, rule])
            print(f"log-sigma {sigma}, {rule}: off by {figures[sigma, rule][0]:.3f}, a weight by {figures[sigma, rule][1]:.1f} lr")
    # A weight moves by at most about lr an update, 100 in all.
    assert figures[1.0, "adamw_bnb_8bit"][1] > 100
    assert figures[1.0, "adamw_8bit"][1] < 100
    assert figures[1.0, "adamw_8bit"][0] < 0.25 * figures[1.0, "adamw_bnb_8bit"][0]


def test_8bit_adam_stays_near_bitsandbytes(update):
    p, gradients = problem((64, 1024), 10)
    expected, made = theirs(lambda ps: bnb.optim.AdamW8bit(ps, lr=1e-3, weight_decay=0.1), p, gradients)
    ours, states = update(p, gradients, 1, "optim=adamw_bnb_8bit", "bf16=false", "learning_rate=1e-3",
                          "weight_decay=0.1", "max_grad_norm=0")
    (state,) = made.state.values()
    assert state["state1"].dtype == torch.uint8 and state["absmax1"].shape == states["absmax1"].shape
    torch.testing.assert_close(states["absmax1"], state["absmax1"], rtol=2e-2, atol=0)
    torch.testing.assert_close(states["absmax2"], state["absmax2"], rtol=2e-2, atol=0)
    assert (ours[0] - expected[0]).abs().max() < 1e-7  # the first update has no quantised state behind it
    assert (ours[-1] - expected[-1]).abs().mean() < 6e-5


def test_8bit_lion_stays_near_bitsandbytes(update):
    p, gradients = problem((64, 1024), 10)
    expected, _ = theirs(lambda ps: bnb.optim.Lion8bit(ps, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1), p, gradients)
    ours, states = update(p, gradients, 1, "optim=lion_8bit", "bf16=false", "learning_rate=1e-3", "weight_decay=0.1",
                          "adam_beta2=0.99", "max_grad_norm=0")
    assert set(states) == {"state1", "absmax1"}
    # The second update is the first that depends on a code; a sign that falls otherwise moves a weight by 2 lr.
    for k, share in [(0, 0), (1, 0.02), (9, 0.1)]:
        assert ((ours[k] - expected[k]).abs() > 1e-6).float().mean() <= share


@pytest.mark.parametrize("rule", ["adamw_8bit", "adamw_bnb_8bit", "lion_8bit"])
def test_small_tensors_keep_fp32_state(update, rule):
    for count, dtype in [(4095, torch.float32), (4096, torch.uint8)]:
        p, gradients = problem((count,), 1)
        _, states = update(p, gradients, 1, f"optim={rule}", *EIGHT)
        assert states["state1"].dtype == dtype


def test_updates_are_in_fp32_and_rounded_once_to_bf16(update):
    p, gradients = problem((64, 80), 1)
    p, g = p.bfloat16(), gradients[0].bfloat16()
    expected, _, _ = adam_fp32(p.double(), 0, 0, g.double(), 1)
    (ours,), _ = update(p, [g], 1, "optim=adamw_torch", "master_weights=none", "learning_rate=1e-3", "weight_decay=0",
                     "max_grad_norm=0")
    step = 2.0 ** (torch.floor(torch.log2(expected.abs())) - 7)
    assert ((ours.double() - expected).abs() <= step).all()
    assert (ours.double() - expected).mean().abs() < 4 * (step / 2).mean() / p.numel() ** 0.5
