// Products with narrow numbers, in panels like those of product.hpp: [K / DEPTH][N][lanes] words.
#pragma once
#include "product.hpp"
#include "rows.hpp"

namespace SEQCELLS_VARIANT {

// out[m][n * stride ...] += sum over words k from first to last of row[m][k] . panel[k][n], for
// rows of `width` words with their headers
template <class Format, bool fast, int M, int N>
__attribute__((noinline)) void narrow_tile(const Word *rows, int64_t width, int64_t first,
                                           int64_t last, const Word *panel, const float *scales,
                                           float *const *out, int64_t offset, int64_t stride) {
  typename Format::Sum sum[M][N];
  const Word *row[M];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) row[m] = rows + m * width + HEADER;
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) sum[m][n] = Format::start(row[m]);
  panel += first * N * WORDS;
  for (int64_t k = first; k < last; ++k, panel += N * WORDS) {
    Words weight[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) weight[n] = load_words(panel + n * WORDS);
    const auto halves = [&](auto half) __attribute__((always_inline)) {
      decltype(Format::template half_of_weight<half>(weight[0])) part[N];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) part[n] = Format::template half_of_weight<half>(weight[n]);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const auto value = Format::template half_of_value<half>(row[m][k] - Words{});
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) sum[m][n] = Format::add(sum[m][n], part[n], value);
      }
    };
    if constexpr (fast) {
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const Words value = row[m][k] - Words{};
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) sum[m][n] = Format::dot(sum[m][n], weight[n], value);
      }
    } else {
      halves(std::integral_constant<int, 0>());
      halves(std::integral_constant<int, 1>());
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      float *to = out[m] + offset + n * stride;
      store(to, load(to) + Format::finish(sum[m][n], row[m], scales + n * WORDS));
    }
}

template <class Format, bool fast, int N>
void narrow_sweep(int64_t count, const Word *rows, int64_t words, const Word *panel,
                  const float *scales, float *const *out, int64_t offset, int64_t stride) {
  constexpr int64_t most = Format::BLOCK / Format::DEPTH;
  const int64_t blocks = (words + most - 1) / most, width = HEADER + words;
  for (int64_t b = 0; b < blocks; ++b)
    for_tiles<ROWS<N>>(count, [&](int64_t at, auto height) {
      narrow_tile<Format, fast, height, N>(rows + at * width, width, words * b / blocks,
                                           words * (b + 1) / blocks, panel, scales, out + at,
                                           offset, stride);
    });
}

// Narrow weights in panels.
template <class Format>
struct NarrowPanels : Panels {
  Word *data;
  float *scales;  // per column, of int8
  int64_t K;
  bool fast;  // the CPU has the instruction of `dot`

  static constexpr int DEPTH = Format::DEPTH;
  static int64_t words(int64_t K) { return (K + DEPTH - 1) / DEPTH; }
  // Size of a converted row, in words.
  static int64_t row_size(int64_t K) { return HEADER + words(K); }

  void take(Scratch &scratch) {
    data = scratch.take<Word>(words(K) * vectors * WORDS);
    if (std::is_same<Format, Int8>::value) scales = scratch.take<float>(vectors * WORDS);
  }

  // Convert rows (K values) to `buffer`, and add their products with the panels of these columns to
  // out[i] + offset.
  void multiply(int64_t count, const float *const *rows, float *const *out, int64_t offset,
                Columns columns, Word *buffer, bool down) const {
    if (columns.to <= columns.from) return;
    for (int64_t i = 0; i < count; ++i)
      narrow_row(Format(), rows[i], K, buffer + i * row_size(K) + HEADER);
    fast ? sweep_panels<true>(count, buffer, out, offset, columns, down)
         : sweep_panels<false>(count, buffer, out, offset, columns, down);
  }

