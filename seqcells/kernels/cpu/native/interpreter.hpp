// A `Cell` out of a program that is read as it runs: nothing has to be compiled.
//
// `seqcells/kernels/cpu/encoding.py` writes the code: a cell's sizes, then for each direction its
// phases, and in each phase what is loaded into registers, what is computed, and what is stored. A
// register is a few vectors of units, so that reading an instruction costs little beside doing it.
#pragma once
#include "cell.hpp"

namespace SEQCELLS_VARIANT {

// In the order of encoding.py.
enum Kind {
  Z, STATE, CELL, PARAMETER, DROP, KEEP, ROW, AFTER, GRAD, GRAD_CELL, DZ, DP, TEMP, MEAN, SUM, KINDS
};
enum Operation {
  ADD, SUB, MUL, DIV, NEG, ABS, EXP, SIGMOID, TANH, RELU, SOFTPLUS, SQRT, RSQRT, WHERE_POSITIVE
};

constexpr int REGISTERS = 128, MEANS = 32;

struct Load {
  int32_t kind, index, to;
};
struct Instruction {
  int32_t operation, to, a, b, c;
};
struct Store {
  int32_t kind, index, from;
};

// One phase, read from the code.
struct PhaseCode {
  const Load *loads, *loads_end;
  const Instruction *first, *last;
  const Store *stores, *stores_end;

  const int32_t *read(const int32_t *code) {
    const int32_t *at = code + 3;
    loads = reinterpret_cast<const Load *>(at), loads_end = loads + code[0];
    first = reinterpret_cast<const Instruction *>(loads_end), last = first + code[1];
    stores = reinterpret_cast<const Store *>(last), stores_end = stores + code[2];
    return reinterpret_cast<const int32_t *>(stores_end);
  }
};

template <class T>
struct Interpreted : Cell<T> {
  const int32_t *forward_code, *backward_code;
  const double *numbers;

  Interpreted(const int32_t *code, const double *numbers)
      : Cell<T>{code[0], code[1], code[2], 0, code[3], code[4], code[5], code[6], code[7], code[8],
                code[9] != 0, code[10] != 0, code + 12, code + 12 + code[1], forward_row,
                backward_row, nullptr, nullptr},
        forward_code(code + 12 + code[1] + code[2]), backward_code(forward_code + code[11]),
        numbers(numbers) {}

 private:
  using V = Vec<T>;
  static constexpr int L = LANES<T>;

  // Where the values of a row stand, by their kinds; what the loops above `row` do beside.
  struct Memory {
    T *base[KINDS];
    const T *stays;  // of the second part of the state, in the backward pass
    const ForwardRow<T> *forward;
    const Cell<T> &cell;
    Units units;
    V sums[MEANS], means[MEANS];

    T *at(int32_t kind, int32_t index, int64_t u) const {
      return base[kind] + (kind == ROW ? index * ROW_WIDTH : index * units.block + u);
    }
  };

  static const Interpreted &self(const Cell<T> &cell) {
    return static_cast<const Interpreted &>(cell);
  }

  static void forward_row(const Cell<T> &cell, const ForwardRow<T> &row) {
    Memory m{{}, nullptr, &row, cell, row.units, {}, {}};
    const auto own = [](const T *data) { return const_cast<T *>(data); };
    m.base[Z] = own(row.sums), m.base[STATE] = row.h, m.base[CELL] = row.c;
    m.base[PARAMETER] = own(row.parameters), m.base[DROP] = own(row.drop);
    m.base[KEEP] = row.keep, m.base[ROW] = row.rows, m.base[TEMP] = row.temps;
    self(cell).phases(self(cell).forward_code, m);
  }

  static void backward_row(const Cell<T> &cell, const BackwardRow<T> &row) {
    Memory m{{}, row.stays, nullptr, cell, row.units, {}, {}};
    const auto own = [](const T *data) { return const_cast<T *>(data); };
    m.base[STATE] = own(row.before), m.base[CELL] = own(row.before_cell);
    m.base[PARAMETER] = own(row.parameters), m.base[DROP] = own(row.drop);
    m.base[KEEP] = own(row.keep), m.base[ROW] = own(row.rows);
    m.base[AFTER] = own(row.after), m.base[TEMP] = row.temps;
    m.base[GRAD] = row.dh, m.base[GRAD_CELL] = row.dc, m.base[DZ] = row.dz, m.base[DP] = row.dp;
    self(cell).phases(self(cell).backward_code, m);
  }

