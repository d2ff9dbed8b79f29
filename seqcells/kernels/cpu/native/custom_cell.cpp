// A user-defined cell, compiled for one instruction set (seqcells/kernels/cpu/compiler.py).
#include SEQCELLS_CELLS_FROM

#define PUBLIC extern "C" __attribute__((visibility("default")))

namespace custom = SEQCELLS_VARIANT;

#define SEQCELLS_FLOAT(Functor) custom::cell_of<float, custom::Functor<float>>()
#define SEQCELLS_DOUBLE(Functor) custom::cell_of<double, custom::Functor<double>>()
PUBLIC const custom::Cell<float> seqcells_custom_float = SEQCELLS_CELLS(SEQCELLS_FLOAT);
PUBLIC const custom::Cell<double> seqcells_custom_double = SEQCELLS_CELLS(SEQCELLS_DOUBLE);