  // Return a function that stores words of a column vector.
  auto put(int64_t vector) const {
    const int64_t first = panel_of(vector), step = width(first) * WORDS;
    Word *column = data + (first * words(K) + vector - first) * WORDS;
    return [=](int64_t k, Words value) { store_words(column + k * step, value); };
  }

 private:
  template <bool fast>
  void sweep_panels(int64_t count, const Word *rows, float *const *out, int64_t offset,
                    Columns columns, bool down) const {
    if constexpr (!fast || BYTES == 64)  // a CPU with narrower registers is never `fast`
      each(WORDS, columns, down, [&](int64_t first, int64_t column, int64_t step) {
        with_constant<ABREAST>(width(first), [&](auto vectors) {
          narrow_sweep<Format, fast, vectors>(count, rows, words(K),
                                              data + first * words(K) * WORDS,
                                              scales + first * WORDS, out, offset + column, step);
        });
      });
  }
};

// Panels of floats rounded to bfloat16: the same products as those of NarrowPanels, by
// multiplications of floats. Without the instruction of `dot` they are faster for many rows, which
// widen each word of a panel once per tile, but take twice the memory.
struct RoundedPanels {
  Packed<float> packed;

  static int64_t even(int64_t K) { return (K + 1) / 2 * 2; }
  static int64_t row_size(int64_t K) { return even(K) + 2; }  // with a pointer

  void take(const Panels &panels, int64_t K, Scratch &scratch) {
    packed = {panels, scratch.take<float>(Packed<float>::size(even(K), panels.vectors)), even(K)};
  }

  void multiply(int64_t count, const float *const *rows, int64_t K, float *const *out,
                int64_t offset, Columns columns, Word *buffer, bool down) const {
    const float **pointers = reinterpret_cast<const float **>(buffer);
    float *to = reinterpret_cast<float *>(buffer + 2 * count);
    for (int64_t i = 0; i < count; ++i, to += packed.K) {
      int64_t k = 0;
      for (; k + WORDS <= K; k += WORDS) store(to + k, rounded(load(rows[i] + k)));
      for (; k < packed.K; ++k) to[k] = k < K ? rounded(rows[i][k] - Vec<float>{})[0] : 0.0f;
      pointers[i] = to;
    }
    packed.multiply(count, pointers, out, offset, columns, down);
  }

  auto put(int64_t vector) const {
    const int64_t first = packed.panel_of(vector), step = packed.width(first) * WORDS;
    float *column = packed.data + (first * packed.K + vector - first) * WORDS;
    return [=](int64_t k, Words value) {
      store(column + 2 * k * step, Bfloat16::half_of_weight<0>(value));
      store(column + (2 * k + 1) * step, Bfloat16::half_of_weight<1>(value));
    };
  }
};

using seqcells::Narrow;
using seqcells::Stored;

template <class T>
int64_t row_bytes(Stored stored, int64_t width) {
  if (stored == Stored::whole) return sizeof(T) * width;
  return stored == Stored::bfloat16 ? 2 * width : width + 4;
}

// A checksum of these bytes. A change of one word always changes it.
inline uint64_t checksum_of(uint64_t seed, const char *from, int64_t bytes) {
  constexpr Word odd = 0x9e3779b1u;
  constexpr int N = 4;
  Words sums[N];
  for (Words &sum : sums) sum = static_cast<Word>(seed ^ seed >> 32) - Words{};
  for (; bytes >= N * BYTES; bytes -= N * BYTES, from += N * BYTES)
    for (int n = 0; n < N; ++n) sums[n] = (sums[n] ^ load_words(from + n * BYTES)) * odd;
  Word words[N * WORDS];
  for (int n = 0; n < N; ++n) store_words(words + n * WORDS, sums[n]);
  for (Word word : words) seed = (seed ^ word) * 0x9e3779b97f4a7c15u;
  for (; bytes > 0; --bytes, ++from)
    seed = (seed ^ static_cast<uint8_t>(*from)) * 0x9e3779b97f4a7c15u;
  return seed;
}

