// Builds a `Cell` from a functor that computes a step for one vector of units.
//
// forward:   maps z and the old state to the new state and `saved` saved values. If the state has
//            several parts, those from the second on are saved at the indices `saved_states`.
// backward:  `grad` is the gradient by the new state on entry. On return it is the gradient by the
//            old state, without the part that passes through z. `dz` is the gradient by z. The
//            products add W_hh^T dz to the gradient by the hidden state. `after` is the new hidden
//            state, for functors that read it (`reads_new_hidden`).
// p, dp:     parameters that the step reads outside the products, and their gradients.
// drop:      factor of the step's noise, for cells that accept one (`takes_drop`).
//
// A functor that needs means over a row runs in phases. It writes summands to `sum`, reads `mean`
// in later phases, and passes values between phases in `temp`. Saved values in `row` are equal for
// all units. `saved_phase` and similar members are the phase that stores each value. The last phase
// stores the state.
#pragma once
#include <type_traits>

#include "cell.hpp"

namespace SEQCELLS_VARIANT {

struct First {
  constexpr int operator[](int64_t) const { return 0; }
};

struct Plain {
  static constexpr int late_slots = 0, parameters = 0, rows = 0;
  static constexpr bool projects = false, takes_drop = false, reads_new_hidden = false;
  static constexpr int forward_phases = 1, forward_temps = 0, forward_means = 0;
  static constexpr int backward_phases = 1, backward_temps = 0, backward_means = 0;
  static constexpr int saved_states[] = {0};
  static constexpr First saved_phase{}, row_phase{}, dz_phase{}, dp_phase{};
  static constexpr First forward_temp_phase{}, forward_mean_phase{};
  static constexpr First backward_temp_phase{}, backward_mean_phase{};
};

// Call `work` with the number of each phase as a constant.
template <int phases, int phase = 0, class Work>
inline void for_phases(const Work &work) {
  work(std::integral_constant<int, phase>());
  if constexpr (phase + 1 < phases) for_phases<phases, phase + 1>(work);
}

// Unrolled loop, so that arrays stay in registers.
#define EACH(n, count) _Pragma("GCC unroll 64") for (int n = 0; n < (count); ++n)

template <class T, class F>
void forward_row(const Cell<T> &cell, const ForwardRow<T> &row) {
  using V = Vec<T>;
  const int64_t block = row.units.block;
  V mean[F::forward_means + 1];
  for_phases<F::forward_phases>([&](auto phase) __attribute__((always_inline)) {
    constexpr bool last = phase + 1 == F::forward_phases;
    V sums[F::forward_means + 1] = {};
    for (int64_t u = row.units.from; u < row.units.to; u += LANES<T>) {
      V z[F::slots], state[F::states], saved[F::saved + 1], p[F::parameters + 1];
      V temp[F::forward_temps + 1], sum[F::forward_means + 1], rows[F::rows + 1], drop{};
      EACH(s, F::slots) z[s] = load(row.sums + s * block + u);
      EACH(n, F::parameters) p[n] = load(row.parameters + n * block + u);
      EACH(n, F::states) state[n] = load(row.state[n] + u);
      if constexpr (F::takes_drop) drop = load(row.drop + u);
      EACH(n, F::forward_temps)
        if (F::forward_temp_phase[n] < phase) temp[n] = load(row.temps + n * block + u);
      V before[F::states];
      EACH(n, F::states) before[n] = state[n];
      F::forward(phase, z, state, p, drop, saved, rows, temp, mean, sum);
      EACH(n, F::forward_temps)
        if (F::forward_temp_phase[n] == phase) store(row.temps + n * block + u, temp[n]);
      EACH(n, F::forward_means)
        if (F::forward_mean_phase[n] == phase) sums[n] += within<T>(sum[n], u, row.units);
      EACH(k, F::saved)
        if (row.saved && F::saved_phase[k] == phase) store(row.saved + k * block + u, saved[k]);
      EACH(n, F::rows)
        if (row.saved && F::row_phase[n] == phase) store(row.rows + n * ROW_WIDTH, rows[n]);
      if constexpr (last) {
        if (row.zoned) blend(cell, row, u, before, state);
        EACH(n, F::states) store(row.state[n] + u, state[n]);
      }
    }
    EACH(n, F::forward_means)
      if (F::forward_mean_phase[n] == phase) mean[n] = mean_of<T>(sums[n], row.units);
  });
}

template <class T, class F>
void backward_row(const Cell<T> &, const BackwardRow<T> &row) {
  using V = Vec<T>;
  const int64_t block = row.units.block;
  V mean[F::backward_means + 1];
  for_phases<F::backward_phases>([&](auto phase) __attribute__((always_inline)) {
    constexpr bool last = phase + 1 == F::backward_phases;
    V sums[F::backward_means + 1] = {};
    for (int64_t u = row.units.from; u < row.units.to; u += LANES<T>) {
      V saved[F::saved + 1], before[F::states] = {}, after[1] = {}, grad[F::states];
      V dz[F::slots];
      V p[F::parameters + 1], dp[F::parameters + 1], drop{}, stays[F::states] = {};
      V temp[F::backward_temps + 1], sum[F::backward_means + 1], rows[F::rows + 1];
      EACH(k, F::saved) saved[k] = load(row.saved + k * block + u);
      EACH(n, F::rows) rows[n] = load(row.rows + n * ROW_WIDTH);
      EACH(n, F::parameters) p[n] = load(row.parameters + n * block + u);
      EACH(n, F::states) grad[n] = load(row.grad[n] + u);
      EACH(n, F::states) if (n || !row.projected) before[n] = load(row.before[n] + u);
      if constexpr (F::reads_new_hidden) after[0] = load(row.after + u);
      if constexpr (F::takes_drop) drop = load(row.drop + u);
      EACH(n, F::backward_temps)
        if (F::backward_temp_phase[n] < phase) temp[n] = load(row.temps + n * block + u);
      EACH(n, F::states)
        if (n && row.stays[n]) stays[n] = load(row.stays[n] + u) * grad[n], grad[n] -= stays[n];
      F::backward(phase, saved, rows, before, after, p, drop, grad, dz, dp, temp, mean, sum);
      EACH(n, F::backward_temps)
        if (F::backward_temp_phase[n] == phase) store(row.temps + n * block + u, temp[n]);
      EACH(n, F::backward_means)
        if (F::backward_mean_phase[n] == phase) sums[n] += within<T>(sum[n], u, row.units);
      EACH(s, F::slots)
        if (F::dz_phase[s] == phase) store(row.dz + s * block + u, within<T>(dz[s], u, row.units));
      EACH(n, F::parameters)
        if (F::dp_phase[n] == phase) {
          T *to = row.dp + n * block + u;
          store(to, load(to) + dp[n]);
        }
      if constexpr (last) {
        EACH(n, F::states)
          if (n || !row.projected) store(row.grad[n] + u, n ? grad[n] + stays[n] : grad[n]);
        if constexpr (F::projects)
          if (row.projected) store(row.m + u, F::unprojected(saved));
      }
    }
    EACH(n, F::backward_means)
      if (F::backward_mean_phase[n] == phase) mean[n] = mean_of<T>(sums[n], row.units);
  });
}

template <class T, class F>
void gate_row(const T *sums, const T *h, T *gated, Units units) {
  for (int64_t u = units.from; u < units.to; u += LANES<T>) {
    Vec<T> z[F::slots];
    EACH(s, F::slots) z[s] = load(sums + s * units.block + u);
    store(gated + u, F::late(z, load(h + u)));
  }
}

template <class T, class F>
void backward_late_row(const LateRow<T> &row) {
  constexpr int early = F::hidden_slots - F::late_slots;
  const int64_t block = row.units.block;
  for (int64_t u = row.units.from; u < row.units.to; u += LANES<T>) {
    Vec<T> saved[F::saved], before = load(row.left + u), grad = load(row.dh + u), dz[F::slots];
    EACH(k, F::saved) saved[k] = load(row.saved + k * block + u);
    EACH(s, F::slots) dz[s] = load(row.dz + s * block + u);
    F::backward_late(saved, before, load(row.e + u), grad, dz);
    for (int s = 0; s < early; ++s) store(row.dz + s * block + u, dz[s]);
    store(row.dh + u, grad);
    store(row.gated + u, F::recompute_late(saved, before));
  }
}

#undef EACH

template <class T, class F>
constexpr Cell<T> cell_of() {
  constexpr int forward = F::forward_temps, backward = F::backward_temps;
  Cell<T> cell{F::slots,
               F::input_slots,
               F::hidden_slots,
               F::late_slots,
               F::states,
               F::saved,
               F::rows,
               F::parameters,
               forward > backward ? forward : backward,
               F::reads_new_hidden,
               F::takes_drop,
               F::input_gates,
               F::hidden_gates,
               F::saved_states,
               forward_row<T, F>,
               backward_row<T, F>,
               nullptr,
               nullptr};
  if constexpr (F::late_slots > 0) {
    cell.gate = gate_row<T, F>;
    cell.backward_late = backward_late_row<T, F>;
  }
  return cell;
}

}  // namespace SEQCELLS_VARIANT
