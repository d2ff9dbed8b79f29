// All cells for one instruction set: compiled once for each, with that set's flags. A user's own
// cell is compiled so too, alone (seqcells/kernels/compiler.py).
#include "backward.hpp"
#include "forward.hpp"

namespace SEQCELLS_VARIANT {

template <template <class, class> class Direction, template <class> class Cell>
int of_type(const Problem &p, const Plan &plan) {
  return p.is_double ? Direction<double, Cell<double>>::run(p, plan)
                     : Direction<float, Cell<float>>::run(p, plan);
}

// By its number: its place in seqcells/kernels/catalogue.py.
template <template <class, class> class Direction>
int of_cell(const Problem &p, const Plan &plan) {
#define SEQCELLS_CALL(Cell) of_type<Direction, Cell>,
  constexpr int (*cells[])(const Problem &, const Plan &) = {SEQCELLS_CELLS(SEQCELLS_CALL)};
  const int64_t count = sizeof(cells) / sizeof(cells[0]);
  return p.cell < 0 || p.cell >= count ? 2 : cells[p.cell](p, plan);
}

int forward(const Problem &p, const Plan &plan) { return of_cell<Forward>(p, plan); }
int backward(const Problem &p, const Plan &plan) { return of_cell<Backward>(p, plan); }

}  // namespace SEQCELLS_VARIANT

#ifdef SEQCELLS_ALONE
#define PUBLIC extern "C" __attribute__((visibility("default")))
PUBLIC int seqcells_alone_forward(const seqcells::Problem &p, const seqcells::Plan &plan) {
  return SEQCELLS_VARIANT::forward(p, plan);
}
PUBLIC int seqcells_alone_backward(const seqcells::Problem &p, const seqcells::Plan &plan) {
  return SEQCELLS_VARIANT::backward(p, plan);
}
#endif
