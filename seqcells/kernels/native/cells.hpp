// The cells: what stands between the two products of a step, forward and backward.
//
// A row of sums z holds `slots` blocks of H units. The first `input_slots` of them take the
// product with the input, the last `hidden_slots` the one with the hidden state; a slot that is in
// both takes their sum. `input_gates`, `hidden_gates`: the gate, in the order of the weights' rows,
// of each of these slots. Of the hidden slots the last `late_slots` take a product with `late()`
// in place of the hidden state.
//
// forward:   z, the state before -> the state after, and `kept` values for the backward pass; of
//            a cell of two parts of a state the second is among them, at `kept_cell`.
// backward:  `grad` comes in as the loss's gradient by the state after and goes out as that part of
//            the gradient by the state before which does not pass through z; `dz` is the gradient
//            by z. The products add W_hh^T dz to the gradient by the hidden state. `after`, the
//            hidden state after the step, is there for cells that read it.
// p, dp:     what the step has of parameters beside the products, and their gradient.
//
// All but one of them are written by `seqcells/kernels/source.py` from the cells' own equations
// (generated.hpp). The one here has a product between its gates.
#pragma once
#include "vector.hpp"

namespace SEQCELLS_VARIANT {

struct Plain {
  static constexpr int late_slots = 0;
  static constexpr bool projects = false;
};

// r, u = sigma(z_r, z_u), n = tanh(x_n + W_hn (r h') + b_hn), h = (1 - u) n + u h'
//
// dz_u = dh (h' - n) u (1 - u)     dz_n = dh (1 - u) (1 - n^2)
// and with e = W_hn^T dz_n, the gradient by r h':   dz_r = e h' r (1 - r)      dh' = dh u + e r
template <class T>
struct GRUResetBefore : Plain {
  using V = Vec<T>;
  static constexpr int late_slots = 1;
  static constexpr int slots = 3, input_slots = 3, hidden_slots = 3, states = 1, kept = 3;
  static constexpr int parameters = 0, kept_cell = 0;
  static constexpr int input_gates[] = {0, 1, 2}, hidden_gates[] = {0, 1, 2};
  static constexpr bool reads_after = false;

  static V late(const V *z, const V *state) { return sigmoid<T>(z[0]) * state[0]; }

  static void forward(const V *z, V *state, const V *, V *keep) {
    const V r = sigmoid<T>(z[0]), u = sigmoid<T>(z[1]), n = tanh<T>(z[2]);
    state[0] = (T(1) - u) * n + u * state[0];
    keep[0] = r, keep[1] = u, keep[2] = n;
  }

  static void backward(const V *keep, const V *before, const V *, const V *, V *grad, V *dz, V *) {
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
