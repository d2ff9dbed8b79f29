"""RNN, GRU and LSTM equal the published equations: values and gradients."""

import numpy as np
import pytest
import torch
import truth
from parity import close, random

import seqcells

pytestmark = pytest.mark.usefixtures("each_backend")

T, B, I, H = 7, 3, 4, 5  # noqa: E741

# name: (the class, its options, the shapes of its published weights)
SQUARE = {"W": (H, H + I), "b": (H, 1)}
WEIGHTS = {
    "rnn": {"Wa": (H, H + I), "ba": (H, 1)},
    "gru": {n: SQUARE[n[0]] for n in ("Wr", "br", "Wu", "bu", "Wa", "ba")},
    "lstm": {"Wg": (3 * H, H + I), "bg": (3 * H, 1), "Wc": (H, H + I), "bc": (H, 1)},
}
CLASSES = {"rnn": seqcells.RNNCell, "gru": seqcells.GRUCell, "lstm": seqcells.LSTMCell}


def published_weights(kind):
    return {name: random(*shape).numpy() for name, shape in WEIGHTS[kind].items()}


def cell_of(kind, W, **options):
    tensors = {name: torch.from_numpy(value) for name, value in W.items()}
    return CLASSES[kind].from_concatenated(**tensors, **options)


def columns(tensor):
    """Transpose `(B, n)` to the literature's `(n, m)`."""
    return tensor.detach().numpy().T


def agree(found, expected):
    np.testing.assert_allclose(columns(found), expected, rtol=1e-12, atol=1e-12)


def step_of(kind, W, phi=np.tanh):
    return {
        "rnn": lambda a, x: truth.rnn_step(W, a, x, phi),
        "gru": lambda a, x: truth.gru_step(W, a, x),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "phi", "options"),
    [
        ("rnn", np.tanh, {}),
        ("rnn", truth.relu, {"nonlinearity": "relu"}),
        ("gru", np.tanh, {}),
    ],
    ids=["rnn_tanh", "rnn_relu", "gru"],
)
def test_rnn_and_gru_equal_the_equations(kind, phi, options):
    W = {name: value * 0.4 for name, value in published_weights(kind).items()}
    cell, step = cell_of(kind, W, **options), step_of(kind, W, phi)
    inputs, state = random(T, B, I), random(B, H)
    agree(cell(inputs[0], state), step(columns(state), columns(inputs[0])))

    outputs, final = seqcells.Recurrent(cell)(inputs, state)
    a = columns(state)
    for t in range(T):
        a = step(a, columns(inputs[t]))
        agree(outputs[t], a)
    agree(final, a)


def test_lstm_equals_the_equations():
    W = published_weights("lstm")
    cell = cell_of("lstm", W)
    inputs, (h, c) = random(T, B, I), (random(B, H), random(B, H))
    a, c_next, _ = truth.lstm_step(W, columns(h), columns(c), columns(inputs[0]))
    hidden, state = cell(inputs[0], (h, c))
    agree(hidden, a)
    agree(state, c_next)

    outputs, final = seqcells.Recurrent(cell)(inputs, (h, c))
    xs = [columns(x) for x in inputs]
    expected, last, _ = truth.lstm_forward(W, columns(h), columns(c), xs)
    for t in range(T):
        agree(outputs[t], expected[t])
    agree(final.hidden, expected[-1])
    agree(final.cell, last)


def weight_gradients(cell, kind):
    """Return the gradients in the published layout; both biases have the same gradient."""
    close(cell.bias_ih.grad, cell.bias_hh.grad)
    matrix = torch.cat([cell.weight_hh.grad, cell.weight_ih.grad], dim=1)
    bias = cell.bias_ih.grad.unsqueeze(1)
    if kind == "rnn":
        return {"Wa": matrix, "ba": bias}
    (Wi, Wf, Wc, Wo), (bi, bf, bc, bo) = matrix.split(H), bias.split(H)
    return {"Wg": torch.cat([Wi, Wf, Wo]), "bg": torch.cat([bi, bf, bo]), "Wc": Wc, "bc": bc}


def agree_weights(cell, kind, expected):
    for name, value in weight_gradients(cell, kind).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-11, atol=1e-12, err_msg=name)


def test_gradients_of_one_lstm_step_equal_the_equations():
    W = published_weights("lstm")
    cell = cell_of("lstm", W)
    x, h, c = (random(B, size).requires_grad_() for size in (I, H, H))
    da, dc = random(B, H), random(B, H)
    torch.autograd.backward(cell(x, (h, c)), (da, dc))

    _, _, cache = truth.lstm_step(W, columns(h), columns(c), columns(x))
    expected = truth.lstm_step_backward(W, columns(da), columns(dc), cache)
    for leaf, gradient in zip((h, c, x), expected):
        agree(leaf.grad, gradient)
    agree_weights(cell, "lstm", expected[-1])


def test_gradients_of_the_lstm_through_time_equal_the_equations():
    W = published_weights("lstm")
    cell = cell_of("lstm", W)
    x, h, c = (random(*size).requires_grad_() for size in ((T, B, I), (B, H), (B, H)))
    douts, da, dc = random(T, B, H), random(B, H), random(B, H)
    outputs, final = seqcells.Recurrent(cell)(x, (h, c))
    torch.autograd.backward((outputs, *final), (douts, da, dc))

    xs = [columns(step) for step in x]
    _, _, caches = truth.lstm_forward(W, columns(h), columns(c), xs)
    da_prev, dc_prev, dxs, dW = truth.lstm_backward(
        W, [columns(d) for d in douts], columns(da), columns(dc), caches
    )
    agree(h.grad, da_prev)
    agree(c.grad, dc_prev)
    for t in range(T):
        agree(x.grad[t], dxs[t])
    agree_weights(cell, "lstm", dW)


def test_gradients_of_the_rnn_through_time_equal_the_equations():
    W = {name: value * 0.4 for name, value in published_weights("rnn").items()}
    cell = cell_of("rnn", W)
    x, h = random(T, B, I).requires_grad_(), random(B, H).requires_grad_()
    douts, da = random(T, B, H), random(B, H)
    outputs, final = seqcells.Recurrent(cell)(x, h)
    torch.autograd.backward((outputs, final), (douts, da))

    states, da_first, dxs, dW = truth.rnn_backward(
        W, columns(h), [columns(step) for step in x], [columns(d) for d in douts], columns(da)
    )
    agree(h.grad, da_first)
    for t in range(T):
        agree(outputs[t], states[t])
        agree(x.grad[t], dxs[t])
    agree_weights(cell, "rnn", dW)
