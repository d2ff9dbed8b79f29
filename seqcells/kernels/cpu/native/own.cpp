// A user-defined cell, compiled for one instruction set (seqcells/kernels/cpu/compiler.py).
#include SEQCELLS_CELLS_FROM

#define PUBLIC extern "C" __attribute__((visibility("default")))

namespace own = SEQCELLS_VARIANT;

#define SEQCELLS_FLOAT(Functor) own::cell_of<float, own::Functor<float>>()
#define SEQCELLS_DOUBLE(Functor) own::cell_of<double, own::Functor<double>>()
PUBLIC const own::Cell<float> seqcells_own_float = SEQCELLS_CELLS(SEQCELLS_FLOAT);
PUBLIC const own::Cell<double> seqcells_own_double = SEQCELLS_CELLS(SEQCELLS_DOUBLE);
