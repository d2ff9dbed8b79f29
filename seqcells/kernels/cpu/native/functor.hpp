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
//
// With stages of late products, `forward_part` is the part of the step that each phase belongs to.
// `operand` is the operand of each stage, and `e` the gradient by it.
#pragma once
#include <type_traits>

#include "cell.hpp"

namespace SEQCELLS_VARIANT {

struct First {
  constexpr int operator[](int64_t) const { return 0; }
};

struct Plain {
  static constexpr int stages = 0, parameters = 0, rows = 0;
  static constexpr bool projects = false, takes_drop = false, reads_new_hidden = false;
  static constexpr int forward_phases = 1, forward_temps = 0, forward_means = 0;
  static constexpr int backward_phases = 1, backward_temps = 0, backward_means = 0;
  static constexpr int saved_states[] = {0};
  static constexpr First saved_phase{}, row_phase{}, dz_phase{}, dp_phase{};
  static constexpr First forward_part{}, forward_temp_phase{}, forward_mean_phase{};
  static constexpr First backward_part{}, backward_temp_phase{}, backward_mean_phase{};
  static constexpr First forward_operand_phase{}, backward_operand_phase{};
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
void forward_row(const Cell<T> &cell, const ForwardRow<T> &row, int part) {
  using V = Vec<T>;
  const int64_t block = row.units.block;
  V mean[F::forward_means + 1];
  if constexpr (F::stages > 0) {
    EACH(n, F::forward_means) if (part) mean[n] = load(row.means + n * ROW_WIDTH);
  }
  for_phases<F::forward_phases>([&](auto phase) __attribute__((always_inline)) {
    if (F::stages && F::forward_part[phase] != part) return;
    constexpr bool last = phase + 1 == F::forward_phases;
    V sums[F::forward_means + 1] = {};
    for (int64_t u = row.units.from; u < row.units.to; u += LANES<T>) {
      V z[F::slots], state[F::states], saved[F::saved + 1], p[F::parameters + 1];
      V temp[F::forward_temps + 1], sum[F::forward_means + 1], rows[F::rows + 1], drop{};
      V operand[F::stages + 1];
      EACH(s, F::slots) z[s] = load(row.sums + s * block + u);
      EACH(n, F::parameters) p[n] = load(row.parameters + n * block + u);
      EACH(n, F::states) state[n] = load(row.state[n] + u);
      if constexpr (F::takes_drop) drop = load(row.drop + u);
      EACH(n, F::forward_temps)
        if (F::forward_temp_phase[n] < phase) temp[n] = load(row.temps + n * block + u);
      V before[F::states];
      EACH(n, F::states) before[n] = state[n];
      F::forward(phase, z, state, p, drop, saved, rows, temp, mean, sum, operand);
      EACH(n, F::forward_temps)
        if (F::forward_temp_phase[n] == phase) store(row.temps + n * block + u, temp[n]);
      EACH(n, F::forward_means)
        if (F::forward_mean_phase[n] == phase) sums[n] += within<T>(sum[n], u, row.units);
      EACH(k, F::saved)
        if (row.saved && F::saved_phase[k] == phase) store(row.saved + k * block + u, saved[k]);
      EACH(n, F::rows)
        if (row.saved && F::row_phase[n] == phase) store(row.rows + n * ROW_WIDTH, rows[n]);
      EACH(n, F::stages)
        if (F::forward_operand_phase[n] == phase)
          store(row.operands + n * block + u, within<T>(operand[n], u, row.units));
      if constexpr (last) {
        if (row.zoned) blend(cell, row, u, before, state);
        EACH(n, F::states) store(row.state[n] + u, state[n]);
      }
    }
    EACH(n, F::forward_means)
      if (F::forward_mean_phase[n] == phase) {
        mean[n] = mean_of<T>(sums[n], row.units);
        if (F::stages) store(row.means + n * ROW_WIDTH, mean[n]);
      }
  });
}

template <class T, class F>
void backward_row(const Cell<T> &, const BackwardRow<T> &row, int part) {
  using V = Vec<T>;
  const int64_t block = row.units.block;
  V mean[F::backward_means + 1];
  if constexpr (F::stages > 0) {
    EACH(n, F::backward_means) if (part) mean[n] = load(row.means + n * ROW_WIDTH);
  }
  for_phases<F::backward_phases>([&](auto phase) __attribute__((always_inline)) {
    if (F::stages && F::backward_part[phase] != part) return;
    constexpr bool last = phase + 1 == F::backward_phases;
    V sums[F::backward_means + 1] = {};
    for (int64_t u = row.units.from; u < row.units.to; u += LANES<T>) {
      V saved[F::saved + 1], before[F::states] = {}, after[1] = {}, grad[F::states];
      V dz[F::slots];
      V p[F::parameters + 1], dp[F::parameters + 1], drop{}, stays[F::states] = {};
      V temp[F::backward_temps + 1], sum[F::backward_means + 1], rows[F::rows + 1];
      V operand[F::stages + 1], e[F::stages + 1];
      EACH(n, F::stages) e[n] = load(row.e + n * block + u);
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
      F::backward(phase, saved, rows, before, after, p, drop, grad, dz, dp, temp, mean, sum,
                  operand, e);
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
      EACH(n, F::stages)
        if (F::backward_operand_phase[n] == phase)
          store(row.operands + n * block + u, within<T>(operand[n], u, row.units));
      if constexpr (last) {
        EACH(n, F::states)
          if (n || !row.projected) store(row.grad[n] + u, n ? grad[n] + stays[n] : grad[n]);
        if constexpr (F::projects)
          if (row.projected) store(row.m + u, F::unprojected(saved));
      }
    }
    EACH(n, F::backward_means)
      if (F::backward_mean_phase[n] == phase) {
        mean[n] = mean_of<T>(sums[n], row.units);
        if (F::stages) store(row.means + n * ROW_WIDTH, mean[n]);
      }
  });
}

#undef EACH

template <class T, class F>
constexpr Cell<T> cell_of() {
  constexpr int forward = F::forward_temps, backward = F::backward_temps;
  return {F::slots,
          F::input_slots,
          F::hidden_slots,
          F::stages,
          F::states,
          F::saved,
          F::rows,
          F::parameters,
          forward > backward ? forward : backward,
          F::forward_means > F::backward_means ? F::forward_means : F::backward_means,
          F::reads_new_hidden,
          F::takes_drop,
          F::input_gates,
          F::hidden_gates,
          F::products,
          F::saved_states,
          forward_row<T, F>,
          backward_row<T, F>};
}

}  // namespace SEQCELLS_VARIANT
