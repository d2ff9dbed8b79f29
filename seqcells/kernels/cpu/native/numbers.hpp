// Narrow numbers: bfloat16 and int8, packed into words of 32 bits, and products of such words.
//
// The lane of a word vector holds the weights of one output column for DEPTH successive k. A `dot`
// adds the DEPTH products of each lane to its sum: in one instruction if the CPU has it (`fast`),
// else by two products of half words. Both sum in float32 (bfloat16) or int32 (int8).
#pragma once
#ifdef __SSE2__
#include <immintrin.h>
#endif

#include "vector.hpp"

namespace SEQCELLS_VARIANT {

using Word = uint32_t;
SEQCELLS_VECTOR(Word, Words);
SEQCELLS_VECTOR(int32_t, Integers);
SEQCELLS_VECTOR(int16_t, Shorts);
constexpr int WORDS = BYTES / 4;  // per vector, as many as floats

#ifdef SEQCELLS_FOUR_REGISTERS
using Halves = Group<uint16_t, 8>;
inline Words load_words(const void *from) { return Words::load(from); }
inline void store_words(void *to, Words value) { value.store(to); }
#else
typedef uint16_t Halves __attribute__((vector_size(BYTES / 2)));
typedef Word LooseWords __attribute__((vector_size(BYTES), aligned(1), may_alias));
inline Words load_words(const void *from) { return *static_cast<const LooseWords *>(from); }
inline void store_words(void *to, Words value) { *static_cast<LooseWords *>(to) = value; }
#endif

// The bfloat16 numbers nearest to x, in the upper halves of the words.
inline Words round_to_bfloat16(Vec<float> x) {
  const Words bits = (Words)x, is_nan = (Words)(x != x);
  return ((bits + (0x7fffu + (bits >> 16 & 1u))) & ~is_nan) | (is_nan & 0x7fc00000u);
}
inline Vec<float> rounded(Vec<float> x) {
  return (Vec<float>)(round_to_bfloat16(x) & 0xffff0000u);
}
inline Words pair(Vec<float> low, Vec<float> high) {
  return round_to_bfloat16(low) >> 16 | (round_to_bfloat16(high) & 0xffff0000u);
}

// Round W floats to W bfloat16 numbers in memory.
inline void store_bfloat16(void *to, Vec<float> x) {
  const Halves halves = convert<Halves>(round_to_bfloat16(x) >> 16);
  std::memcpy(to, &halves, sizeof halves);
}

struct Bfloat16 {
  static constexpr int DEPTH = 2;
  static constexpr int64_t BLOCK = 256;  // of k: limits rounding errors, and fits into L1
  using Sum = Vec<float>;

  static Sum dot(Sum sum, Words weight, Words value) {
#ifdef __AVX512F__
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(weight), "v"(value));
#else
    (void)weight, (void)value;
#endif
    return sum;
  }
  template <int half>
  static Vec<float> half_of_weight(Words weight) {
    return (Vec<float>)(half ? weight & 0xffff0000u : weight << 16);
  }
  template <int half>
  static Vec<float> half_of_value(Words value) {
    return half_of_weight<half>(value);
  }
  static Sum add(Sum sum, Vec<float> weight, Vec<float> value) { return sum + weight * value; }

  static Sum start(const Word *) { return Sum{}; }
  static Vec<float> finish(Sum sum, const Word *, const float *) { return sum; }
};

// Weights are stored as weight + EXCESS, since the instruction of x86 multiplies unsigned by signed
// bytes. The sums start at the excess, EXCESS times the sum of the row's values. The instruction of
// ARM multiplies signed bytes.
struct Int8 {
#ifdef SEQCELLS_FOUR_REGISTERS
  static constexpr int32_t EXCESS = 0;
#else
  static constexpr int32_t EXCESS = 128;
#endif
  static constexpr int DEPTH = 4;
  static constexpr int64_t BLOCK = 1 << 16;  // of k: sums stay below 2^31
  using Sum = Integers;

