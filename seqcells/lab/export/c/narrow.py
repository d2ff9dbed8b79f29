"""C functions for int8 and bfloat16 weights. `@` stands for the prefix of the model's names.

They multiply as the C++ kernels do (`kernels/cpu/native/numbers.hpp`): the vector is rounded to the
type of the weights, and products are summed in int32 or float32.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch

TO_INT8 = """\
// Round x to int8: its largest magnitude becomes 127. Returns the scale, the value of 1. It is
// NaN, as are all products, if a number is not finite. The numbers up to `padded` are zero.
static float @_to_int8(int8_t *numbers, const float *x, int size, int padded) {
  int32_t most = 0;
  for (int n = 0; n < size; ++n) {
    const int32_t bits = (int32_t)(@_bits(x[n]) & 0x7fffffffu);
    most = bits > most ? bits : most;
  }
  const float largest = @_float((uint32_t)most);
  memset(numbers, 0, (size_t)padded);
  if (most >= 0x7f800000) return @_float(0x7fc00000u);
  if (largest <= 1e-30f) return 0.0f;  // 127 / largest may overflow
  const float inverse = 127.0f / largest;
  // The sum with 1.5 * 2^23 has the nearest integer in its lowest bits.
  for (int n = 0; n < size; ++n)
    numbers[n] = (int8_t)((int32_t)@_bits(x[n] * inverse + 12582912.0f) - 0x4b400000);
  return largest / 127.0f;
}
"""

TO_BFLOAT16 = """\
// Round to the nearest number of bfloat16, the upper half of a float; a NaN stays one.
@_INLINE float @_round_to_bfloat16(float x) {
  const uint32_t bits = @_bits(x), is_nan = 0u - (uint32_t)(x != x);
  return @_float(((bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u) | (is_nan & 0x7fc00000u));
}

// Round x to bfloat16. The numbers up to `padded` are zero.
static void @_to_bfloat16(float *numbers, const float *x, int size, int padded) {
  for (int n = 0; n < size; ++n) numbers[n] = @_round_to_bfloat16(x[n]);
  for (int n = size; n < padded; ++n) numbers[n] = 0.0f;
}
"""

# The lanes of a vector are rows. Compilers do not find this form in loops over int8 numbers.
_TYPES = """\
// The words of a vector register. A word has four int8 or two bfloat16 numbers of a row.
#if defined(__GNUC__) && defined(__AVX512BW__)
#define @_WORDS 16
#elif defined(__GNUC__) && defined(__AVX2__)
#define @_WORDS 8
#elif defined(__GNUC__) && (defined(__SSE2__) || defined(__ARM_NEON))
#define @_WORDS 4
#endif

#ifdef @_WORDS
typedef uint32_t @_words __attribute__((vector_size(4 * @_WORDS)));
typedef float @_floats __attribute__((vector_size(4 * @_WORDS)));
#endif
"""

_DOT = """\
#ifdef @_WORDS
typedef int32_t @_integers __attribute__((vector_size(4 * @_WORDS)));
typedef int16_t @_shorts __attribute__((vector_size(4 * @_WORDS)));
typedef uint16_t @_halves __attribute__((vector_size(4 * @_WORDS)));

// sum + the four products of each word. With @_INTRINSICS: by the instructions for it.
#if defined(@_INTRINSICS) && defined(__AVX512VNNI__) && defined(__AVX512BW__)
#include <immintrin.h>
#define @_EXCESS 128  // one factor is unsigned: the weights plus 128
@_INLINE @_integers @_dot(@_integers sum, @_words weights, @_words x) {
  weights ^= 0x80808080u;
  return (@_integers)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)weights, (__m512i)x);
}
#elif defined(@_INTRINSICS) && defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
@_INLINE @_integers @_dot(@_integers sum, @_words weights, @_words x) {
  return (@_integers)vdotq_s32((int32x4_t)sum, (int8x16_t)weights, (int8x16_t)x);
}
#else
// The upper or the lower number of each half word.
@_INLINE @_shorts @_upper(@_words words) { return (@_shorts)words >> 8; }
@_INLINE @_shorts @_lower(@_words words) {
  return (@_shorts)((@_halves)words << 8) >> 8;
}
#if defined(@_INTRINSICS) && defined(__SSE2__)
#include <immintrin.h>
#if defined(__AVX512BW__)
#define @_PAIRS(a, b) (@_integers)_mm512_madd_epi16((__m512i)(a), (__m512i)(b))
#elif defined(__AVX2__)
#define @_PAIRS(a, b) (@_integers)_mm256_madd_epi16((__m256i)(a), (__m256i)(b))
#else
#define @_PAIRS(a, b) (@_integers)_mm_madd_epi16((__m128i)(a), (__m128i)(b))
#endif
@_INLINE @_integers @_dot(@_integers sum, @_words weights, @_words x) {
  return sum + @_PAIRS(@_lower(weights), @_lower(x)) + @_PAIRS(@_upper(weights), @_upper(x));
}
#else
@_INLINE @_integers @_dot(@_integers sum, @_words weights, @_words x) {
  // Two products of int8 numbers up to 127 fit into 16 bits.
  const @_words pairs =
      (@_words)(@_lower(weights) * @_lower(x) + @_upper(weights) * @_upper(x));
  return sum + ((@_integers)(pairs << 16) >> 16) + ((@_integers)pairs >> 16);
}
#endif
#endif
#endif

