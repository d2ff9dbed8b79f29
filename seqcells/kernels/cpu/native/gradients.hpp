// Products of the backward pass that do not depend on the order of steps, for a chunk at once:
//
//   dx = W_ih^T dz        dW += dz [h', x, 1]^T
//
// where h' is the state before the step, and the column of ones gives the bias gradient. Each group
// of threads accumulates its own dW. They are added in group order at the end.
#pragma once
#include <algorithm>

#include "outer.hpp"
#include "products.hpp"

namespace SEQCELLS_VARIANT {

template <class T>
struct Gradients : Products<T> {
  using Base = Products<T>;
  using Base::B, Base::D, Base::H, Base::I, Base::L, Base::R, Base::T_, Base::cell, Base::hidden,
      Base::each, Base::inward, Base::most_rows, Base::p, Base::parameters, Base::plan,
      Base::projection, Base::recurrent, Base::sums, Base::units;
  static constexpr int64_t CHUNK = 128, SHORT = 32;  // least rows per chunk; in a pair

  // Whether all rows of a group fit into one chunk, so that weight gradients are written once at
  // the end of the call. For more rows, accumulating in scratch memory is as fast.
  const bool at_once;
  Meeting *meetings;

  Gradients(const Problem &problem, const Plan &plan, const Cell<T> &cell)
      : Base(problem, plan, cell, 0),
        at_once(plan.path != Path::packed && !is_bfloat16() &&
                T_ * most_rows() <= (chunk_rows() < CHUNK ? chunk_rows() : CHUNK)) {}

  // Rows of a chunk: `left` holds [h', x, 1, operands of the stages], `dz` the gradients by z,
  // `parameters` the gradients by the cell's parameters, summed over the rows.
  struct Chunk {
    T *left, *dz, *projected, *unprojected, *parameters;
    T **inputs_to;
  };

  struct Rows {
    Chunk chunks[2];
    T *dx, *grad[PARTS], *fresh[PARTS], *dm, *e, *before_part[PARTS], *after;
    T *before, *dscaled, *stays, *temps, *means, *noise[PARTS], *drop;
    T *weights, *projection_weights, *parameters;
    T *buffer;  // per thread, like the pairs of rows
    Word *left_words, *dz_words;
    const T **from;  // per thread, like `to`
    T **to;
  };

  bool needs_weight_gradients() const { return p.grad_weight_ih; }
  int64_t chunk_rows() const {
    const int64_t least = plan.pairs ? SHORT : CHUNK;
    return most_rows() > least ? most_rows() : least;
  }
  int64_t input_at() const { return recurrent; }
  int64_t operands_at() const { return recurrent + padded(I + 1); }
  int64_t left_at(int product) const { return product ? operands_at() + (product - 1) * units : 0; }
  int64_t left_width() const { return left_at(cell.stages + 1) + 16; }
  // Padded, since rows that are a power of two apart collide in the cache.
  int64_t dz_width() const { return sums() + 16; }

  void shared(Scratch &scratch) {
    each(*this, [&](Weights<T> &weights) { weights.take_back(scratch); });
    this->take_constants(scratch);
    meetings = scratch.take<Meeting>(plan.groups);
  }

