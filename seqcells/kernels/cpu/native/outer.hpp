// Weight gradients written directly to the caller's tensors, for calls whose rows fit into one
// chunk.
//
// A long call accumulates chunks in scratch memory, and copies the sums at the end. A short call
// writes every gradient once.
#pragma once
#include "product.hpp"

namespace SEQCELLS_VARIANT {

constexpr int OUTER_ROWS = 4;  // rows of weights per tile

// to[m][k] (+)= sum over r of left[r][m] * right[r][k], for `rows` rows m and N vectors of k, the
// last with `last` columns. `left` must be readable up to row OUTER_ROWS, `right` up to whole
// vectors.
template <class T, int N>
inline void gradient_tile(int64_t count, const T *left, int64_t left_width, const T *right,
                          int64_t right_width, T *to, int64_t to_width, int64_t rows, int64_t last,
                          bool add) {
  constexpr int L = LANES<T>, M = OUTER_ROWS;
  Vec<T> sum[M][N];
  std::memset(&sum, 0, sizeof sum);
  for (int64_t r = 0; r < count; ++r, left += left_width, right += right_width) {
    Vec<T> vector[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) vector[n] = load(right + n * L);
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
      const T value = left[m];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sum[m][n] += value * vector[n];
    }
  }
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) {
    if (m == rows) return;
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      T *at = to + m * to_width + n * L;
      if (n < N - 1 || last == L)
        store(at, add ? load(at) + sum[m][n] : sum[m][n]);
      else
        for (int64_t lane = 0; lane < last; ++lane)
          at[lane] = add ? at[lane] + sum[m][n][lane] : sum[m][n][lane];
    }
  }
}

// to (rows, columns), dense, = or += left (count, rows)^T right (count, columns)
template <class T>
void write_outer(int64_t count, const T *left, int64_t left_width, int64_t rows, const T *right,
                 int64_t right_width, int64_t columns, T *to, bool add) {
  constexpr int L = LANES<T>;
  for (int64_t k = 0; k < columns;) {
    const int64_t vectors = (columns - k + L - 1) / L;
    const int64_t most = vectors >= 4 ? 4 : vectors >= 2 ? 2 : 1;
    const int64_t wide = most < ABREAST ? most : ABREAST, end = k + wide * L;
    with_constant<ABREAST>(wide, [&](auto vectors) {
      for (int64_t m = 0; m < rows; m += OUTER_ROWS)
        gradient_tile<T, vectors>(count, left + m, left_width, right + k, right_width,
                                  to + m * columns + k, columns,
                                  rows - m < OUTER_ROWS ? rows - m : OUTER_ROWS,
                                  end <= columns ? L : L - (end - columns), add);
    });
    k = end;
  }
}

// to[u] = or += sum over r of rows[r][u], for at most 16 units
template <class T>
void write_sums(int64_t count, const T *rows, int64_t width, int64_t units, T *to, bool add) {
  constexpr int L = LANES<T>;
  for (int64_t u = 0; u < units; u += L) {
    Vec<T> sum{};
    for (int64_t r = 0; r < count; ++r) sum += load(rows + r * width + u);
    for (int64_t lane = 0; lane < L && u + lane < units; ++lane)
      to[u + lane] = add ? to[u + lane] + sum[lane] : sum[lane];
  }
}

}  // namespace SEQCELLS_VARIANT
