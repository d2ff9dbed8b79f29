"""The published equations in NumPy, which every implementation is held to.

Column-major as in the literature: inputs `(I, m)`, states `(H, m)`.

The first part has one function per cell, named for its kernel, on the cell's own parameters:
`equations(P, state, x)` returns the next states and the gates by name. `P` maps names of parameters
to matrices; vectors are columns, and biases may be missing.

The second part has the steps and the backward passes of the RNN, the GRU and the LSTM on the
concatenation `[a, x]`. `W` maps names to matrices `(n, n_a + n_x)` and biases `(n, 1)`.
"""

import numpy as np


def sigma(z):
    return 1 / (1 + np.exp(-z))


def relu(z):
    return np.maximum(z, 0)


def affine(P, which, value):
    """`W v + b`."""
    return P[f"weight_{which}"] @ value + P.get(f"bias_{which}", 0)


def blocks(P, h, x, count):
    """Return the products with the input and the hidden state, gate by gate."""
    from_x = np.split(affine(P, "ih", x), count)
    return zip(from_x, np.split(affine(P, "hh", h), count))


def rows(P, which, count):
    """A parameter gate by gate, or zeros."""
    return np.split(P[which], count) if which in P else [0] * count


def rnn_tanh(P, state, x, phi=np.tanh):
    h = phi(affine(P, "ih", x) + affine(P, "hh", state[0]))
    return (h,), {"hidden": h}


def rnn_relu(P, state, x):
    return rnn_tanh(P, state, x, relu)


def gru(P, state, x):
    (h,) = state
    (xr, hr), (xz, hz), (xn, hn) = blocks(P, h, x, 3)
    r, z = sigma(xr + hr), sigma(xz + hz)
    n = np.tanh(xn + r * hn)
    return ((1 - z) * n + z * h,), {"reset": r, "update": z, "candidate": n}


def gru_reset_before(P, state, x):
    (h,) = state
    (xr, hr), (xz, hz), (xn, _) = blocks(P, h, x, 3)
    r, z = sigma(xr + hr), sigma(xz + hz)
    n = np.tanh(xn + rows(P, "weight_hh", 3)[2] @ (r * h) + rows(P, "bias_hh", 3)[2])
    return ((1 - z) * n + z * h,), {"reset": r, "update": z, "candidate": n}


def lstm(P, state, x):
    h, c = state
    i, f, g, o = (from_x + from_h for from_x, from_h in blocks(P, h, x, 4))
    i, f, g, o = sigma(i), sigma(f), np.tanh(g), sigma(o)
    c = f * c + i * g
    h = o * np.tanh(c)
    if "weight_hr" in P:
        h = P["weight_hr"] @ h
    return (h, c), {"input": i, "forget": f, "candidate": g, "output": o}


def peephole_lstm(P, state, x):
    h, c = state
    i, f, g, o = (from_x + from_h for from_x, from_h in blocks(P, h, x, 4))
    p_i, p_f, p_o = np.split(P["weight_peephole"], 3)
    i, f, g = sigma(i + p_i * c), sigma(f + p_f * c), np.tanh(g)
    c = f * c + i * g
    o = sigma(o + p_o * c)
    return (o * np.tanh(c), c), {"input": i, "forget": f, "candidate": g, "output": o}


def coupled_lstm(P, state, x):
    """The paper computes i: its weights are the negative ones."""
    h, c = state
    minus_i, g, o = (from_x + from_h for from_x, from_h in blocks(P, h, x, 3))
    i, g, o = sigma(-minus_i), np.tanh(g), sigma(o)
    f = 1 - i
    c = f * c + i * g
    return (o * np.tanh(c), c), {"forget": f, "candidate": g, "output": o}


def slstm(P, state, x):
    """As published, with c and n multiplied by exp(m)."""
    h, c, n, m = state
    i, f, z, o = (from_x + from_h for from_x, from_h in blocks(P, h, x, 4))
    c, n = c * np.exp(m), n * np.exp(m)
    z, o = np.tanh(z), sigma(o)
    c = sigma(f) * c + np.exp(i) * z
    n = sigma(f) * n + np.exp(i)
    new = np.maximum(np.log(sigma(f)) + m, i)
    gates = {"input": np.exp(i - new), "forget": sigma(f) * np.exp(m - new)}
    gates |= {"candidate": z, "output": o}
    return (o * c / n, c * np.exp(-new), n * np.exp(-new), new), gates


def multiplicative_lstm(P, state, x):
    h, c = state
    from_x, W, b = np.split(affine(P, "ih", x), 5), rows(P, "weight_hh", 5), rows(P, "bias_hh", 5)
    m = from_x[0] * (W[0] @ h + b[0])
    i, f, g, o = (from_x[n] + W[n] @ m + b[n] for n in range(1, 5))
    i, f, g, o = sigma(i), sigma(f), np.tanh(g), sigma(o)
    c = f * c + i * g
    gates = {"multiplier": m, "input": i, "forget": f, "candidate": g, "output": o}
    return (o * np.tanh(c), c), gates


