// Arguments of a call: one recurrence, forward or backward. Mirrored in library.py, which compares
// names and offsets when it loads the library.
#pragma once
#include <cstddef>
#include <cstdint>

namespace seqcells {

constexpr int PARTS = 8;  // most parts of a state, of which the hidden state is the first

struct Problem {
  // In place of a built-in cell: a Cell<T>, or its code and constants for the interpreter.
  const void *custom_cell;
  const int32_t *code;
  const double *constants;
  int64_t cell, is_double, threads, reverse;
  int64_t steps, batch, gates, input_size, hidden_size, projection;  // T, B, G, I, H, P (or 0)
  int64_t heads;  // blocks of W_hh, each of the same units in rows and columns: a multiple of 16
  int64_t whole_rows;                    // the cell computes means over its units
  int64_t narrow, stored;                // a `Narrow` and a `Stored`: numbers of the products
  int64_t input_step, input_row;         // strides of inputs, in elements
  int64_t read_step, drop_step, zone_step[PARTS];             // strides of noise; 0: per sequence
  const int64_t *lengths, *batch_sizes;                       // (B,) padded; (T,) packed; or null
  const uint8_t *resets;                                      // (T, B) or null
  const void *inputs;
  const void *weight_ih, *weight_hh, *bias_ih, *bias_hh, *weight_hr;
  const void *parameters;  // (parameters, H), read by the step outside the products
  void *packed;  // kept by the caller, for the packed int8 weights of a forward pass; or null
  const void *read, *drop, *zone[PARTS];  // (B, .), (T, B, .) or null: factors, zoneout shares
  const void *state[PARTS], *fresh[PARTS];
  void *outputs, *final_state[PARTS], *saved;
  void *states[PARTS];  // the parts after every step but the first, which is the outputs; or null
  int64_t grad_step, grad_row;                    // strides of grad_outputs
  const void *grad_outputs, *grad_final[PARTS], *grad_states[PARTS];
  void *grad_inputs, *grad_state[PARTS], *grad_fresh[PARTS];
  void *grad_weight_ih, *grad_weight_hh, *grad_bias_ih, *grad_bias_hh, *grad_weight_hr;
  void *grad_parameters;
};

// The numbers that products multiply. Narrow ones are summed in float32 (bfloat16) or int32 (int8);
// all else is float32. int8 products are inference only, and their weights are stored as int8.
enum class Narrow : int64_t { none, bfloat16, int8 };

// How weights are stored: in the type of all other numbers, as bfloat16 numbers, or as rows of int8
// numbers each followed by its scale, a float.
enum class Stored : int64_t { whole, bfloat16, int8 };

// Optional instructions of the CPU, as bits.
enum : int64_t { BFLOAT16_DOT = 1, INT8_DOT = 2 };

// All members, for library.py to compare with its own.
#define SEQCELLS_MEMBERS(_)                                                                      \
  _(custom_cell) _(code) _(constants) _(cell) _(is_double) _(threads) _(reverse)                 \
  _(steps) _(batch) _(gates) _(input_size) _(hidden_size) _(projection) _(heads)                 \
  _(whole_rows) _(narrow) _(stored)                                                              \
  _(input_step) _(input_row) _(read_step) _(drop_step) _(zone_step)                              \
  _(lengths) _(batch_sizes) _(resets) _(inputs)                                                  \
  _(weight_ih) _(weight_hh) _(bias_ih) _(bias_hh) _(weight_hr) _(parameters) _(packed)           \
  _(read) _(drop) _(zone) _(state) _(fresh) _(outputs) _(final_state) _(saved) _(states)         \
  _(grad_step) _(grad_row) _(grad_outputs) _(grad_final) _(grad_states)                          \
  _(grad_inputs) _(grad_state) _(grad_fresh) _(grad_weight_ih) _(grad_weight_hh)                 \
  _(grad_bias_ih) _(grad_bias_hh) _(grad_weight_hr) _(grad_parameters)

// Stops a call early. The calling thread polls at intervals, the others read the flag. After a stop
// no thread waits for another, and the results are incomplete.
struct Watch {
  bool (*interrupted)(Watch &) = nullptr;  // null: not interruptible
  int64_t next = 0;                        // time of the next poll, in nanoseconds
  bool stop = false;
  int64_t reads = 0;  // how products read their weights, for tests

  bool stopped() const { return __atomic_load_n(&stop, __ATOMIC_RELAXED); }
  bool poll() {
    if (interrupted && interrupted(*this)) __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    return stopped();
  }
};

// Selects how products read their weights: by size, or in one way wherever it is possible.
enum class Path { by_size, packed, streamed, direct };

// Rows sorted by decreasing length, so that the rows active at a step are the first ones.
struct Plan {
  const int64_t *order;  // (B,) caller's row for each sorted row
  const int64_t *alive;  // (T,) number of rows active at step t
  const int64_t *start;  // (T,) number of rows of all steps before t
  // Each group of threads has its own rows, and its `parts` threads divide the units. With `pairs`,
  // two threads of a group may instead overlap work of different steps, and do so if `awake`.
  int64_t groups, parts;
  bool pairs, awake;
  Watch *watch;
  Path path;
  int64_t rows;  // total over all steps
  int64_t features;  // optional instructions to use

  int64_t most_rows(int64_t batch) const { return (batch + groups - 1) / groups; }
  int64_t seats() const { return pairs ? 2 : parts; }
};

int64_t features();  // of this CPU (kernel.cpp)

}  // namespace seqcells
