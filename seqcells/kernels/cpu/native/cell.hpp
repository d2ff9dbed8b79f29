// A cell as the loops over time see it: sizes, and what happens between the products of a step.
//
// A row of sums z holds `slots` blocks of H units. The first `input_slots` of them take the
// product with the input, the last `hidden_slots` the one with the hidden state; a slot that is in
// both takes their sum. `input_gates`, `hidden_gates`: the gate, in the order of the weights' rows,
// of each of these slots. Of the hidden slots the last `late_slots` take a product with what `gate`
// makes in place of the hidden state.
#pragma once
#include "vector.hpp"

namespace SEQCELLS_VARIANT {

// Values of a whole row are kept apart from those of each unit: a vector of the same number each.
constexpr int ROW_WIDTH = 16;

// The units of a row, or of a thread's share of it; blocks of a row are `block` units apart.
struct Units {
  int64_t from, to, count, block;
};

template <class T>
struct ForwardRow {
  const T *sums, *parameters, *drop, *stays[2];  // stays: null, or what share of the state stays
  T *h, *c, *keep, *rows, *temps;                // keep: null for inference
  Units units;
};

template <class T>
struct BackwardRow {
  const T *before, *before_cell, *after, *keep, *rows, *parameters, *drop, *stays;
  T *dh, *dc, *dz, *dp, *temps;
  T *m;  // of a projected state: where the unprojected one goes
  bool projected;
  Units units;
};

template <class T>
struct LateRow {
  const T *e, *keep;
  T *left, *gated, *dz, *dh;
  Units units;
};

template <class T>
struct Cell {
  int slots, input_slots, hidden_slots, late_slots, states;
  int kept, rows, kept_cell, parameters, temps;
  bool reads_after, drops;
  const int *input_gates, *hidden_gates;
  void (*forward)(const Cell &, const ForwardRow<T> &);
  void (*backward)(const Cell &, const BackwardRow<T> &);
  void (*gate)(const T *sums, const T *h, T *gated, Units);
  void (*backward_late)(const LateRow<T> &);

  int hidden_at() const { return slots - hidden_slots; }  // the first slot with a hidden product
  int early() const { return hidden_slots - late_slots; }

  // Where a share of the state before stays, the state after is not what the cell made: of both,
  // what the backward pass reads is kept, the hidden state as made and the second part as it is.
  int made_at() const { return kept; }
  int blended_at(bool zoned) const { return zoned ? kept + reads_after : kept_cell; }
  int kept_width(bool zoned) const { return kept + (zoned ? reads_after + (states > 1) : 0); }
};

// A vector of units from u on, with nothing past the last unit.
template <class T>
inline Vec<T> within(Vec<T> value, int64_t u, const Units &units) {
  for (int lane = 0; u + LANES<T> > units.count && lane < LANES<T>; ++lane)
    if (u + lane >= units.count) value[lane] = 0;
  return value;
}

// The mean over a row, of what its vectors add up to.
template <class T>
inline Vec<T> mean_of(Vec<T> sums, const Units &units) {
  T sum = 0;
  for (int lane = 0; lane < LANES<T>; ++lane) sum += sums[lane];
  return sum / T(units.count) - Vec<T>{};
}

// Of the state before, a share stays; what the backward pass reads of what the cell made is kept.
template <class T>
inline void blend(const Cell<T> &cell, const ForwardRow<T> &row, int64_t u, const Vec<T> *before,
                  Vec<T> *state) {
  const int64_t block = row.units.block;
  if (row.keep && cell.reads_after) store(row.keep + cell.made_at() * block + u, state[0]);
  for (int part = 0; part < cell.states; ++part) {
    if (!row.stays[part]) continue;
    const Vec<T> stays = load(row.stays[part] + u);
    state[part] = stays * before[part] + (T(1) - stays) * state[part];
  }
  if (row.keep && cell.states > 1) store(row.keep + cell.blended_at(true) * block + u, state[1]);
}

}  // namespace SEQCELLS_VARIANT
