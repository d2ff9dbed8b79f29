// Products with unpacked weights, for calls too short to amortise packing.
//
// Weights are rows of `width` values, one row per unit of each gate. A forward product is a dot
// product along these rows: each sum is spread over the lanes of a register, and the registers of
// 16 units are reduced to vectors of units at the end. A backward product adds multiples of the
// rows.
//
// No read is out of bounds: the last vector of a row ends with the row, and lanes that overlap the
// previous vector are masked. Rows are therefore at least one vector wide.
#pragma once
#include "product.hpp"

namespace SEQCELLS_VARIANT {

constexpr int GROUP = 16;  // units that a forward product writes at once

// Number of accumulators per sum, used in turn to hide the latency of an addition.
constexpr int turns(int sums) {
  if (VECTOR_REGISTERS > 1) return sums < 2 ? 4 : sums < 3 ? 2 : 1;
  return sums < 4 ? 4 : sums < 8 ? 2 : 1;
}

// Rows of the batch per tile. Tiles with fewer rows take more weights, so that there are always
// enough independent sums to hide the latency of an addition.
constexpr int DIRECT_ROWS = VECTOR_REGISTERS > 1 ? SUMS / 2 : SUMS / 4;
constexpr int tile_width(int rows, int most) {
  int width = most;
  while (width * rows > SUMS) width /= 2;
  return width;
}

// Mask of the last `count` lanes, those of a last vector that the previous one does not contain.
template <class T>
inline typename Lanes<T>::Bits last_lanes(int64_t count) {
  typename Lanes<T>::Bit lanes[LANES<T>];
  for (int lane = 0; lane < LANES<T>; ++lane) lanes[lane] = lane >= LANES<T> - count ? -1 : 0;
  typename Lanes<T>::Bits mask;
  std::memcpy(&mask, lanes, sizeof mask);
  return mask;
}

// Add pairs of lanes whose indices differ by `apart`: those of a in lanes without that bit, of b in
// lanes with it.
template <class T, int apart, std::size_t... i>
inline Register<T> add_apart(Register<T> a, Register<T> b, std::index_sequence<i...>) {
#if __has_builtin(__builtin_shufflevector)
  constexpr int L = REGISTER_LANES<T>;
  return __builtin_shufflevector(a, b, (i & apart ? L + i : i)...) +
         __builtin_shufflevector(a, b, (i & apart ? L + (i ^ apart) : i ^ apart)...);
#else
  return Register<T>{(i & apart ? b[i] + b[i ^ apart] : a[i] + a[i ^ apart])...};
#endif
}

// Lane i of the result is the sum over the lanes of register i.
template <class T, int half = REGISTER_LANES<T> / 2>
inline Register<T> add_register_lanes(Register<T> *registers) {
  if constexpr (half == 0)
    return registers[0];
  else {
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i)
      registers[i] = add_apart<T, half>(registers[i], registers[i + half],
                                        std::make_index_sequence<REGISTER_LANES<T>>());
    return add_register_lanes<T, half / 2>(registers);
  }
}

// Lane i of the result is the sum over the lanes of vector i.
template <class T>
inline Vec<T> add_lanes(Vec<T> *vectors) {
  if constexpr (VECTOR_REGISTERS == 1) {
    return add_register_lanes<T>(vectors);
  } else {
    Register<T> sums[LANES<T>];
#pragma GCC unroll 16
    for (int i = 0; i < LANES<T>; ++i)
      sums[i] = (vectors[i].a + vectors[i].c) + (vectors[i].b + vectors[i].d);
    constexpr int L = REGISTER_LANES<T>;
    return {add_register_lanes<T>(sums), add_register_lanes<T>(sums + L),
            add_register_lanes<T>(sums + 2 * L), add_register_lanes<T>(sums + 3 * L)};
  }
}

// out[m][u] += sum over k of rows[m][k] * weights[u][k], for `count` units of a group
template <class T, int M>
__attribute__((noinline)) void dot_tile(const T *const *rows, const T *weights, int64_t width,
                                        int64_t count, T *const *out, int64_t offset) {
  constexpr int L = LANES<T>, N = tile_width(M, 8);
  alignas(64) Vec<T> sums[M][GROUP];
  const T *row[M];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) row[m] = rows[m];