  // code: how many phases and numbers, the numbers' places, the phases
  void phases(const int32_t *code, Memory &m) const {
    const int count = code[0], constants = code[1], first = code[2];
    code += 3;
    constexpr int WIDE = 4;
    V file[REGISTERS * WIDE];
    for (int n = 0; n < constants; ++n)
      for (int w = 0; w < WIDE; ++w) file[n * WIDE + w] = T(numbers[first + n]) - V{};
    for (int n = 0; n < count; ++n) {
      PhaseCode phase;
      code = phase.read(code);
      for (V &sum : m.sums) sum = V{};
      int64_t u = m.units.from;
      for (; u + WIDE * L <= m.units.to; u += WIDE * L) run<WIDE, WIDE>(phase, m, u, file);
      for (; u < m.units.to; u += L) run<WIDE, 1>(phase, m, u, file);
      for (const Store *s = phase.stores; s < phase.stores_end; ++s)
        if (s->kind == SUM) m.means[s->index] = mean_of<T>(m.sums[s->index], m.units);
    }
  }

  template <int stride, int W>
  static void run(const PhaseCode &phase, Memory &m, int64_t u, V *file) {
    for (const Load *l = phase.loads; l < phase.loads_end; ++l) {
      V *to = file + l->to * stride;
      for (int w = 0; w < W; ++w)
        to[w] = l->kind == MEAN ? m.means[l->index] : load(m.at(l->kind, l->index, u + w * L));
      if (l->kind == GRAD_CELL && m.stays)
        for (int w = 0; w < W; ++w) to[w] -= load(m.stays + u + w * L) * to[w];
    }
    for (const Instruction *i = phase.first; i < phase.last; ++i)
      compute<W>(i->operation, file + i->to * stride, file + i->a * stride, file + i->b * stride,
                 file + i->c * stride);
    V state[2][W];
    bool ends = false;
    for (const Store *s = phase.stores; s < phase.stores_end; ++s)
      for (int w = 0; w < W; ++w) {
        const V value = file[s->from * stride + w];
        const int64_t unit = u + w * L;
        switch (s->kind) {
          case STATE: state[0][w] = value, ends = true; break;
          case CELL: state[1][w] = value; break;
          case KEEP:
          case ROW:
            if (m.base[KEEP]) store(m.at(s->kind, s->index, unit), value);
            break;
          case SUM: m.sums[s->index] += within<T>(value, unit, m.units); break;
          case DZ: store(m.at(DZ, s->index, unit), within<T>(value, unit, m.units)); break;
          case DP: store(m.at(DP, s->index, unit), load(m.at(DP, s->index, unit)) + value); break;
          case GRAD_CELL: {
            T *at = m.at(GRAD_CELL, 0, unit);
            store(at, m.stays ? value + load(m.stays + unit) * load(at) : value);
            break;
          }
          default: store(m.at(s->kind, s->index, unit), value);
        }
      }
    for (int w = 0; ends && w < W; ++w) {
      const int64_t unit = u + w * L;
      V before[2] = {load(m.at(STATE, 0, unit))}, after[2] = {state[0][w]};
      if (m.cell.states > 1) before[1] = load(m.at(CELL, 0, unit)), after[1] = state[1][w];
      if (m.forward->stays[0] || m.forward->stays[1])
        blend(m.cell, *m.forward, unit, before, after);
      store(m.at(STATE, 0, unit), after[0]);
      if (m.cell.states > 1) store(m.at(CELL, 0, unit), after[1]);
    }
  }

  template <int W>
  static void compute(int32_t operation, V *to, const V *a, const V *b, const V *c) {
#define SEQCELLS_EACH(name, value)            \
  case name:                                  \
    for (int w = 0; w < W; ++w) to[w] = value; \
    break;
    const V zero{};
    switch (operation) {
      SEQCELLS_EACH(ADD, a[w] + b[w])
      SEQCELLS_EACH(SUB, a[w] - b[w])
      SEQCELLS_EACH(MUL, a[w] * b[w])
      SEQCELLS_EACH(DIV, a[w] / b[w])
      SEQCELLS_EACH(NEG, -a[w])
      SEQCELLS_EACH(ABS, a[w] < zero ? -a[w] : a[w])
      SEQCELLS_EACH(EXP, exp<T>(a[w]))
      SEQCELLS_EACH(SIGMOID, sigmoid<T>(a[w]))
      SEQCELLS_EACH(TANH, tanh<T>(a[w]))
      SEQCELLS_EACH(RELU, a[w] < zero ? zero : a[w])
      SEQCELLS_EACH(SOFTPLUS, softplus<T>(a[w]))
      SEQCELLS_EACH(SQRT, sqrt<T>(a[w]))
      SEQCELLS_EACH(RSQRT, T(1) / sqrt<T>(a[w]))
      SEQCELLS_EACH(WHERE_POSITIVE, a[w] > zero ? b[w] : c[w])
    }
#undef SEQCELLS_EACH
  }
};

}  // namespace SEQCELLS_VARIANT
