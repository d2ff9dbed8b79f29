"""Every cell's equations in NumPy, as published, on the cells' own parameters.

Column-major as in the literature: `equations(P, state, x)` takes inputs `(I, m)` and a tuple of
states `(H, m)`, and returns the next states and the gates by name. `P` maps the parameters' names
to matrices, vectors being columns; biases may be missing.
"""

import numpy as np
from numpy_equations import relu, sigma


def affine(P, which, value):
    """`W v + b`."""
    return P[f"weight_{which}"] @ value + P.get(f"bias_{which}", 0)


def blocks(P, h, x, count):
    """What comes from the input and from the hidden state, gate by gate."""
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
