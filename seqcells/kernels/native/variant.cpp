// All cells for one instruction set: compiled once for each, with that set's flags.
#include "backward.hpp"
#include "forward.hpp"

namespace SEQCELLS_VARIANT {

template <template <class, class> class Direction, template <class> class Cell>
int of_type(const Problem &p, const Plan &plan) {
  return p.is_double ? Direction<double, Cell<double>>::run(p, plan)
                     : Direction<float, Cell<float>>::run(p, plan);
}

template <class T>
using RNNTanh = RNN<T, false>;
template <class T>
using RNNReLU = RNN<T, true>;

// In the order of CELLS in cpu.py.
template <template <class, class> class Direction>
int of_cell(const Problem &p, const Plan &plan) {
  switch (p.cell) {
    case 0: return of_type<Direction, RNNTanh>(p, plan);
    case 1: return of_type<Direction, RNNReLU>(p, plan);
    case 2: return of_type<Direction, GRU>(p, plan);
    case 3: return of_type<Direction, GRUResetBefore>(p, plan);
    case 4: return of_type<Direction, LSTM>(p, plan);
    default: return 2;
  }
}

int forward(const Problem &p, const Plan &plan) { return of_cell<Forward>(p, plan); }
int backward(const Problem &p, const Plan &plan) { return of_cell<Backward>(p, plan); }

}  // namespace SEQCELLS_VARIANT