  static Sum dot(Sum sum, Words weight, Words value) {
#ifdef __AVX512F__
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(weight), "v"(value));
#elif defined(SEQCELLS_FOUR_REGISTERS) && defined(__aarch64__)
    dot_register(sum.a, weight.a, value.a), dot_register(sum.b, weight.b, value.b);
    dot_register(sum.c, weight.c, value.c), dot_register(sum.d, weight.d, value.d);
#else
    (void)weight, (void)value;
#endif
    return sum;
  }
  template <int half>
  static Shorts half_of_weight(Words weight) {
    if (!EXCESS) return half_of_value<half>(weight);
    return (Shorts)((half ? weight >> 8 : weight) & 0x00ff00ffu);
  }
  template <int half>
  static Shorts half_of_value(Words value) {
    return half ? (Shorts)value >> 8 : (Shorts)((Shorts)value << 8) >> 8;
  }
  static Sum add(Sum sum, Shorts weight, Shorts value) {
#if defined(SEQCELLS_FOUR_REGISTERS) || !defined(__SSE2__)
    const Integers a = (Integers)weight, b = (Integers)value;
    return sum + (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16);
#elif defined(__AVX512BW__)
    return sum + (Integers)_mm512_madd_epi16((__m512i)weight, (__m512i)value);
#elif defined(__AVX2__)
    return sum + (Integers)_mm256_madd_epi16((__m256i)weight, (__m256i)value);
#else
    return sum + (Integers)_mm_madd_epi16((__m128i)weight, (__m128i)value);
#endif
  }

#if defined(SEQCELLS_FOUR_REGISTERS) && defined(__aarch64__)
  template <class Sums, class Bytes>
  static void dot_register(Sums &sum, Bytes weight, Bytes value) {
#ifdef __ARM_FEATURE_DOTPROD
    asm("sdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(weight), "w"(value));
#else  // by its encoding, since assemblers refuse it for CPUs that may lack it
    asm(".irp number,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,"
        "29,30,31\n.equ seqcells_v\\number,\\number\n.endr\n"
        ".inst 0x4e809400 + seqcells_%0 + (seqcells_%1 << 5) + (seqcells_%2 << 16)"
        : "+w"(sum)
        : "w"(weight), "w"(value));
#endif
  }
#endif

  // A row of values begins with its scale and the start of its sums.
  static Sum start(const Word *row) {
    int32_t start;
    std::memcpy(&start, row - 1, sizeof start);
    return start - Sum{};
  }
  static Vec<float> finish(Sum sum, const Word *row, const float *scales) {
    float scale;
    std::memcpy(&scale, row - 2, sizeof scale);
    return convert<Vec<float>>(sum) * (scale * load(scales));
  }
};

constexpr int HEADER = 2;  // words before a row of values

// Convert a row of K values; the last word is completed by zeros.
inline void narrow_row(Bfloat16, const float *from, int64_t K, Word *to) {
  uint16_t *numbers = reinterpret_cast<uint16_t *>(to);
  int64_t k = 0;
  for (; k + WORDS <= K; k += WORDS) store_bfloat16(numbers + k, load(from + k));
  if (k == K) return;
  float rest[WORDS] = {};
  uint16_t rounded[WORDS];
  std::memcpy(rest, from + k, (K - k) * sizeof(float));
  store_bfloat16(rounded, load(rest));
  std::memcpy(numbers + k, rounded, (K - k + K % 2) * sizeof(uint16_t));
}

// The scale maps the largest magnitude of the row to 127. It is NaN, as are all results, if a value
// is not finite.
inline void narrow_row(Int8, const float *from, int64_t K, Word *to) {
  constexpr float least = 1e-30f;  // below it the row counts as zero: 127 / largest may overflow
  uint32_t most = 0;
  for (int64_t k = 0; k < K; ++k) {
    uint32_t bits;
    std::memcpy(&bits, from + k, sizeof bits);
    bits &= 0x7fffffffu;
    most = bits > most ? bits : most;
  }
  float largest;
  std::memcpy(&largest, &most, sizeof largest);
  const bool finite = most < 0x7f800000u, scaled = finite && largest > least;
  const float scale = finite ? scaled ? largest / 127.0f : 0.0f : std::nanf("");
  const float inverse = scaled ? 127.0f / largest : 0.0f;
  int8_t *numbers = reinterpret_cast<int8_t *>(to);
  int32_t sum = 0;
  if (scaled)
    for (int64_t k = 0; k < K; ++k) {
      const float shifted = from[k] * inverse + Lanes<float>::round;
      int32_t bits;
      std::memcpy(&bits, &shifted, sizeof bits);
      const int32_t number = bits - 0x4b400000;
      numbers[k] = static_cast<int8_t>(number);
      sum += number;
    }
  else
    std::memset(numbers, 0, K);
  std::memset(numbers + K, 0, (4 - K % 4) % 4);
  const int32_t start = -Int8::EXCESS * sum;
  std::memcpy(to - 2, &scale, sizeof scale);
  std::memcpy(to - 1, &start, sizeof start);
}

}  // namespace SEQCELLS_VARIANT
