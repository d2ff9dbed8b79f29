// A user's own cell, compiled for one instruction set (seqcells/kernels/compiler.py).
#include SEQCELLS_CELLS_FROM

#define PUBLIC extern "C" __attribute__((visibility("default")))

#define SEQCELLS_CELL(Functor) SEQCELLS_VARIANT::cell_of<float, SEQCELLS_VARIANT::Functor<float>>()
PUBLIC const SEQCELLS_VARIANT::Cell<float> seqcells_own_float = SEQCELLS_CELLS(SEQCELLS_CELL);
#undef SEQCELLS_CELL
#define SEQCELLS_CELL(Functor) SEQCELLS_VARIANT::cell_of<double, SEQCELLS_VARIANT::Functor<double>>()
PUBLIC const SEQCELLS_VARIANT::Cell<double> seqcells_own_double = SEQCELLS_CELLS(SEQCELLS_CELL);