// sums += W x for a number of rows, in int32 up to the scales. W is stored in groups of four
// columns, one row after the other. `columns` is a multiple of 4.
"""

_ADD_INT8 = """\
static void @_add_int8_WIDTH(float *sums, const int8_t *weights, const float *scales,
                         const int8_t *x, float scale, int columns) {
#if defined(@_WORDS) && WIDTH >= @_WORDS
  // Vectors per tile: as many as stay in registers. The last ones overlap, so `sums` is unchanged
  // until the end.
  float results[WIDTH];
  enum { vectors = (WIDTH + @_WORDS - 1) / @_WORDS, tile = vectors < 4 ? vectors : 4 };
  const @_words zero = {0};
  @_integers start = {0};
#ifdef @_EXCESS
  int32_t sum = 0;
  for (int column = 0; column < columns; ++column) sum += x[column];
  start -= @_EXCESS * sum;
#endif
  for (int first = 0; first < vectors; first += tile) {
    @_integers total[tile];
    int rows[tile];
    for (int n = 0; n < tile; ++n) {
      const int row = (first + n) * @_WORDS;
      rows[n] = row < WIDTH - @_WORDS ? row : WIDTH - @_WORDS;
      total[n] = start;
    }
    for (int column = 0; column < columns; column += 4) {
      uint32_t word;
      memcpy(&word, x + column, sizeof word);
      const @_words value = word - zero;
      for (int n = 0; n < tile; ++n) {
        @_words weight;
        memcpy(&weight, weights + column * WIDTH + 4 * rows[n], sizeof weight);
        total[n] = @_dot(total[n], weight, value);
      }
    }
    for (int n = 0; n < tile; ++n) {
      @_floats result, factor;
      memcpy(&result, sums + rows[n], sizeof result);
      memcpy(&factor, scales + rows[n], sizeof factor);
      result += __builtin_convertvector(total[n], @_floats) * (factor * scale);
      memcpy(results + rows[n], &result, sizeof result);
    }
  }
  memcpy(sums, results, sizeof results);
#else
  for (int row = 0; row < WIDTH; ++row) {
    const int8_t *weight = weights + 4 * row;
    int32_t total = 0;
    for (int column = 0; column < columns; column += 4, weight += 4 * WIDTH)
      for (int n = 0; n < 4; ++n) total += weight[n] * x[column + n];
    sums[row] += (float)total * (scales[row] * scale);
  }
#endif
}
"""


_ADD_BFLOAT16 = """\
static void @_add_bfloat16_WIDTH(float *sums, const uint32_t *weights, const float *x,
                             int columns) {
#if defined(@_WORDS) && WIDTH >= @_WORDS
  // Vectors per tile: as many as stay in registers. The last ones overlap, so `sums` is unchanged
  // until the end.
  float results[WIDTH];
  enum { vectors = (WIDTH + @_WORDS - 1) / @_WORDS, tile = vectors < 4 ? vectors : 4 };
  for (int first = 0; first < vectors; first += tile) {
    @_floats total[tile];
    int rows[tile];
    for (int n = 0; n < tile; ++n) {
      const int row = (first + n) * @_WORDS;
      rows[n] = row < WIDTH - @_WORDS ? row : WIDTH - @_WORDS;
      memcpy(&total[n], sums + rows[n], sizeof *total);
    }
    for (int column = 0; column < columns; column += 2)
      for (int n = 0; n < tile; ++n) {
        @_words pair;
        memcpy(&pair, weights + column / 2 * WIDTH + rows[n], sizeof pair);
        total[n] += (@_floats)(pair << 16) * x[column];
        total[n] += (@_floats)(pair & 0xffff0000u) * x[column + 1];
      }
    for (int n = 0; n < tile; ++n) memcpy(results + rows[n], &total[n], sizeof *total);
  }
  memcpy(sums, results, sizeof results);
#else
  for (int column = 0; column < columns; column += 2, weights += WIDTH)
    for (int row = 0; row < WIDTH; ++row) {
      sums[row] += @_float(weights[row] << 16) * x[column];
      sums[row] += @_float(weights[row] & 0xffff0000u) * x[column + 1];
    }
#endif
}
"""

_PAIRS = """\
// sums += W x for a number of rows. W is stored in pairs of columns: those of a row are the halves
// of a word, the first one the lower half. `columns` is even.
"""

_PRODUCTS = {torch.int8: (_DOT, _ADD_INT8), torch.bfloat16: (_PAIRS, _ADD_BFLOAT16)}


def narrow_products(widths: Mapping[torch.dtype, Collection[int]]) -> list[str]:
    """Return the products with blocks of rows, by the type of the weights."""
    parts = [_TYPES] if widths else []
    for dtype, wanted in widths.items():
        head, product = _PRODUCTS[dtype]
        parts.append(
            head + "\n".join(product.replace("WIDTH", str(width)) for width in sorted(wanted))
        )
    return parts
