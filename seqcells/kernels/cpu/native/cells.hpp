// Hand-written cells: source.py cannot generate a cell with a product between its gates.
#pragma once
#include "functor.hpp"

namespace SEQCELLS_VARIANT {

// r, u = sigma(z_r, z_u), n = tanh(x_n + W_hn (r h') + b_hn), h = (1 - u) d n + u h'
//
// dz_u = dh (h' - d n) u (1 - u)     dz_n = dh (1 - u) d (1 - n^2)
// and with e = W_hn^T dz_n, the gradient by r h':   dz_r = e h' r (1 - r)      dh' = dh u + e r
template <class T>
struct GruResetBefore : Plain {
  using V = Vec<T>;
  static constexpr int late_slots = 1;
  static constexpr int slots = 3, input_slots = 3, hidden_slots = 3, states = 1, saved = 3;
  static constexpr bool takes_drop = true;
  static constexpr int input_gates[] = {0, 1, 2}, hidden_gates[] = {0, 1, 2};

  static V late(const V *z, V h) { return sigmoid<T>(z[0]) * h; }

  template <class Phase>
  static void forward(Phase, const V *z, V *state, const V *, V drop, V *saved, V *, V *, const V *,
                      V *) {
    const V r = sigmoid<T>(z[0]), u = sigmoid<T>(z[1]), n = tanh<T>(z[2]);
    state[0] = (T(1) - u) * (n * drop) + u * state[0];
    saved[0] = r, saved[1] = u, saved[2] = n;
  }

  template <class Phase>
  static void backward(Phase, const V *saved, const V *, const V *before, const V *, const V *,
                       V drop, V *grad, V *dz, V *, V *, const V *, V *) {
    const V u = saved[1], n = saved[2], dh = grad[0];
    dz[0] = V{};
    dz[1] = dh * (before[0] - n * drop) * u * (T(1) - u);
    dz[2] = dh * (T(1) - u) * drop * (T(1) - n * n);
    grad[0] = dh * u;
  }

  static V recompute_late(const V *saved, V h) { return saved[0] * h; }

  static void backward_late(const V *saved, V h, V e, V &grad, V *dz) {
    const V r = saved[0];
    dz[0] = e * h * r * (T(1) - r);
    grad += e * r;
  }
};

// f = sigma(z_f), n = tanh(x_n + W_hn (f h') + b_hn), h = (1 - f) h' + f d n
//
// dz_n = dh f d (1 - n^2)
// and with e = W_hn^T dz_n, the gradient by f h':   dz_f = (dh (d n - h') + e h') f (1 - f)
//                                                   dh' = dh (1 - f) + e f
template <class T>
struct MguResetBefore : Plain {
  using V = Vec<T>;
  static constexpr int late_slots = 1;
  static constexpr int slots = 2, input_slots = 2, hidden_slots = 2, states = 1, saved = 2;
  static constexpr bool takes_drop = true;
  static constexpr int input_gates[] = {0, 1}, hidden_gates[] = {0, 1};

  static V late(const V *z, V h) { return sigmoid<T>(z[0]) * h; }

  template <class Phase>
  static void forward(Phase, const V *z, V *state, const V *, V drop, V *saved, V *, V *, const V *,
                      V *) {
    const V f = sigmoid<T>(z[0]), n = tanh<T>(z[1]);
    state[0] = (T(1) - f) * state[0] + f * (n * drop);
    saved[0] = f, saved[1] = n;
  }

  template <class Phase>
  static void backward(Phase, const V *saved, const V *, const V *before, const V *, const V *,
                       V drop, V *grad, V *dz, V *, V *, const V *, V *) {
    const V f = saved[0], n = saved[1], dh = grad[0];
    dz[0] = dh * (n * drop - before[0]) * f * (T(1) - f);
    dz[1] = dh * f * drop * (T(1) - n * n);
    grad[0] = dh * (T(1) - f);
  }

  static V recompute_late(const V *saved, V h) { return saved[0] * h; }

  static void backward_late(const V *saved, V h, V e, V &grad, V *dz) {
    const V f = saved[0];
    dz[0] += e * h * f * (T(1) - f);
    grad += e * f;
  }
};

}  // namespace SEQCELLS_VARIANT