#pragma GCC unroll 1
  for (int first = 0; first < GROUP; first += N) {
    const T *weight[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
      weight[n] = weights + n * width;
    if (first + N > count)
      for (int n = 0; n < N; ++n)
        if (first + n >= count) weight[n] = weights;  // any valid row: its sums are cleared below
    weights += first + N < count ? N * width : 0;
    Vec<T> sum[M][N];
    std::memset(&sum, 0, sizeof sum);
    int64_t k = 0;
    for (; k + L <= width; k += L) {
      Vec<T> value[M];
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) value[m] = load(row[m] + k);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) {
        const Vec<T> factor = load(weight[n] + k);
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) sum[m][n] += value[m] * factor;
      }
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) sums[m][first + n] = sum[m][n];
    if (k == width) continue;
    const auto mask = last_lanes<T>(width - k);
    for (int n = 0; n < N; ++n) {
      const Vec<T> factor = select(mask, load(weight[n] + width - L), Vec<T>{});
      for (int m = 0; m < M; ++m)
        sums[m][first + n] += select(mask, load(row[m] + width - L), Vec<T>{}) * factor;
    }
  }
  for (int m = 0; m < M; ++m) {
    for (int64_t n = count; n < GROUP; ++n) sums[m][n] = Vec<T>{};  // units beyond the last one
    for (int n = 0; n < GROUP; n += L) {
      Vec<T> vectors[L];
#pragma GCC unroll 16
      for (int i = 0; i < L; ++i) vectors[i] = sums[m][n + i];
      T *to = out[m] + offset + n;
      store(to, load(to) + add_lanes<T>(vectors));
    }
  }
}

// out[m][k] += sum over u of rows[m][u] * weights[u][k], for N vectors of k. The last vector begins
// at `last`, and only its last `fresh` lanes are used.
template <class T, int M, int N>
__attribute__((noinline)) void axpy_tile(const T *const *rows, int64_t offset, int64_t count,
                                         const T *weights, int64_t width, int64_t last,
                                         int64_t fresh, T *const *out) {
  constexpr int L = LANES<T>, TURNS = turns(M * N);
  Vec<T> sum[TURNS][M][N];
  std::memset(&sum, 0, sizeof sum);
  const T *row[M];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) row[m] = rows[m] + offset;
  const auto add = [&](int64_t u, Vec<T>(&to)[M][N]) __attribute__((always_inline)) {
    Vec<T> factor[N];
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) factor[n] = load(weights + (n < N - 1 ? n * L : last));
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const T value = row[m][u];
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n) to[m][n] += value * factor[n];
    }
    weights += width;
  };
  int64_t u = 0;
  for (; u + TURNS <= count; u += TURNS)
#pragma GCC unroll 4
    for (int turn = 0; turn < TURNS; ++turn) add(u + turn, sum[turn]);
  for (; TURNS > 1 && u < count; ++u) add(u, sum[0]);
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) {
#pragma GCC unroll 4
      for (int turn = 1; turn < TURNS; ++turn) sum[0][m][n] += sum[turn][m][n];
      T *to = out[m] + (n < N - 1 ? n * L : last);
      if (n < N - 1 || fresh == L) {
        store(to, load(to) + sum[0][m][n]);
        continue;
      }
      // The other lanes may belong to another thread.
      for (int64_t lane = L - fresh; lane < L; ++lane) to[lane] += sum[0][m][n][lane];
    }
}

// out[j][u] += sum over k of rows[j][k] * weights[u][k], for units `from` to `to`
template <class T>
void multiply_rows(int64_t count, const T *const *rows, const T *weights, int64_t width,
                   int64_t from, int64_t to, T *const *out, int64_t offset) {
  for (int64_t u = from; u < to; u += GROUP)
    for_tiles<DIRECT_ROWS>(count, [&](int64_t at, auto height) {
      dot_tile<T, height>(rows + at, weights + u * width, width, to - u < GROUP ? to - u : GROUP,
                          out + at, offset + u);
    });
}

// Compute at most N vectors of columns from `k` on; return their number.
template <class T, int M, int N>
int64_t axpy_panel(int64_t vectors, const T *const *rows, int64_t offset, int64_t count,
                   const T *weights, int64_t width, int64_t k, T *const *out) {
  if constexpr (N > 1)
    if (vectors < N)
      return axpy_panel<T, M, N / 2>(vectors, rows, offset, count, weights, width, k, out);
  constexpr int L = LANES<T>;
  const int64_t end = k + N * L, last = end <= width ? end - L : width - L;
  T *to[M];
  for (int m = 0; m < M; ++m) to[m] = out[m] + k;
  axpy_tile<T, M, N>(rows, offset, count, weights + k, width, last - k,
                     end <= width ? L : width - (end - L), to);
  return N;
}

// out[j][k] += sum over u of rows[j][offset + u] * weights[u][k], for columns `from` to `to`
template <class T>
void multiply_columns(int64_t count, const T *const *rows, int64_t offset, const T *weights,
                      int64_t width, int64_t units, int64_t from, int64_t to, T *const *out) {
  constexpr int L = LANES<T>;
  for (int64_t u = 0; u < units; u += BLOCK)
    for_tiles<DIRECT_ROWS>(count, [&](int64_t at, auto height) {
      for (int64_t k = from; k < to;)
        k += L * axpy_panel<T, height, tile_width(height, 16)>(
                     (to - k + L - 1) / L, rows + at, offset + u,
                     units - u < BLOCK ? units - u : BLOCK, weights + u * width, width, k,
                     out + at);
    });
}

}  // namespace SEQCELLS_VARIANT
