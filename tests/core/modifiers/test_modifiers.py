"""Each modifier equals a loop and the published equations, in training and evaluation."""

import numpy as np
import pytest
import torch
from cell_table import CELLS, MISFITS, MODIFIED, MODIFY, H, I, learned, make_modified, make_random
from parity import by_hand, close, form, leaves, random, random_state, same, some_resets
from truth import sigma

from seqcells import (
    DropConnect,
    Recurrent,
    RecurrentDropout,
    Stack,
    VariationalDropout,
    Zoneout,
    backend,
    trace,
)
from seqcells.kernels import cpu

T, B = 6, 3
LENGTHS = [4, 6, 0]
EVERY_PAIR = pytest.mark.parametrize(("modifier", "kind"), MODIFIED)
ORDER = [*MODIFY, *CELLS]
# Every modifier and every cell in both directions, every pair of them in one.
DIRECTED = [
    pytest.param(*pair, reverse, marks=[] if quick == reverse else pytest.mark.slow)
    for pair in MODIFIED
    for quick in [sum(map(ORDER.index, pair)) % 2 == 1]
    for reverse in (False, True)
]


@pytest.mark.parametrize(("modifier", "kind", "reverse"), DIRECTED)
def test_outputs_and_final_state_equal_a_loop(modifier, kind, reverse):
    """With lengths, resets and a carried state; `trace` returns the same."""
    cell = make_modified(modifier, kind)
    run, inputs, state = Recurrent(cell, reverse=reverse), random(T, B, I), random_state(cell, B)
    resets = some_resets(T, B)
    noise = run.noise(inputs, state)
    found = run(inputs, state, LENGTHS, resets, noise)
    expected = by_hand(cell, inputs, state, LENGTHS, resets, reverse, noise)
    close(found[0], expected[0])
    close(leaves(found[1]), expected[1])
    traced = trace(run, inputs, state, LENGTHS, resets, noise)
    close([traced.outputs, *leaves(traced.final_state)], [found[0], *leaves(found[1])])
    assert list(traced.gates) == list(cell.gates)
    if modifier not in ("learned",):
        plain = Recurrent(innermost(cell), reverse=reverse)(inputs, state, LENGTHS, resets)[0]
        assert not torch.allclose(plain, found[0])


def innermost(cell):
    while hasattr(cell, "cell"):
        cell = cell.cell
    return cell


@EVERY_PAIR
def test_a_call_draws_what_noise_draws_under_the_same_seed(modifier, kind):
    cell = make_modified(modifier, kind)
    run, inputs = Recurrent(cell), random(T, B, I)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(run(inputs)[0])
    torch.manual_seed(1)
    same(run(inputs, noise=run.noise(inputs))[0], results[0])
    same(results[1], results[0])
    assert torch.equal(results[2], results[0]) == (modifier == "learned")


@EVERY_PAIR
def test_evaluation_is_deterministic(modifier, kind):
    cell = make_modified(modifier, kind).eval()
    run, inputs = Recurrent(cell), random(T, B, I)
    before = torch.get_rng_state()
    same(run(inputs), run(inputs))
    assert torch.equal(torch.get_rng_state(), before)
    if "zoneout" not in repr(cell).lower() and modifier != "learned":
        same(run(inputs), Recurrent(innermost(cell))(inputs))


@pytest.mark.parametrize(("modifier", "kind"), MISFITS)
def test_a_cell_without_what_is_modified_raises(modifier, kind):
    with pytest.raises(TypeError, match=r"expected a cell .*got .*Cell"):
        make_modified(modifier, kind)


# The equations, column-major: states (H, 1), inputs (I, 1).


def lstm(P, state, x, noise):
    d, drop, zone, D = noise
    h, c = state
    z = P["weight_ih"] @ x + P["bias_ih"] + (D * P["weight_hh"]) @ (d * h) + P["bias_hh"]
    i, f, g, o = np.split(z, 4)
    new_c = sigma(f) * c + sigma(i) * (drop * np.tanh(g))
    new_h = sigma(o) * np.tanh(new_c)
    return zone[0] * h + (1 - zone[0]) * new_h, zone[1] * c + (1 - zone[1]) * new_c


def gru(P, state, x, noise):
    d, drop, zone, D = noise
    (h,) = state
    xr, xz, xn = np.split(P["weight_ih"] @ x + P["bias_ih"], 3)
    hr, hz, hn = np.split((D * P["weight_hh"]) @ (d * h) + P["bias_hh"], 3)
    n = np.tanh(xn + sigma(xr + hr) * hn)
    new = (1 - sigma(xz + hz)) * (drop * n) + sigma(xz + hz) * h
    return (zone[0] * h + (1 - zone[0]) * new,)


def gru_reset_before(P, state, x, noise):
    d, drop, zone, D = noise
    (h,) = state
    xr, xz, xn = np.split(P["weight_ih"] @ x + P["bias_ih"], 3)
    Wr, Wz, Wn = np.split(D * P["weight_hh"], 3)
    br, bz, bn = np.split(P["bias_hh"], 3)
    r, z = sigma(xr + Wr @ (d * h) + br), sigma(xz + Wz @ (d * h) + bz)
    n = np.tanh(xn + Wn @ (r * d * h) + bn)
    new = (1 - z) * (drop * n) + z * h
    return (zone[0] * h + (1 - zone[0]) * new,)


def column(tensor):
    return tensor.detach().reshape(-1, 1).numpy()


