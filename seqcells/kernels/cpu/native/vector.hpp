// SIMD vectors and their elementary functions. Compiled once per instruction set, each in its own
// namespace. A vector is one register, or four of them with SEQCELLS_FOUR_REGISTERS.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#ifndef SEQCELLS_VARIANT
#error "name the variant: -DSEQCELLS_VARIANT=..."
#endif

#ifdef SEQCELLS_FOUR_REGISTERS
#include "registers.hpp"
#define SEQCELLS_VECTOR(E, name) using name = Group<E>
#else
#define SEQCELLS_VECTOR(E, name) typedef E name __attribute__((vector_size(BYTES)))
#endif

namespace SEQCELLS_VARIANT {

#if defined(__AVX512F__) || defined(SEQCELLS_FOUR_REGISTERS)
constexpr int BYTES = 64;  // per vector
#elif defined(__AVX__)
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;
#endif

// SUMS: vectors of accumulators that fit into registers, of which there are 32 or 16.
// ABREAST: most vectors of columns that a product reads at once. With four registers per vector,
// one vector leaves accumulators for five rows, and so reads the fewest numbers per multiplication.
// GCC spills a sixth row.
#if defined(SEQCELLS_FOUR_REGISTERS)
constexpr int VECTOR_REGISTERS = 4, SUMS = 5, ABREAST = 1;
#elif defined(__AVX512F__) || defined(__aarch64__)
constexpr int VECTOR_REGISTERS = 1, SUMS = 24, ABREAST = 4;
#else
constexpr int VECTOR_REGISTERS = 1, SUMS = 12, ABREAST = 4;
#endif

template <class T>
struct Lanes;

template <>
struct Lanes<float> {
  SEQCELLS_VECTOR(float, V);
  SEQCELLS_VECTOR(int32_t, Bits);
  using Bit = int32_t;
  typedef float Register __attribute__((vector_size(BYTES / VECTOR_REGISTERS)));
  typedef float Loose __attribute__((vector_size(BYTES), aligned(4), may_alias));
  static constexpr float round = 12582912.0f;  // 1.5 * 2^23: adding it rounds to integers
  static constexpr float log2e = 1.44269504088896341f;
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  static constexpr float lowest = -87.0f, highest = 88.0f, tanh_end = 10.0f;
  static constexpr int mantissa = 23, bias = 127;
  // exp(r) = 1 + r + r^2 * polynomial(r) for |r| <= ln(2)/2 (Cephes, expf)
  static constexpr float polynomial[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                                         4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
};

template <>
struct Lanes<double> {
  SEQCELLS_VECTOR(double, V);
  SEQCELLS_VECTOR(int64_t, Bits);
  using Bit = int64_t;
  typedef double Register __attribute__((vector_size(BYTES / VECTOR_REGISTERS)));
  typedef double Loose __attribute__((vector_size(BYTES), aligned(8), may_alias));
  static constexpr double round = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double log2e = 1.4426950408889634074;
  static constexpr double ln2_high = 6.93145751953125e-1, ln2_low = 1.42860682030941723212e-6;
  static constexpr double lowest = -708.0, highest = 709.0, tanh_end = 20.0;
  static constexpr int mantissa = 52, bias = 1023;
  // Taylor series: the first omitted term is below 1e-17
  static constexpr double polynomial[] = {
      1 / 6227020800.0, 1 / 479001600.0, 1 / 39916800.0, 1 / 3628800.0, 1 / 362880.0, 1 / 40320.0,
      1 / 5040.0,       1 / 720.0,       1 / 120.0,      1 / 24.0,      1 / 6.0,      1 / 2.0};
};

template <class T>
using Vec = typename Lanes<T>::V;
template <class T>
constexpr int LANES = BYTES / sizeof(T);

template <class T>
inline Vec<T> load(const T *from) {
  if constexpr (VECTOR_REGISTERS > 1)
    return Vec<T>::load(from);
  else
    return *reinterpret_cast<const typename Lanes<T>::Loose *>(from);
}

template <class T>
inline void store(T *to, Vec<T> value) {
  if constexpr (VECTOR_REGISTERS > 1)
    value.store(to);
  else
    *reinterpret_cast<typename Lanes<T>::Loose *>(to) = value;
}

// Lanes of x where the mask is set, else of y.
template <class Mask, class V>
inline V select(Mask mask, V x, V y) {
  return mask ? x : y;
}

// Convert the number of each lane.
template <class To, class From>
inline To convert(From x) {
  return __builtin_convertvector(x, To);
}

template <class T>
using Register = typename Lanes<T>::Register;
template <class T>
constexpr int REGISTER_LANES = LANES<T> / VECTOR_REGISTERS;

// Interleave the lower halves of a and b, or the upper halves.
template <class T, bool upper, std::size_t... i>
inline Register<T> interleave(Register<T> a, Register<T> b, std::index_sequence<i...>) {
  constexpr int L = REGISTER_LANES<T>;
#if __has_builtin(__builtin_shufflevector)
  return __builtin_shufflevector(a, b, (i / 2 + upper * L / 2 + i % 2 * L)...);
#else
  const T *both[] = {reinterpret_cast<const T *>(&a), reinterpret_cast<const T *>(&b)};
  return Register<T>{both[i % 2][i / 2 + upper * L / 2]...};
#endif
}

// Transpose a square matrix of as many registers as lanes, by log2(lanes) perfect shuffles.
template <class T>
inline void transpose_registers(Register<T> *rows) {
  constexpr int L = REGISTER_LANES<T>;
  constexpr auto lanes = std::make_index_sequence<L>();
  Register<T> next[L];
#pragma GCC unroll 4
  for (int width = 1; width < L; width *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < L / 2; ++i) {
      next[2 * i] = interleave<T, false>(rows[i], rows[i + L / 2], lanes);
      next[2 * i + 1] = interleave<T, true>(rows[i], rows[i + L / 2], lanes);
    }
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i) rows[i] = next[i];
  }
}

