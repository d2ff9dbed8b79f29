// Interface of a cell for the loops over time: sizes, and the elementwise part of a step.
//
// A row of sums z holds `slots` blocks of H units. The first `input_slots` receive the input
// product, the last `hidden_slots` a product with W_hh; a slot in both receives their sum.
// `input_gates` and `hidden_gates` map these slots to gates, in the order of the weights' rows.
//
// The slots of `products[0]` multiply the hidden state. Those of `products[n]` are stage n of the
// late products: they multiply a value that the step computes, the operand of the stage. So a step
// of a cell with N stages has N + 1 parts, with a product between two parts.
#pragma once
#include "problem.hpp"
#include "vector.hpp"

namespace SEQCELLS_VARIANT {

using seqcells::PARTS;

// Values per row are saved separately from values per unit, each as a vector of equal lanes.
constexpr int ROW_WIDTH = 16;

constexpr int STAGES = 16;  // most stages of late products, as in equations/program.py

// Slots whose sums are one product.
struct Slots {
  int first, count;
};

// Range of units of a row that a thread computes. Blocks of a row are `block` units apart.
struct Units {
  int64_t from, to, count, block;
};

template <class T>
struct ForwardRow {
  const T *sums, *parameters, *drop, *stays[PARTS];  // stays: zoneout shares, or null
  T *state[PARTS], *saved, *rows, *temps, *means;     // saved: null in inference
  T *operands;                                        // of the stages, one block each
  bool zoned;                                         // some part has zoneout shares
  Units units;
};

template <class T>
struct BackwardRow {
  const T *before[PARTS], *after, *saved, *rows, *parameters, *drop;
  const T *stays[PARTS];  // from the second part on
  T *grad[PARTS], *dz, *dp, *temps, *means;
  T *operands;
  const T *e;  // gradients by the operands
  T *m;  // output for the unprojected state, if projected
  bool projected;
  Units units;
};

template <class T>
struct Cell {
  int slots, input_slots, hidden_slots, stages, states;
  int saved, rows, parameters, temps, means;
  bool reads_new_hidden, takes_drop;
  const int *input_gates, *hidden_gates;
  const Slots *products;    // the hidden state's, then each stage's
  const int *saved_states;  // indices of the parts from the second on among the saved values
  // One part of a step. The backward pass computes the gradients by the operands in reverse order.
  void (*forward)(const Cell &, const ForwardRow<T> &, int part);
  void (*backward)(const Cell &, const BackwardRow<T> &, int part);

  int hidden_at() const { return slots - hidden_slots; }  // the first slot with a product with W_hh
  const int *gates_of(int product) const {
    return hidden_gates + (products[product].count ? products[product].first - hidden_at() : 0);
  }

  // With zoneout, the new state differs from the cell's result. The backward pass reads the hidden
  // state from the cell's result and the other parts from the new state, so these are saved.
  int made_at() const { return saved; }
  int blended_at(int part, bool zoned) const {
    return zoned ? saved + reads_new_hidden + part - 1 : saved_states[part - 1];
  }
  int saved_width(bool zoned) const { return saved + (zoned ? reads_new_hidden + states - 1 : 0); }
};

// Return the vector of units from u on, with zeros in lanes past the last unit.
template <class T>
inline Vec<T> within(Vec<T> value, int64_t u, const Units &units) {
  if (u + LANES<T> <= units.count) return value;
  T lanes[LANES<T>];
  store(lanes, value);
  for (int lane = 0; lane < LANES<T>; ++lane)
    if (u + lane >= units.count) lanes[lane] = 0;
  return load(lanes);
}

// Return the mean over a row from the sum of its vectors.
template <class T>
inline Vec<T> mean_of(Vec<T> sums, const Units &units) {
  T sum = 0;
  for (int lane = 0; lane < LANES<T>; ++lane) sum += sums[lane];
  return sum / T(units.count) - Vec<T>{};
}

// Apply zoneout to the new state, and save what the backward pass reads.
template <class T>
inline void blend(const Cell<T> &cell, const ForwardRow<T> &row, int64_t u, const Vec<T> *before,
                  Vec<T> *state) {
  const int64_t block = row.units.block;
  if (row.saved && cell.reads_new_hidden) store(row.saved + cell.made_at() * block + u, state[0]);
  for (int part = 0; part < cell.states; ++part) {
    if (row.stays[part]) {
      const Vec<T> stays = load(row.stays[part] + u);
      state[part] = stays * before[part] + (T(1) - stays) * state[part];
    }
    if (row.saved && part) store(row.saved + cell.blended_at(part, true) * block + u, state[part]);
  }
}

}  // namespace SEQCELLS_VARIANT