def numbers(noise, t, parts):
    """Return one step's noise for a batch of one in NumPy; missing noise changes nothing."""
    hidden, candidate = (
        1.0 if part is None else column(part[t] if part.dim() == 3 else part) for part in noise[:2]
    )
    zone = [0.0] * parts
    if noise.zone is not None:
        zone = [column(part[t] if part.dim() == 3 else part) for part in leaves(noise.zone)]
    return hidden, candidate, zone, 1.0 if noise.weight_hh is None else noise.weight_hh.numpy()


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("equations", [lstm, gru, gru_reset_before])
@pytest.mark.parametrize("modifier", MODIFY)
def test_outputs_equal_the_published_equations(modifier, equations, training):
    cell = make_modified(modifier, equations.__name__).train(training)
    run, inputs = Recurrent(cell), random(T, 1, I)
    noise = run.noise(inputs)
    outputs, final = run(inputs, noise=noise)
    P = {name: value.detach().numpy() for name, value in innermost(cell).named_parameters()}
    P = {name: value if value.ndim == 2 else value[:, None] for name, value in P.items()}
    starts = [part for name, part in cell.named_parameters() if name.split(".")[-1][:5] == "start"]
    state = tuple(column(part) for part in starts or leaves(cell.initial_state(1)))
    for t in range(T):
        state = equations(P, state, column(inputs[t]), numbers(noise, t, len(state)))
        close(outputs[t, 0], torch.from_numpy(state[0][:, 0]))
    close([part[0] for part in leaves(final)], [torch.from_numpy(part[:, 0]) for part in state])


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_the_order_of_modifiers_does_not_matter(kind):
    cell, inputs = make_random(kind, I, H), random(T, B, I)
    one = Recurrent(Zoneout(RecurrentDropout(DropConnect(cell, 0.3), 0.3), 0.3))
    other = Recurrent(DropConnect(Zoneout(RecurrentDropout(cell, 0.3), 0.3), 0.3))
    noise = one.noise(inputs)
    assert [part is None for part in noise] == [part is None for part in other.noise(inputs)]
    same(one(inputs, noise=noise), other(inputs, noise=noise))


def test_the_same_modifier_twice():
    cell, inputs = make_random("lstm", I, H), random(T, B, I)
    twice = Recurrent(Zoneout(Zoneout(cell, 0.2), (0.5, 0.0)).eval())
    once = Recurrent(Zoneout(cell, (1 - 0.8 * 0.5, 0.2)).eval())
    close(twice(inputs), once(inputs))
    factor = Recurrent(VariationalDropout(VariationalDropout(cell, 0.5), 0.5)).noise(inputs).hidden
    assert set(factor.unique().tolist()) == {0.0, 4.0}


@pytest.mark.parametrize(
    ("modifier", "kind"),
    [(m, k) for m, k in MODIFIED if k in ("lstm", "lstm_proj", "gru_reset_before", "min_gru")],
)
@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
def test_gradients_equal_finite_differences(modifier, kind, check):
    """For inputs, state, every parameter and the noise itself, with lengths and resets."""
    cell = make_modified(modifier, kind)
    run, inputs = Recurrent(cell), random(3, 2, I)
    state, noise = leaves(random_state(cell, 2)), run.noise(inputs)
    drawn = []
    noise.map(lambda part: drawn.append(part.clone()))
    names = {name: parameter.detach() for name, parameter in run.named_parameters()}
    resets = torch.tensor([[0, 0], [0, 1], [0, 0]], dtype=torch.bool)

    def call(inputs, *rest):
        parts = iter(rest)
        hx = form(cell.initial_state(2), [next(parts) for _ in state])
        own = noise.map(lambda part: next(parts))
        arguments = (inputs, hx, [3, 2], resets, own)
        outputs, final = torch.func.functional_call(run, dict(zip(names, parts)), arguments)
        return outputs, *leaves(final)

    points = [inputs, *state, *drawn, *names.values()]
    points = [point.requires_grad_() for point in points]
    assert check(call, points, fast_mode=True)


def test_both_directions_in_a_stack():
    pair = [make_modified("composed", "lstm"), make_modified("zoneout", "gru")]
    stack, inputs, resets = Stack([pair]), random(T, B, I), some_resets(T, B)
    noise = stack.noise(inputs)
    outputs, final = stack(inputs, None, LENGTHS, resets, noise)
    for n, cell in enumerate(pair):
        state = cell.initial_state(B)
        expected = by_hand(cell, inputs, state, LENGTHS, resets, n == 1, noise[0][n])
        close(outputs.chunk(2, -1)[n], expected[0])
        close(leaves(final[0][n]), expected[1])
    assert not torch.equal(stack(inputs)[0], outputs)


@pytest.mark.skipif(cpu.unavailable() is not None, reason="no native code on this machine")
@pytest.mark.parametrize("kind", ["lstm", "gru", "lstm_proj"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_kernel_runs_modifiers_that_change_no_step(training, kind):
    """Masked weights, a learned initial state, and in evaluation dropout, which does nothing."""
    cell = DropConnect(learned(make_random(kind, I, H)), 0.4)
    cell = (cell if training else VariationalDropout(cell, 0.4)).train(training)
    run, inputs, resets = Recurrent(cell), random(T, B, I), some_resets(T, B)
    noise, results = run.noise(inputs), []
    for name in ("reference", "cpu"):
        with backend(name):
            outputs, final = run(inputs, None, LENGTHS, resets, noise)
            (outputs.sum() + sum(part.square().sum() for part in leaves(final))).backward()
        gradients = [parameter.grad for parameter in run.parameters()]
        results.append([outputs, *leaves(final), *gradients])
        run.zero_grad()
    close(*results)