// Transpose a square matrix of as many vectors as lanes. With several registers per vector, the
// blocks of one register per row are transposed and exchanged.
template <class T>
inline void transpose(Vec<T> *rows) {
  constexpr int R = VECTOR_REGISTERS, L = REGISTER_LANES<T>;
  Register<T> *parts = reinterpret_cast<Register<T> *>(rows), upper[L], lower[L];
  if constexpr (R == 1) return transpose_registers<T>(parts);
  for (int i = 0; i < R; ++i)
    for (int j = 0; j <= i; ++j) {
      for (int k = 0; k < L; ++k) {
        lower[k] = parts[(i * L + k) * R + j];
        upper[k] = parts[(j * L + k) * R + i];
      }
      transpose_registers<T>(lower);
      transpose_registers<T>(upper);
      for (int k = 0; k < L; ++k) {
        parts[(j * L + k) * R + i] = lower[k];
        parts[(i * L + k) * R + j] = upper[k];
      }
    }
}

// Compute 2^n and exp(r) - 1 for x = n ln(2) + r, with errors of about one unit in the last place.
template <class T>
inline void split_exp(Vec<T> x, Vec<T> &power, Vec<T> &fraction) {
  using L = Lanes<T>;
  const Vec<T> shifted = x * L::log2e + L::round;
  const Vec<T> n = shifted - L::round;
  const Vec<T> r = (x - n * L::ln2_high) - n * L::ln2_low;
  Vec<T> sum = r * L::polynomial[0] + L::polynomial[1];
  for (unsigned i = 2; i < sizeof(L::polynomial) / sizeof(T); ++i) sum = sum * r + L::polynomial[i];
  fraction = (sum * r) * r + r;
  const typename L::Bits bits = (typename L::Bits)shifted << L::mantissa;
  power = (Vec<T>)(bits + (static_cast<typename L::Bit>(L::bias) << L::mantissa));
}

template <class T>
inline Vec<T> clamp(Vec<T> x, T low, T high) {  // NaN stays NaN
  const Vec<T> lows = low - Vec<T>{}, highs = high - Vec<T>{};
  x = select(x < lows, lows, x);
  return select(x > highs, highs, x);
}

template <class T>
inline Vec<T> sigmoid(Vec<T> x) {
  Vec<T> power, fraction;
  split_exp<T>(-clamp<T>(x, -Lanes<T>::highest, -Lanes<T>::lowest), power, fraction);
  return T(1) / (T(1) + (power * fraction + power));
}

template <class T>
inline Vec<T> tanh(Vec<T> x) {  // from exp(2x) - 1, which is accurate for small x
  Vec<T> power, fraction;
  split_exp<T>(T(2) * clamp<T>(x, -Lanes<T>::tanh_end, Lanes<T>::tanh_end), power, fraction);
  const Vec<T> less_one = power * fraction + (power - T(1));
  return less_one / (less_one + T(2));
}

// log(1 + exp(x)) = max(x, 0) + 2 artanh(u / (2 + u)) with u = exp(-|x|), by its power series
template <class T>
inline Vec<T> softplus(Vec<T> x) {
  const Vec<T> size = clamp<T>(select(x < Vec<T>{}, -x, x), T(0), Lanes<T>::highest);
  Vec<T> power, fraction;
  split_exp<T>(-size, power, fraction);
  const Vec<T> u = power * fraction + power, z = u / (u + T(2)), square = z * z;
  constexpr int terms = sizeof(T) == 4 ? 9 : 18;
  Vec<T> sum = T(1) / T(2 * terms - 1) - Vec<T>{};
  for (int n = terms - 1; n > 0; --n) sum = sum * square + T(1) / T(2 * n - 1);
  return select(x < Vec<T>{}, Vec<T>{}, x) + T(2) * z * sum;
}

template <class T>
inline Vec<T> sqrt(Vec<T> x) {
  T lanes[LANES<T>];  // through memory, which compilers vectorise
  std::memcpy(lanes, &x, sizeof x);
  for (T &lane : lanes) lane = std::sqrt(lane);
  std::memcpy(&x, lanes, sizeof x);
  return x;
}

template <class T>
inline Vec<T> exp(Vec<T> x) {
  Vec<T> power, fraction;
  split_exp<T>(clamp<T>(x, Lanes<T>::lowest, Lanes<T>::highest), power, fraction);
  return power * fraction + power;
}

}  // namespace SEQCELLS_VARIANT