  Rows local(Scratch &scratch, int64_t seat) const {
    const int64_t rows = most_rows(), chunk = chunk_rows();
    const auto take = [&](int64_t count) { return scratch.take<T>(count); };
    const auto own = [&](int64_t count) { return take(plan.seats() * count) + seat * count; };
    Rows x{};
    for (int n = 0; n <= plan.pairs; ++n) {
      Chunk &c = x.chunks[n];
      c.left = take(chunk * left_width());
      c.dz = take(chunk * dz_width());
      if (p.projection) c.projected = take(chunk * recurrent), c.unprojected = take(chunk * units);
      c.parameters = take(cell.parameters * units);
      c.inputs_to = scratch.take<T *>(plan.parts * chunk) + (plan.pairs ? 0 : seat * chunk);
    }
    if (p.grad_inputs) x.dx = take(chunk * padded(I));
    for (int part = 0; part < cell.states; ++part) {
      x.grad[part] = take(rows * this->padded_width(part));
      if (part) x.before_part[part] = own(units), x.noise[part] = own(units);
      if (p.resets) x.fresh[part] = take(rows * this->padded_width(part));
    }
    x.e = take(cell.stages * rows * units);
    x.means = take(cell.stages ? rows * cell.means * ROW_WIDTH : 0);
    if (cell.reads_new_hidden) x.after = own(units);
    if (p.read) x.before = take(rows * recurrent), x.dscaled = take(rows * recurrent);
    if (p.zone[0]) x.stays = take(rows * recurrent);
    x.temps = take((cell.stages ? rows : 1) * cell.temps * units);
    x.drop = own(units);
    if (p.projection) {
      x.dm = take(rows * units);
      if (needs_weight_gradients() && !at_once) x.projection_weights = take(R * units);
    }
    if (needs_weight_gradients() && !at_once) x.weights = take(left_width() * sums());
    x.parameters = take(cell.parameters * units);
    int64_t buffer = inward.back_buffer_size(chunk);
    each(*this, [&](const Weights<T> &weights) {
      buffer = padded(std::max(buffer, weights.back_buffer_size(rows)));
    });
    x.buffer = own(buffer);
    if (pairs_rows()) {
      const auto words = [&](int64_t width) {
        const int64_t count = (chunk + 1) / 2 * width;
        return scratch.take<Word>(plan.seats() * count) + seat * count;
      };
      x.left_words = words(left_width()), x.dz_words = words(dz_width());
    }
    x.from = scratch.take<const T *>(plan.seats() * chunk) + seat * chunk;
    x.to = scratch.take<T *>(plan.seats() * chunk) + seat * chunk;
    return x;
  }

  static void clear(T *row, Columns columns) {
    if (columns.to > columns.from)
      std::memset(row + columns.from, 0, (columns.to - columns.from) * sizeof(T));
  }

  void pack(int64_t thread, int64_t threads) {
    each(*this, [&](const Weights<T> &weights) { weights.pack_back(thread, threads); });
    if (thread == 0) this->pack_constants();
  }

  bool is_bfloat16() const { return static_cast<Narrow>(p.narrow) == Narrow::bfloat16; }
  bool pairs_rows() const { return is_bfloat16() && inward.fast && needs_weight_gradients(); }

  // Round the operands of the weight gradients to bfloat16.
  void round_operands(const Chunk &c, int64_t rows, const Share &share) const {
    const auto round_row = [](T *row, int64_t width) {
      if constexpr (sizeof(T) == sizeof(Word))
        for (int64_t u = 0; u < width; u += L) store(row + u, rounded(load(row + u)));
    };
    share.meet();  // other threads may still read them for the bias
    for (int64_t j = 0; j < rows && needs_weight_gradients(); ++j) {
      if (!share.takes(j)) continue;
      round_row(c.left + j * left_width(), left_width());
      round_row(c.dz + j * dz_width(), sums());
      if (!p.projection) continue;
      round_row(c.projected + j * recurrent, recurrent);
      round_row(c.unprojected + j * units, units);
    }
    share.meet();
  }

