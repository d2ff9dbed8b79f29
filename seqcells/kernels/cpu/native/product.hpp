// Products with packed weights: rows += operand * weights.
//
// A panel holds N vectors of output columns for each k: [K][N][lanes]. A tile of M rows keeps M * N
// sums in registers along a panel.
#pragma once
#include <type_traits>

#include "numbers.hpp"

namespace SEQCELLS_VARIANT {

template <int N>
constexpr int ROWS = SUMS / N < 8 ? SUMS / N : 8;

// Sums of a block start from zero, so that rounding errors grow with the block size, not with K.
constexpr int64_t BLOCK = 128;

// out[m][n * stride ...] += sum over k from first to last of rows[m][k] * panel[k][n]
//
// Each sum adds its terms in order, for any M and N. A row's result therefore does not depend on
// the other rows of the batch.
template <class T, int M, int N>
__attribute__((noinline)) void tile(const T *const *rows, int64_t first, int64_t last,
                                    const T *panel, T *const *out, int64_t offset,
                                    int64_t stride) {
  constexpr int L = LANES<T>;
  Vec<T> sum[M][N];
  const T *row[M];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) row[m] = rows[m];
  std::memset(&sum, 0, sizeof sum);
  panel += first * N * L;
  for (int64_t k = first; k < last; ++k, panel += N * L) {
    Vec<T> weight[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) weight[n] = load(panel + n * L);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const T value = row[m][k];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sum[m][n] += value * weight[n];
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      T *to = out[m] + offset + n * stride;
      store(to, load(to) + sum[m][n]);
    }
}

// Call `work` with a number of rows or vectors, at most N, as a constant.
template <int N, class Work>
inline void with_constant(int64_t number, const Work &work) {
  if constexpr (N == 0)
    return;
  else if (number == N)
    work(std::integral_constant<int, N>());
  else
    with_constant<N - 1>(number, work);
}

// Call `work(first row, number of rows as a constant)` for tiles of at most M rows and of nearly
// equal height: a tile of one row reads the panel like a full one.
template <int M, class Work>
inline void for_tiles(int64_t count, const Work &work) {
  const int64_t tiles = (count + M - 1) / M;
  for (int64_t i = 0, at = 0; i < tiles; ++i) {
    const int64_t height = (count - at) / (tiles - i);
    with_constant<M>(height, [&](auto rows) { work(at, rows); });
    at += height;
  }
}

template <class T, int N>
void sweep(int64_t count, const T *const *rows, int64_t K, const T *panel, T *const *out,
           int64_t offset, int64_t stride) {
  const int64_t blocks = (K + BLOCK - 1) / BLOCK;
  for (int64_t b = 0; b < blocks; ++b)
    for_tiles<ROWS<N>>(count, [&](int64_t at, auto height) {
      tile<T, height, N>(rows + at, K * b / blocks, K * (b + 1) / blocks, panel, out + at, offset,
                         stride);
    });
}

// Range of output columns of a thread.
struct Columns {
  int64_t from, to;

  Columns within(int64_t first, int64_t end) const {
    return {from > first ? from : first, to < end ? to : end};
  }
};

// Layout of weights in panels of at most ABREAST column vectors. The vectors are adjacent in the
// output, or `stride` apart: then a panel holds one vector of each of N gates, for the same units.
struct Panels {
  int64_t vectors, stride;  // vectors: total; stride 0: adjacent
  int gates;

  int width(int64_t first) const {
    const int64_t left = stride ? gates - first % gates : vectors - first;
    return left < ABREAST ? left : ABREAST;
  }

  // First vector of the panel that contains a vector.
  int64_t panel_of(int64_t vector) const {
    return vector - (stride ? vector % gates : vector) % ABREAST;
  }

  // Call `work(first vector, column in the output, distance of vectors)` for the panels of these
  // columns, with `lanes` columns per vector. Alternating the direction lets a step find the
  // previous step's last panels in the cache.
  template <class Work>
  void each(int64_t lanes, Columns columns, bool down, const Work &work) const {
    const int64_t from = columns.from / lanes * gates, last = columns.to / lanes * gates;
    const int64_t group = stride ? gates : last - from, parts = (group + ABREAST - 1) / ABREAST;
    const int64_t panels = group ? (last - from) / group * parts : 0;
    const int64_t step = stride ? stride : lanes;
    for (int64_t n = 0; n < panels; ++n) {
      const int64_t number = down ? panels - 1 - n : n, within = number % parts * ABREAST;
      const int64_t first = from + number / parts * group + within;
      work(first, (stride ? first / gates : from) * lanes + within * step, step);
    }
  }
};

