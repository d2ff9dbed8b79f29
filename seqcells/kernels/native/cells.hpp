// The cells: what stands between the two products of a step, forward and backward.
//
// A row of sums z holds `slots` blocks of H units. The first `input_slots` of them take the
// product with the input, the last `hidden_slots` the one with the hidden state; a slot that is in
// both takes their sum. `input_gates`, `hidden_gates`: the gate, in the order of the weights' rows,
// of each of these slots. Of the hidden slots the last `late_slots` take a product with `late()`
// in place of the hidden state.
//
// forward:   z, the state before -> the state after, and `kept` values for the backward pass.
// backward:  `grad` comes in as the loss's gradient by the state after and goes out as that part of
//            the gradient by the state before which does not pass through z; `dz` is the gradient
//            by z. The products add W_hh^T dz to the gradient by the hidden state.
#pragma once
#include "vector.hpp"

namespace SEQCELLS_VARIANT {

struct Plain {
  static constexpr int late_slots = 0;
};

// h = phi(z)                 dz = dh phi'(z), by h alone: tanh' = 1 - h^2, relu' = [h > 0]
template <class T, bool relu>
struct RNN : Plain {
  using V = Vec<T>;
  static constexpr int slots = 1, input_slots = 1, hidden_slots = 1, states = 1, kept = 0;
  static constexpr int input_gates[] = {0}, hidden_gates[] = {0};

  static void forward(const V *z, V *state, V *) {
    if constexpr (relu)
      state[0] = z[0] < V{} ? V{} : z[0];
    else
      state[0] = tanh<T>(z[0]);
  }

  static void backward(const V *, const V *, const V *after, V *grad, V *dz) {
    const V h = after[0];
    if constexpr (relu)
      dz[0] = h <= V{} ? V{} : grad[0];
    else
      dz[0] = grad[0] * (T(1) - h * h);
    grad[0] = V{};
  }
};

// i, f, o = sigma(z_i, z_f, z_o), g = tanh(z_g), c = f c' + i g, h = o tanh(c)
//
// dc  += dh o (1 - tanh(c)^2)
// dz_o = dh tanh(c) o (1 - o)      dz_i = dc g  i (1 - i)
// dz_g = dc i (1 - g^2)            dz_f = dc c' f (1 - f)      dc' = dc f
template <class T>
struct LSTM : Plain {
  using V = Vec<T>;
  static constexpr int slots = 4, input_slots = 4, hidden_slots = 4, states = 2, kept = 5;
  static constexpr int input_gates[] = {0, 1, 2, 3}, hidden_gates[] = {0, 1, 2, 3};

  static void forward(const V *z, V *state, V *keep) {
    const V i = sigmoid<T>(z[0]), f = sigmoid<T>(z[1]), g = tanh<T>(z[2]), o = sigmoid<T>(z[3]);
    const V c = f * state[1] + i * g;
    state[0] = o * tanh<T>(c), state[1] = c;
    keep[0] = i, keep[1] = f, keep[2] = g, keep[3] = o, keep[4] = c;
  }

  static constexpr int kept_cell = 4;

  static V unprojected(const V *keep) { return keep[3] * tanh<T>(keep[4]); }

  static void backward(const V *keep, const V *before, const V *, V *grad, V *dz) {
    const V i = keep[0], f = keep[1], g = keep[2], o = keep[3], t = tanh<T>(keep[4]);
    const V dh = grad[0], dc = grad[1] + dh * o * (T(1) - t * t);
    dz[0] = dc * g * i * (T(1) - i);
    dz[1] = dc * before[1] * f * (T(1) - f);
    dz[2] = dc * i * (T(1) - g * g);
    dz[3] = dh * t * o * (T(1) - o);
    grad[0] = V{}, grad[1] = dc * f;
  }
};

// r, u = sigma(z_r, z_u), n = tanh(x_n + r q), h = (1 - u) n + u h', with x_n = W_in x + b_in and
// q = W_hn h' + b_hn apart: the slots are x_n, r, u, q.
//
// dx_n = dh (1 - u) (1 - n^2)      dq = dx_n r      dz_r = dx_n q r (1 - r)
// dz_u = dh (h' - n) u (1 - u)     dh' = dh u
template <class T>
struct GRU : Plain {
  using V = Vec<T>;
  static constexpr int slots = 4, input_slots = 3, hidden_slots = 3, states = 1, kept = 4;
  static constexpr int input_gates[] = {2, 0, 1}, hidden_gates[] = {0, 1, 2};

  static void forward(const V *z, V *state, V *keep) {
    const V r = sigmoid<T>(z[1]), u = sigmoid<T>(z[2]), q = z[3], n = tanh<T>(z[0] + r * q);
    state[0] = (T(1) - u) * n + u * state[0];
    keep[0] = r, keep[1] = u, keep[2] = n, keep[3] = q;
  }

  static void backward(const V *keep, const V *before, const V *, V *grad, V *dz) {
    const V r = keep[0], u = keep[1], n = keep[2], q = keep[3], dh = grad[0];
    dz[0] = dh * (T(1) - u) * (T(1) - n * n);
    dz[1] = dz[0] * q * r * (T(1) - r);
    dz[2] = dh * (before[0] - n) * u * (T(1) - u);
    dz[3] = dz[0] * r;
    grad[0] = dh * u;
  }
};

// The same with the reset before the product: n = tanh(x_n + W_hn (r h') + b_hn).
//
// With e = W_hn^T dz_n, the gradient by r h':   dz_r = e h' r (1 - r)      dh' = dh u + e r
template <class T>
struct GRUResetBefore {
  using V = Vec<T>;
  static constexpr int slots = 3, input_slots = 3, hidden_slots = 3, states = 1, kept = 3;
  static constexpr int input_gates[] = {0, 1, 2}, hidden_gates[] = {0, 1, 2}, late_slots = 1;

  static V late(const V *z, const V *state) { return sigmoid<T>(z[0]) * state[0]; }

  static void forward(const V *z, V *state, V *keep) {
    const V r = sigmoid<T>(z[0]), u = sigmoid<T>(z[1]), n = tanh<T>(z[2]);
    state[0] = (T(1) - u) * n + u * state[0];
    keep[0] = r, keep[1] = u, keep[2] = n;
  }

  static void backward(const V *keep, const V *before, const V *, V *grad, V *dz) {
    const V u = keep[1], n = keep[2], dh = grad[0];
    dz[0] = V{};
    dz[1] = dh * (before[0] - n) * u * (T(1) - u);
    dz[2] = dh * (T(1) - u) * (T(1) - n * n);
    grad[0] = dh * u;
  }

  static V late_again(const V *keep, const V *before) { return keep[0] * before[0]; }

  static void backward_late(const V *keep, const V *before, V e, V *grad, V *dz) {
    const V r = keep[0];
    dz[0] = e * before[0] * r * (T(1) - r);
    grad[0] += e * r;
  }
};

}  // namespace SEQCELLS_VARIANT