  // Compute the products of a chunk.
  void flush(Rows &x, const Chunk &c, int64_t rows, const Share &share) const {
    if (x.weights) add(x, c, rows, input_at() + I, 1, 0, cell.slots, share);
    if (is_bfloat16()) round_operands(c, rows, share);
    if (p.grad_inputs) input_gradients(x, c, rows, share);
    const bool pairs = pairs_rows();
    if (pairs) {
      pair_rows(rows, c.left, left_width(), left_width(), x.left_words);
      pair_rows(rows, c.dz, dz_width(), sums(), x.dz_words);
    }
    if (x.weights) {
      for (int n = 0; n <= cell.stages; ++n)
        if (const Slots slots = cell.products[n]; slots.count)
          add_hidden(x, c, rows, left_at(n), slots.first, slots.count, share, pairs);
      add(x, c, rows, input_at(), I, 0, cell.input_slots, share, pairs);
    }
    const Columns mine = share.columns(units);
    for (int n = 0; n < cell.parameters; ++n)
      for (int64_t u = mine.from; u < mine.to; ++u)
        x.parameters[n * units + u] += c.parameters[n * units + u];
    if (x.projection_weights)
      add_outer(rows, c.projected, recurrent, R, c.unprojected + mine.from, units,
                mine.to - mine.from, x.projection_weights + mine.from, units);
    share.meet();
  }

  void input_gradients(Rows &x, const Chunk &c, int64_t rows, const Share &share) const {
    const Columns mine = share.columns(padded(I));
    for (int64_t j = 0; j < rows; ++j) {
      x.from[j] = c.dz + j * dz_width();
      x.to[j] = x.dx + j * padded(I);
      clear(x.to[j], mine);
    }
    inward.multiply_back(rows, x.from, x.to, mine, x.buffer);
    const int64_t end = mine.to < I ? mine.to : I;
    for (int64_t j = 0; j < rows && end > mine.from; ++j)
      std::memcpy(c.inputs_to[j] + mine.from, x.to[j] + mine.from, (end - mine.from) * sizeof(T));
  }

  // The same of W_hh and the operand at `left`: of each head, the block of its columns and units.
  void add_hidden(Rows &x, const Chunk &c, int64_t rows, int64_t left, int slot, int slots,
                  const Share &share, bool pairs) const {
    if (p.heads == 1) return add(x, c, rows, left, R, slot, slots, share, pairs);
    const Columns mine = share.columns(slots * units);
    for (int64_t at = 0; at < slots * units; at += D) {
      const Columns own = mine.within(at, at + D);
      if (own.to > own.from)
        add_outer_product(x, c, rows, left + at % units, D, left, slot * units + own.from,
                          own.to - own.from, pairs);
    }
  }

  // Accumulate the gradient of the weights between `count` columns of `left` and these slots.
  void add(Rows &x, const Chunk &c, int64_t rows, int64_t left, int64_t count, int slot, int slots,
           const Share &share, bool pairs = false) const {
    const Columns mine = share.columns(slots * units);
    add_outer_product(x, c, rows, left, count, left, slot * units + mine.from, mine.to - mine.from,
                      pairs);
  }

  // Add the product of `count` columns of `left` and `columns` of `dz` to rows `row` of the
  // weights.
  void add_outer_product(Rows &x, const Chunk &c, int64_t rows, int64_t left, int64_t count,
                         int64_t row, int64_t at, int64_t columns, bool pairs) const {
    T *to = x.weights + row * sums() + at;
    if constexpr (sizeof(T) == sizeof(Word) && BYTES == 64)
      if (pairs)
        return add_outer((rows + 1) / 2, x.left_words + left, left_width(), count,
                         x.dz_words + at, dz_width(), columns, to, sums());
    add_outer(rows, c.left + left, left_width(), count, c.dz + at, dz_width(), columns, to, sums());
  }

