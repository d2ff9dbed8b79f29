// All cells for one instruction set. Compiled once per instruction set, with its flags.
#include "backward.hpp"
#include "forward.hpp"
#include "generated.hpp"
#include "interpreter.hpp"
#include "stepper.hpp"

namespace SEQCELLS_VARIANT {

// Return the cell of the caller, or the built-in cell by its index in
// seqcells/equations/catalogue.py.
template <class T>
const Cell<T> *cell_for(const Problem &p) {
  if (p.custom_cell) return static_cast<const Cell<T> *>(p.custom_cell);
#define SEQCELLS_CELL(Functor) cell_of<T, Functor<T>>(),
  static const Cell<T> cells[] = {SEQCELLS_CELLS(SEQCELLS_CELL)};
  const int64_t count = sizeof(cells) / sizeof(cells[0]);
  return p.cell < 0 || p.cell >= count ? nullptr : cells + p.cell;
}

template <template <class> class Direction, class T>
int run(const Problem &p, const Plan &plan) {
  if (p.code) {
    const Interpreted<T> cell(p.code, p.constants);
    return Direction<T>(p, plan, cell).run();
  }
  const Cell<T> *cell = cell_for<T>(p);
  return cell ? Direction<T>(p, plan, *cell).run() : 2;
}

int forward(const Problem &p, const Plan &plan) {
  return p.is_double ? run<Forward, double>(p, plan) : run<Forward, float>(p, plan);
}
int backward(const Problem &p, const Plan &plan) {
  return p.is_double ? run<Backward, double>(p, plan) : run<Backward, float>(p, plan);
}

// The bytes of `Problem::packed` for a forward pass in float32; 0 for an unknown cell.
int64_t packed_size(const Problem &p, const Plan &plan) {
  Scratch count;
  if (p.code) {
    const Interpreted<float> cell(p.code, p.constants);
    Forward<float>(p, plan, cell).take_weights(count);
  } else if (const Cell<float> *cell = cell_for<float>(p)) {
    Forward<float>(p, plan, *cell).take_weights(count);
  }
  return count.used();
}

seqcells::Stepper *stepper(bool is_double) {
  if (is_double) return new TypedStepper<double>;
  return new TypedStepper<float>;
}

}  // namespace SEQCELLS_VARIANT