// Weights in panels.
template <class T>
struct Packed : Panels {
  T *data;
  int64_t K;

  static int64_t size(int64_t K, int64_t vectors) { return K * vectors * LANES<T>; }

  // Add rows[i] (K values) times the panels of these columns to out[i] + offset.
  void multiply(int64_t count, const T *const *rows, T *const *out, int64_t offset, Columns columns,
                bool down = false) const {
    each(LANES<T>, columns, down, [&](int64_t first, int64_t column, int64_t step) {
      with_constant<ABREAST>(width(first), [&](auto vectors) {
        sweep<T, vectors>(count, rows, K, data + first * K * LANES<T>, out, offset + column, step);
      });
    });
  }

  // Fill steps k0 to k0 + n of one column vector from `from[k * by_k + lane * by_lane]`; zeros in
  // the lanes from `lanes` on.
  void fill(int64_t vector, int64_t k0, int64_t n, const T *from, int64_t by_k, int64_t by_lane,
            int64_t lanes) const {
    constexpr int L = LANES<T>;
    const int64_t panel = panel_of(vector), wide = width(panel);
    T *to = data + (panel * K + k0 * wide + vector - panel) * L;
    int64_t k = 0;
    if (lanes >= L && by_k == 1)
      for (; k + L <= n; k += L, from += L) {
        Vec<T> square[L];
        for (int lane = 0; lane < L; ++lane) square[lane] = load(from + lane * by_lane);
        transpose<T>(square);
        for (int i = 0; i < L; ++i, to += wide * L) store(to, square[i]);
      }
    else if (lanes >= L && by_lane == 1)
      for (; k < n; ++k, to += wide * L, from += by_k) store(to, load(from));
    for (; k < n; ++k, to += wide * L, from += by_k)
      for (int lane = 0; lane < L; ++lane) to[lane] = lane < lanes ? from[lane * by_lane] : T(0);
  }
};

// to[m][n ...] += sum_r left[r][m] * right[r][n ...]: a weight gradient over many rows. Of words,
// each is a pair of bfloat16 numbers, of rows 2 r and 2 r + 1.
template <class T, class From, int M, int N>
__attribute__((noinline)) void outer_tile(int64_t count, const From *left, int64_t left_width,
                                          const From *right, int64_t right_width, T *to,
                                          int64_t to_width) {
  constexpr int L = LANES<T>;
  Vec<T> sum[M][N];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) sum[m][n] = Vec<T>{};
  for (int64_t r = 0; r < count; ++r, left += left_width, right += right_width) {
    if constexpr (std::is_same<From, Word>::value) {
      Words vector[N];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) vector[n] = load_words(right + n * L);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const Words value = left[m] - Words{};
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) sum[m][n] = Bfloat16::dot(sum[m][n], vector[n], value);
      }
    } else {
      Vec<T> vector[N];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) vector[n] = load(right + n * L);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const T value = left[m];
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) sum[m][n] += value * vector[n];
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      T *at = to + m * to_width + n * L;
      store(at, load(at) + sum[m][n]);
    }
}

template <class T, class From, int N>
void outer_panel(int64_t count, const From *left, int64_t left_width, int64_t rows,
                 const From *right, int64_t right_width, T *to, int64_t to_width) {
  constexpr int M = SUMS / ABREAST;
  for (int64_t m = 0; m < rows; m += M)
    with_constant<M>(rows - m < M ? rows - m : M, [&](auto height) {
      outer_tile<T, From, height, N>(count, left + m, left_width, right, right_width,
                                     to + m * to_width, to_width);
    });
}

// to (rows, columns) += left (count, rows)^T right (count, columns)
template <class T, class From>
void add_outer(int64_t count, const From *left, int64_t left_width, int64_t rows, const From *right,
               int64_t right_width, int64_t columns, T *to, int64_t to_width) {
  constexpr int L = LANES<T>;
  for (int64_t n = 0; n < columns;) {
    const int64_t vectors = (columns - n) / L < ABREAST ? (columns - n) / L : ABREAST;
    with_constant<ABREAST>(vectors, [&](auto wide) {
      outer_panel<T, From, wide>(count, left, left_width, rows, right + n, right_width, to + n,
                                 to_width);
    });
    n += vectors * L;
  }
}

}  // namespace SEQCELLS_VARIANT
