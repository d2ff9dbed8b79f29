// A `Cell` that interprets a program, so that no compiler is needed at run time.
//
// `seqcells/kernels/cpu/encoding.py` writes the code: the sizes of the cell, then the phases of
// each direction. A phase consists of loads into registers, instructions and stores. A register is
// a few vectors of units, which amortises the cost of decoding an instruction.
#pragma once
#include "cell.hpp"
#include "operations.hpp"

namespace SEQCELLS_VARIANT {

// In the order of `KINDS` in encoding.py.
enum Kind {
  Z, STATE, PARAMETER, DROP, SAVED, ROW, AFTER, GRAD, DZ, DP, TEMP, MEAN, SUM, NUMBER, OPERAND, E,
  KINDS
};
enum Operation {
#define SEQCELLS_NAME(name, value) name,
  SEQCELLS_OPERATIONS(SEQCELLS_NAME)
#undef SEQCELLS_NAME
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

// A sequence of loads, instructions and stores, decoded from the code.
struct Segment {
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

// The segments of a phase: more than one if its values exceed the registers.
struct PhaseCode {
  const int32_t *code;

  // Return the code after the phase.
  template <class Visit>
  const int32_t *each(Visit visit) const {
    const int32_t *at = code + 1;
    for (int32_t n = 0; n < code[0]; ++n) {
      Segment segment;
      at = segment.read(at);
      visit(segment);
    }
    return at;
  }
};

template <class T>
struct Interpreted : Cell<T> {
  const int32_t *forward_code, *backward_code;
  const double *numbers;

  Interpreted(const int32_t *code, const double *numbers)
      : Cell<T>{code[0], code[1], code[2], code[3], code[4], code[5], code[6], code[7], code[8],
                code[9], code[10] != 0, code[11] != 0, code + HEAD, code + HEAD + code[1],
                reinterpret_cast<const Slots *>(code + HEAD + code[1] + code[2]),
                code + HEAD + code[1] + code[2] + 2 * (code[3] + 1), forward_row, backward_row},
        forward_code(this->saved_states + code[4] - 1), backward_code(forward_code + code[12]),
        numbers(numbers) {}

 private:
  using V = Vec<T>;
  static constexpr int L = LANES<T>, HEAD = 13;

  // Addresses of the values of a row by kind, and the state of the loops over its units.
  struct Memory {
    T *base[KINDS], *state[PARTS], *grad[PARTS];
    const T *const *stays;  // zoneout shares of the later parts of the state, in the backward pass
    const ForwardRow<T> *forward;
    const Cell<T> &cell;
    Units units;
    int part;
    T *kept_means;  // between the parts of a step
    V sums[MEANS], means[MEANS];

    T *at(int32_t kind, int32_t index, int64_t u) const {
      if (kind == STATE) return state[index] + u;
      if (kind == GRAD) return grad[index] + u;
      return base[kind] + (kind == ROW ? index * ROW_WIDTH : index * units.block + u);
    }
  };

  static const Interpreted &self(const Cell<T> &cell) {
    return static_cast<const Interpreted &>(cell);
  }

  static void forward_row(const Cell<T> &cell, const ForwardRow<T> &row, int part) {
    Memory m{{}, {}, {}, nullptr, &row, cell, row.units, part, row.means, {}, {}};
    const auto own = [](const T *data) { return const_cast<T *>(data); };
    for (int n = 0; n < cell.states; ++n) m.state[n] = row.state[n];
    m.base[Z] = own(row.sums), m.base[OPERAND] = row.operands;
    m.base[PARAMETER] = own(row.parameters), m.base[DROP] = own(row.drop);
    m.base[SAVED] = row.saved, m.base[ROW] = row.rows, m.base[TEMP] = row.temps;
    self(cell).phases(self(cell).forward_code, m);
  }

  static void backward_row(const Cell<T> &cell, const BackwardRow<T> &row, int part) {
    Memory m{{}, {}, {}, row.stays, nullptr, cell, row.units, part, row.means, {}, {}};
    const auto own = [](const T *data) { return const_cast<T *>(data); };
    for (int n = 0; n < cell.states; ++n)
      m.state[n] = own(row.before[n]), m.grad[n] = row.grad[n];
    m.base[OPERAND] = row.operands, m.base[E] = own(row.e);
    m.base[PARAMETER] = own(row.parameters), m.base[DROP] = own(row.drop);
    m.base[SAVED] = own(row.saved), m.base[ROW] = own(row.rows);
    m.base[AFTER] = own(row.after), m.base[TEMP] = row.temps;
    m.base[DZ] = row.dz, m.base[DP] = row.dp;
    self(cell).phases(self(cell).backward_code, m);
  }