def rhn(P, state, x):
    """A depth of 3."""
    (s,) = state
    W, b = rows(P, "weight_hh", 6), rows(P, "bias_hh", 6)
    gates = {}
    for layer in range(3):
        from_x = np.split(affine(P, "ih", x), 2) if layer == 0 else (0, 0)
        n = np.tanh(from_x[0] + W[2 * layer] @ s + b[2 * layer])
        t = sigma(from_x[1] + W[2 * layer + 1] @ s + b[2 * layer + 1])
        s = n * t + s * (1 - t)
        gates |= {f"candidate{layer + 1}": n, f"transform{layer + 1}": t}
    return (s,), gates


def lem(P, state, x):
    """The paper's y is the hidden state. Its time step is 1."""
    y, z = state
    (x1, h1), (x2, h2), (xz, hz), (xy, _) = blocks(P, y, x, 4)
    p, q, u = sigma(x1 + h1), sigma(x2 + h2), np.tanh(xz + hz)
    z = z + p * (u - z)
    v = np.tanh(xy + rows(P, "weight_hh", 4)[3] @ z + rows(P, "bias_hh", 4)[3])
    gates = {"memory_step": p, "hidden_step": q, "memory_candidate": u, "hidden_candidate": v}
    return (y + q * (v - y), z), gates


def ugrnn(P, state, x):
    (h,) = state
    g, c = (from_x + from_h for from_x, from_h in blocks(P, h, x, 2))
    g, c = sigma(g), np.tanh(c)
    return (g * h + (1 - g) * c,), {"update": g, "candidate": c}


def light_lstm(P, state, x):
    h, c = state
    f, u = (from_x + from_h for from_x, from_h in blocks(P, h, x, 2))
    f, u = sigma(f), np.tanh(u)
    c = u + f * c
    return (np.tanh(c), c), {"forget": f, "candidate": u}


def mgu(P, state, x):
    (h,) = state
    (xf, hf), (xn, hn) = blocks(P, h, x, 2)
    f = sigma(xf + hf)
    n = np.tanh(xn + f * hn)
    return ((1 - f) * h + f * n,), {"gate": f, "candidate": n}


def mgu_reset_before(P, state, x):
    (h,) = state
    (xf, hf), (xn, _) = blocks(P, h, x, 2)
    f = sigma(xf + hf)
    n = np.tanh(xn + rows(P, "weight_hh", 2)[1] @ (f * h) + rows(P, "bias_hh", 2)[1])
    return ((1 - f) * h + f * n,), {"gate": f, "candidate": n}


def indrnn_relu(P, state, x, phi=relu):
    h = phi(affine(P, "ih", x) + P["weight_hh"] * state[0])
    return (h,), {"hidden": h}


def indrnn_tanh(P, state, x):
    return indrnn_relu(P, state, x, np.tanh)


def layer_norm(z, gain=1, shift=0):
    mean = z.mean(axis=0, keepdims=True)
    variance = ((z - mean) ** 2).mean(axis=0, keepdims=True)
    return gain * (z - mean) / np.sqrt(variance + 1e-5) + shift


def layer_norm_lstm(P, state, x):
    h, c = state
    from_h = layer_norm(P["weight_hh"] @ h, P["gain_hh"], P.get("bias_hh", 0))
    from_x = layer_norm(P["weight_ih"] @ x, P["gain_ih"], P.get("bias_ih", 0))
    i, f, g, o = np.split(from_h + from_x, 4)
    i, f, g, o = sigma(i), sigma(f), np.tanh(g), sigma(o)
    c = f * c + i * g
    h = o * np.tanh(layer_norm(c, P["gain_cell"], P.get("shift_cell", 0)))
    return (h, c), {"input": i, "forget": f, "candidate": g, "output": o}


def layer_norm_gru(P, state, x):
    """The gates' norm over both of them together; the paper's z has the gains of -z here."""
    (h,) = state
    normed = {}
    for which, value in (("ih", x), ("hh", h)):
        reset, update, candidate = np.split(P[f"weight_{which}"] @ value, 3)
        gains, shifts = rows(P, f"gain_{which}", 3), rows(P, f"bias_{which}", 3)
        r, z = np.split(layer_norm(np.concatenate([reset, update])), 2)
        n = layer_norm(candidate, gains[2], shifts[2])
        normed[which] = gains[0] * r + shifts[0], -gains[1] * z - shifts[1], n
    (xr, xz, xn), (hr, hz, hn) = normed["ih"], normed["hh"]
    r, z = sigma(hr + xr), sigma(hz + xz)
    n = np.tanh(xn + r * hn)
    return ((1 - z) * h + z * n,), {"reset": r, "update": 1 - z, "candidate": n}


def min_gru(P, state, x):
    """The paper's z lets in: its weights are the negative ones."""
    (h,) = state
    minus_z, n = np.split(affine(P, "ih", x), 2)
    z = sigma(-minus_z)
    return ((1 - z) * h + z * n,), {"update": 1 - z, "candidate": n}


def min_lstm(P, state, x):
    (h,) = state
    i, f, g = np.split(affine(P, "ih", x), 3)
    i, f = sigma(i), sigma(f)
    i, f = i / (f + i), f / (f + i)
    return (f * h + i * g,), {"input": i, "forget": f, "candidate": g}


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
