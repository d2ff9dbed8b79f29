// A vector of four registers, for instruction sets with registers of 16 bytes: 16 floats, as in the
// widest registers of other CPUs. Operations on the four registers are independent, which hides
// their latency.
//
// A struct, since GCC keeps vector types that are wider than a register in memory.
#pragma once
#include <cstdint>
#include <type_traits>

namespace SEQCELLS_VARIANT {

template <class E, int bytes = 16>
struct Group {
  typedef E Register __attribute__((vector_size(bytes)));
  typedef E Loose __attribute__((vector_size(bytes), aligned(1), may_alias));
  using Mask = Group<std::conditional_t<sizeof(E) == 8, int64_t, int32_t>>;

  Register a, b, c, d;

  static Group load(const void *from) {
    const Loose *parts = static_cast<const Loose *>(from);
    return {parts[0], parts[1], parts[2], parts[3]};
  }
  void store(void *to) const {
    Loose *parts = static_cast<Loose *>(to);
    parts[0] = a, parts[1] = b, parts[2] = c, parts[3] = d;
  }

  // The same bits as numbers of another type.
  template <class F>
  explicit operator Group<F, bytes>() const {
    using To = typename Group<F, bytes>::Register;
    return {(To)a, (To)b, (To)c, (To)d};
  }

  E operator[](int64_t lane) const {
    const Group copy = *this;  // in memory, so that the vector itself stays in registers
    return reinterpret_cast<const E *>(&copy)[lane];
  }

#define SEQCELLS_BINARY(op)                                                 \
  friend Group operator op(Group x, Group y) {                              \
    return {x.a op y.a, x.b op y.b, x.c op y.c, x.d op y.d};                \
  }                                                                         \
  friend Group operator op(Group x, E y) {                                  \
    return {x.a op y, x.b op y, x.c op y, x.d op y};                        \
  }                                                                         \
  friend Group operator op(E x, Group y) {                                  \
    return {x op y.a, x op y.b, x op y.c, x op y.d};                        \
  }                                                                         \
  friend Group &operator op##=(Group &x, Group y) { return x = x op y; }
  SEQCELLS_BINARY(+)
  SEQCELLS_BINARY(-)
  SEQCELLS_BINARY(*)
  SEQCELLS_BINARY(/)
  SEQCELLS_BINARY(&)
  SEQCELLS_BINARY(|)
  SEQCELLS_BINARY(^)
  SEQCELLS_BINARY(<<)
  SEQCELLS_BINARY(>>)
#undef SEQCELLS_BINARY

  friend Group operator-(Group x) { return {-x.a, -x.b, -x.c, -x.d}; }
  friend Group operator~(Group x) { return {~x.a, ~x.b, ~x.c, ~x.d}; }

#define SEQCELLS_COMPARISON(op)                                             \
  friend Mask operator op(Group x, Group y) {                               \
    using To = typename Mask::Register;                                     \
    return {(To)(x.a op y.a), (To)(x.b op y.b), (To)(x.c op y.c), (To)(x.d op y.d)}; \
  }
  SEQCELLS_COMPARISON(<)
  SEQCELLS_COMPARISON(>)
  SEQCELLS_COMPARISON(!=)
#undef SEQCELLS_COMPARISON

  friend Group select(Mask mask, Group x, Group y) {
    return {mask.a ? x.a : y.a, mask.b ? x.b : y.b, mask.c ? x.c : y.c, mask.d ? x.d : y.d};
  }
};

template <class To, class E, int bytes>
inline To convert(Group<E, bytes> x) {
  using R = typename To::Register;
  return {__builtin_convertvector(x.a, R), __builtin_convertvector(x.b, R),
          __builtin_convertvector(x.c, R), __builtin_convertvector(x.d, R)};
}

}  // namespace SEQCELLS_VARIANT