  // code: number of phases, number of constants, index of the first constant, the part of the step
  // of each phase, the phases
  void phases(const int32_t *code, Memory &m) const {
    const int count = code[0], constants = code[1], first = code[2];
    const int32_t *parts = code + 3;
    code = parts + count;
    for (int n = 0; m.part && n < m.cell.means; ++n)
      m.means[n] = load(m.kept_means + n * ROW_WIDTH);
    constexpr int WIDE = 4;
    V file[REGISTERS * WIDE];
    for (int n = 0; n < constants; ++n)
      for (int w = 0; w < WIDE; ++w) file[n * WIDE + w] = T(numbers[first + n]) - V{};
    for (int n = 0; n < count; ++n) {
      const PhaseCode phase{code};
      if (parts[n] != m.part) {
        code = phase.each([](const Segment &) {});
        continue;
      }
      for (V &sum : m.sums) sum = V{};
      int64_t u = m.units.from;
      for (; u + WIDE * L <= m.units.to; u += WIDE * L) run<WIDE, WIDE>(phase, m, u, file);
      for (; u < m.units.to; u += L) run<WIDE, 1>(phase, m, u, file);
      code = phase.each([&](const Segment &segment) {
        for (const Store *s = segment.stores; s < segment.stores_end; ++s)
          if (s->kind == SUM) {
            m.means[s->index] = mean_of<T>(m.sums[s->index], m.units);
            if (m.kept_means) store(m.kept_means + s->index * ROW_WIDTH, m.means[s->index]);
          }
      });
    }
  }

  template <int stride, int W>
  static void run(const PhaseCode &phase, Memory &m, int64_t u, V *file) {
    V state[PARTS][W];
    bool ends = false;
    phase.each([&](const Segment &segment) {
      for (const Load *l = segment.loads; l < segment.loads_end; ++l)
        read<W>(*l, m, u, file + l->to * stride);
      for (const Instruction *i = segment.first; i < segment.last; ++i)
        compute<W>(i->operation, file + i->to * stride, file + i->a * stride, file + i->b * stride,
                   file + i->c * stride);
      for (const Store *s = segment.stores; s < segment.stores_end; ++s) {
        write<W>(*s, m, u, file + s->from * stride, state);
        ends |= s->kind == STATE;
      }
    });
    for (int w = 0; ends && w < W; ++w) {
      const int64_t unit = u + w * L;
      V before[PARTS], after[PARTS];
      for (int part = 0; part < m.cell.states; ++part)
        before[part] = load(m.state[part] + unit), after[part] = state[part][w];
      if (m.forward->zoned) blend(m.cell, *m.forward, unit, before, after);
      for (int part = 0; part < m.cell.states; ++part) store(m.state[part] + unit, after[part]);
    }
  }

  template <int W>
  static void read(const Load &l, const Memory &m, int64_t u, V *to) {
    for (int w = 0; w < W; ++w) {
      const int64_t unit = u + w * L;
      switch (l.kind) {
        case MEAN: to[w] = m.means[l.index]; break;
        case NUMBER: to[w] = T(self(m.cell).numbers[l.index]) - V{}; break;
        default: to[w] = load(m.at(l.kind, l.index, unit));
      }
      if (l.kind == GRAD && l.index && m.stays[l.index])
        to[w] -= load(m.stays[l.index] + unit) * to[w];
    }
  }

  template <int W>
  static void write(const Store &s, Memory &m, int64_t u, const V *from,
                    V (&state)[PARTS][W]) {
    for (int w = 0; w < W; ++w) {
      const V value = from[w];
      const int64_t unit = u + w * L;
      switch (s.kind) {
        case STATE: state[s.index][w] = value; break;
        case SAVED:
        case ROW:
          if (m.base[SAVED]) store(m.at(s.kind, s.index, unit), value);
          break;
        case SUM: m.sums[s.index] += within<T>(value, unit, m.units); break;
        case DZ:
        case OPERAND: store(m.at(s.kind, s.index, unit), within<T>(value, unit, m.units)); break;
        case DP: store(m.at(DP, s.index, unit), load(m.at(DP, s.index, unit)) + value); break;
        case GRAD: {
          T *at = m.grad[s.index] + unit;
          const T *stays = s.index ? m.stays[s.index] : nullptr;
          store(at, stays ? value + load(stays + unit) * load(at) : value);
          break;
        }
        default: store(m.at(s.kind, s.index, unit), value);
      }
    }
  }

  template <int W>
  static void compute(int32_t operation, V *to, const V *a, const V *b, const V *c) {
#define SEQCELLS_EACH(name, value)            \
  case name:                                  \
    for (int w = 0; w < W; ++w) to[w] = value; \
    break;
    switch (operation) { SEQCELLS_OPERATIONS(SEQCELLS_EACH) }
#undef SEQCELLS_EACH
  }
};

}  // namespace SEQCELLS_VARIANT