  template <class RowsOf>
  void reduce_gradients(const RowsOf &rows_of, int64_t thread, int64_t threads) const {
    const auto gradient = [](void *data) { return static_cast<T *>(data); };
    for (int64_t block = thread; block < units / 16; block += threads) {
      const int64_t first = block * 16, count = H - first < 16 ? H - first : 16;
      const auto add = [&](void *gradients, int64_t width, int gate, int64_t left, int64_t slot,
                           int64_t head = 0) {
        const int64_t at = slot * units + first;
        T *to = gradient(gradients) + (gate * H + first) * width;
        if (!at_once) return add_groups(rows_of, to, width, count, left * sums() + at);
        for_groups(rows_of, [&](const Chunk &c, int64_t rows, bool more) {
          write_outer(rows, c.dz + at, dz_width(), count, c.left + left + head, left_width(), width,
                      to, more);
        });
      };
      const auto add_bias = [&](void *gradients, int gate, int64_t slot) {
        if (!gradients) return;
        if (!at_once) return add(gradients, 1, gate, input_at() + I, slot);
        for_groups(rows_of, [&](const Chunk &c, int64_t rows, bool more) {
          write_sums(rows, c.dz + slot * units + first, dz_width(), count,
                     gradient(gradients) + gate * H + first, more);
        });
      };
      for (int s = 0; s < cell.input_slots; ++s) {
        add(p.grad_weight_ih, I, cell.input_gates[s], input_at(), s);
        add_bias(p.grad_bias_ih, cell.input_gates[s], s);
      }
      for (int n = 0; n <= cell.stages; ++n)
        for (int s = 0; s < cell.products[n].count; ++s) {
          const int64_t slot = cell.products[n].first + s;
          const int gate = cell.gates_of(n)[s];
          add(p.grad_weight_hh, D, gate, left_at(n), slot, p.heads > 1 ? first / D * D : 0);
          add_bias(p.grad_bias_hh, gate, slot);
        }
    }
    for (int64_t k = thread; p.grad_parameters && k < cell.parameters; k += threads)
      for (int64_t n = 0; n < plan.groups; ++n) {
        const T *from = rows_of(n, 0).parameters + k * units;
        T *to = gradient(p.grad_parameters) + k * H;
        for (int64_t u = 0; u < H; ++u) to[u] = n ? to[u] + from[u] : from[u];
      }
    if (p.projection) reduce_projection(rows_of, gradient(p.grad_weight_hr), thread, threads);
  }

  template <class RowsOf>
  void reduce_projection(const RowsOf &rows_of, T *to, int64_t thread, int64_t threads) const {
    for (int64_t r = thread * OUTER_ROWS; at_once && r < R; r += threads * OUTER_ROWS)
      for_groups(rows_of, [&](const Chunk &c, int64_t rows, bool more) {
        write_outer(rows, c.projected + r, recurrent, R - r < OUTER_ROWS ? R - r : OUTER_ROWS,
                    c.unprojected, units, H, to + r * H, more);
      });
    for (int64_t n = 0; !at_once && n < plan.groups; ++n) {
      const T *from = rows_of(n, 0).projection_weights;
      for (int64_t r = thread; r < R; r += threads)
        for (int64_t u = 0; u < H; ++u)
          to[r * H + u] = n ? to[r * H + u] + from[r * units + u] : from[r * units + u];
    }
  }

  // Call `work(chunk, number of rows, whether groups precede it)` for the one chunk of each group.
  template <class RowsOf, class Work>
  void for_groups(const RowsOf &rows_of, const Work &work) const {
    for (int64_t n = 0; n < plan.groups; ++n) {
      int64_t rows = 0;
      for (int64_t t = 0; t < T_; ++t) rows += (plan.alive[t] - n + plan.groups - 1) / plan.groups;
      work(rows_of(n, 0).chunks[0], rows, n > 0);
    }
  }

  // to[u][k] = sum over all groups of their weight gradient at [k][u]
  template <class RowsOf>
  void add_groups(const RowsOf &rows_of, T *to, int64_t width, int64_t count, int64_t at) const {
    for (int64_t n = 0; n < plan.groups; ++n) {
      const T *from = rows_of(n, 0).weights + at;
      for (int64_t k = 0; k < width; ++k, from += sums())
        for (int64_t u = 0; u < count; ++u)
          to[u * width + k] = n ? to[u * width + k] + from[u] : from[u];
    }
  }
};

}  // namespace SEQCELLS_VARIANT
