// The instruction sets that are compiled, and those that this CPU supports. Included once, by
// kernel.cpp.
#pragma once
#include "stepper.hpp"

using seqcells::Plan;
using seqcells::Problem;
using seqcells::Stepper;

#define DECLARE(variant)                         \
  namespace variant {                            \
  int forward(const Problem &, const Plan &);    \
  int backward(const Problem &, const Plan &);   \
  int64_t packed_size(const Problem &, const Plan &); \
  Stepper *stepper(bool);                        \
  }

#ifdef SEQCELLS_X86
DECLARE(seqcells_avx2)
DECLARE(seqcells_avx512)
#endif
#ifdef SEQCELLS_NEON
DECLARE(seqcells_neon)
#else
DECLARE(seqcells_portable)
#endif

namespace {

struct Variant {
  const char *name;
  int (*forward)(const Problem &, const Plan &);
  int (*backward)(const Problem &, const Plan &);
  int64_t (*packed_size)(const Problem &, const Plan &);
  Stepper *(*stepper)(bool);
  bool runs;
};

// In order of preference.
const Variant *variants(int &count) {
  static const Variant all[] = {
#ifdef SEQCELLS_X86
      {"AVX-512", seqcells_avx512::forward, seqcells_avx512::backward,
       seqcells_avx512::packed_size, seqcells_avx512::stepper,
       __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")},
      {"AVX2", seqcells_avx2::forward, seqcells_avx2::backward, seqcells_avx2::packed_size,
       seqcells_avx2::stepper,
       __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")},
#endif
#ifdef SEQCELLS_NEON  // every CPU of the architecture has it
      {"NEON", seqcells_neon::forward, seqcells_neon::backward, seqcells_neon::packed_size,
       seqcells_neon::stepper, true},
#else
      {"portable", seqcells_portable::forward, seqcells_portable::backward,
       seqcells_portable::packed_size, seqcells_portable::stepper, true},
#endif
  };
  count = sizeof(all) / sizeof(all[0]);
  return all;
}

const Variant *supported_variant(int64_t skip) {
  int count;
  for (const Variant *v = variants(count), *end = v + count; v < end; ++v)
    if (v->runs && skip-- == 0) return v;
  return nullptr;
}

}  // namespace