// The first `count` stored numbers at `from`, as floats; the others are zero.
inline Vec<float> stored_numbers(Stored stored, const char *from, int64_t count) {
  float numbers[WORDS] = {};
  Halves halves = {};
  if (stored == Stored::bfloat16) {
    std::memcpy(&halves, from, count * sizeof(uint16_t));
    return (Vec<float>)(convert<Words>(halves) << 16);
  }
  if (count >= WORDS) return load(reinterpret_cast<const float *>(from));
  std::memcpy(numbers, from, count * sizeof(float));
  return load(numbers);
}

// The offset of int8 weights.
inline Words excess(Stored stored) {
  return (stored == Stored::int8 ? Int8::EXCESS * 0x01010101u : 0u) - Words{};
}

// Words of `count` stored numbers, at most those of a vector; the others are zero.
inline Words stored_words(Stored stored, const char *from, int64_t count) {
  const int64_t bytes = count * (stored == Stored::bfloat16 ? 2 : 1);
  if (bytes == BYTES) return load_words(from) ^ excess(stored);
  Word words[WORDS] = {};
  std::memcpy(words, from, bytes);
  return load_words(words) ^ excess(stored);
}

// Call `put(k / DEPTH, words)` for the words of a column vector, from `lanes` rows of K weights.
template <class Format, class Put>
void words_of_rows(Stored stored, const char *rows, int64_t K, int64_t lanes, const Put &put) {
  constexpr int D = Format::DEPTH;
  const int64_t bytes = row_bytes<float>(stored, K);
  const int64_t size = row_bytes<float>(stored, 1) - row_bytes<float>(stored, 0);
  const int64_t most = stored == Stored::whole ? WORDS : WORDS * D;
  for (int64_t k = 0; k < K; k += most) {
    const int64_t count = K - k < most ? K - k : most;
    Vec<float> square[WORDS];  // of floats, or of words
    for (int64_t lane = 0; lane < WORDS; ++lane) {
      const char *from = rows + lane * bytes + k * size;
      const int64_t used = lane < lanes ? count : 0;
      square[lane] = stored == Stored::whole ? stored_numbers(stored, from, used)
                                             : (Vec<float>)stored_words(stored, from, used);
    }
    transpose<float>(square);
    if (stored == Stored::whole)
      for (int64_t n = 0; 2 * n < count; ++n)
        put(k / 2 + n, pair(square[2 * n], square[2 * n + 1]));
    else
      for (int64_t n = 0; n * D < count; ++n) put(k / D + n, (Words)square[n]);
  }
}

// Pairs of `count` rows, as words: to[r][c] holds rows 2 r and 2 r + 1, zero past the last row.
// Reads and writes whole vectors.
template <class T>
void pair_rows(int64_t count, const T *rows, int64_t width, int64_t columns, Word *to) {
  if constexpr (sizeof(T) == sizeof(Word))
    for (int64_t r = 0; r < count; r += 2, rows += 2 * width, to += width)
      for (int64_t c = 0; c < columns; c += WORDS)
        store_words(to + c,
                    pair(load(rows + c), r + 1 < count ? load(rows + width + c) : Vec<float>{}));
}

// Call `put(first + k / 2, words)` for the words of a column vector, from `count` rows of weights
// that follow each other along k. The words up to `padded` are zero.
template <class Put>
void words_of_columns(Stored stored, const char *columns, int64_t bytes, int64_t lanes,
                      int64_t count, int64_t padded, int64_t first, const Put &put) {
  for (int64_t k = 0; k < padded; k += 2) {
    Vec<float> rows[2] = {};
    for (int n = 0; n < 2; ++n)
      if (k + n < count) rows[n] = stored_numbers(stored, columns + (k + n) * bytes, lanes);
    put(first + k / 2, pair(rows[0], rows[1]));
  }
}

}  // namespace SEQCELLS_VARIANT
