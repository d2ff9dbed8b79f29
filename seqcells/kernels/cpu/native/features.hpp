// Optional instructions of the CPU: dot products of narrow numbers. Included once, by kernel.cpp.
#pragma once
#include <atomic>
#if defined(SEQCELLS_NEON) && defined(__linux__)
#include <sys/auxv.h>
#endif

#include "problem.hpp"

namespace seqcells {

namespace {

// Optional instructions of this CPU, as bits.
int64_t all_features() {
  int64_t found = 0;
#ifdef SEQCELLS_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512bf16")) found |= BFLOAT16_DOT;
  if (__builtin_cpu_supports("avx512vnni")) found |= INT8_DOT;
#elif defined(SEQCELLS_NEON) && defined(__linux__)
  constexpr unsigned long ASIMDDP = 1 << 20;  // HWCAP_ASIMDDP, which old headers lack
  if (getauxval(AT_HWCAP) & ASIMDDP) found |= INT8_DOT;
#elif defined(SEQCELLS_NEON) && defined(__APPLE__)
  found |= INT8_DOT;  // every ARM processor of a Mac has it
#endif
  return found;
}

// Those that are used. Intel's CPUs run VDPBF16PS at a quarter of the rate of a multiply-add, so
// that products of floats are twice as fast; their matrix unit is meant for bfloat16. Tests set it.
std::atomic<int64_t> used_features{[] {
  int64_t found = all_features();
#ifdef SEQCELLS_X86
  if (__builtin_cpu_is("intel")) found &= ~BFLOAT16_DOT;
#endif
  return found;
}()};

}  // namespace

int64_t features() { return used_features.load(); }

// Use these instructions, as far as the CPU has them, and return the former ones; a negative number
// changes nothing.
int64_t use_features(int64_t wanted) {
  return wanted < 0 ? used_features.load() : used_features.exchange(wanted & all_features());
}

}  // namespace seqcells
