"""The published equations in NumPy, column-major: states `(n_a, m)`, inputs `(n_x, m)`.

Weights stand on the concatenation `[a, x]`, as published; `W` maps their names to arrays,
matrices `(n, n_a + n_x)` and biases `(n, 1)`.
"""

import numpy as np


def sigma(z):
    return 1 / (1 + np.exp(-z))


def relu(z):
    return np.maximum(z, 0)


def rnn_step(W, a_prev, x, phi=np.tanh):
    return phi(W["Wa"] @ np.concatenate([a_prev, x]) + W["ba"])


def gru_step(W, a_prev, x):
    """The reset before the product."""
    concat = np.concatenate([a_prev, x])
    r = sigma(W["Wr"] @ concat + W["br"])
    u = sigma(W["Wu"] @ concat + W["bu"])
    z = np.tanh(W["Wa"] @ np.concatenate([r * a_prev, x]) + W["ba"])
    return u * z + (1 - u) * a_prev


def lstm_step(W, a_prev, c_prev, x):
    """Returns a, c, and what the backward pass needs."""
    concat = np.concatenate([a_prev, x])
    i, f, o = np.split(sigma(W["Wg"] @ concat + W["bg"]), 3)
    candidate = np.tanh(W["Wc"] @ concat + W["bc"])
    c = i * candidate + f * c_prev
    a = o * np.tanh(c)
    return a, c, (concat, c_prev, i, f, o, candidate, c)


def lstm_step_backward(W, da, dc, cache):
    """From the gradients of a and c to those of a', c', x and of the weights."""
    concat, c_prev, i, f, o, candidate, c = cache
    dc = dc + da * o * (1 - np.tanh(c) ** 2)
    do = da * np.tanh(c) * o * (1 - o)
    di = dc * candidate * i * (1 - i)
    df = dc * c_prev * f * (1 - f)
    dcandidate = dc * i * (1 - candidate**2)
    dgates = np.concatenate([di, df, do])
    dW = {
        "Wg": dgates @ concat.T,
        "bg": dgates.sum(axis=1, keepdims=True),
        "Wc": dcandidate @ concat.T,
        "bc": dcandidate.sum(axis=1, keepdims=True),
    }
    dconcat = W["Wg"].T @ dgates + W["Wc"].T @ dcandidate
    da_prev, dx = np.split(dconcat, [len(da)])
    return da_prev, dc * f, dx, dW


def lstm_forward(W, a, c, xs):
    """Over `xs`, a list of `(n_x, m)`: all a, the last c, and every step's cache."""
    outputs, caches = [], []
    for x in xs:
        a, c, cache = lstm_step(W, a, c, x)
        outputs.append(a)
        caches.append(cache)
    return outputs, c, caches


def lstm_backward(W, da_outputs, da_last, dc_last, caches):
    """Through time, from the gradients of every output and of the final state."""
    da, dc = da_last, dc_last
    total = {name: np.zeros_like(value) for name, value in W.items()}
    dxs = []
    for da_output, cache in zip(reversed(da_outputs), reversed(caches)):
        da, dc, dx, dW = lstm_step_backward(W, da + da_output, dc, cache)
        dxs.insert(0, dx)
        total = {name: total[name] + dW[name] for name in total}
    return da, dc, dxs, total


def rnn_backward(W, a_first, xs, da_outputs, da_last):
    """Through time for the tanh: the forward pass and its gradients."""
    states = [a_first]
    for x in xs:
        states.append(rnn_step(W, states[-1], x))
    da, dWa, dba, dxs = da_last, np.zeros_like(W["Wa"]), np.zeros_like(W["ba"]), []
    for t in reversed(range(len(xs))):
        dz = (da + da_outputs[t]) * (1 - states[t + 1] ** 2)
        dWa += dz @ np.concatenate([states[t], xs[t]]).T
        dba += dz.sum(axis=1, keepdims=True)
        da, dx = np.split(W["Wa"].T @ dz, [len(a_first)])
        dxs.insert(0, dx)
    return states[1:], da, dxs, {"Wa": dWa, "ba": dba}
