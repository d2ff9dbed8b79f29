// Backward through time. With L the loss, dh = dL/dh and so on, from the last step to the first:
//
//   dh += dL/dy_t                       what the outputs' readers ask for
//   dz, dh', dc' = the cell's gradient  elementwise (cells.hpp)
//   dh' += W_hh^T dz                    step by step
//
// and for a few hundred rows at once, of all steps alike, while they are in the cache:
//
//   dx = W_ih^T dz        dW += dz [h', x, 1]^T
//
// where h' is the state before the step, and the column of ones makes the bias's gradient. Every
// thread adds up a dW of its own; the threads' sums are added in their order at the end.
#pragma once
#include "rows.hpp"

namespace SEQCELLS_VARIANT {

template <class T, class Cell>
struct Backward : Sizes<T, Cell> {
  using Base = Sizes<T, Cell>;
  using V = Vec<T>;
  using Base::B, Base::H, Base::I, Base::L, Base::R, Base::S, Base::T_, Base::early,
      Base::hidden_at, Base::p, Base::plan, Base::recurrent, Base::units;
  static constexpr int64_t CHUNK = 128;  // rows whose gradients go into the weights at once
  static constexpr bool has_late = Cell::late_slots > 0, has_cell = Cell::states > 1;

  Packed<T> inward, hidden, late, projection;

  Backward(const Problem &problem, const Plan &plan) : Base(problem, plan) {}

  // `left` holds [h', x, 1, what the late slots read] of each row, `dz` its gradients.
  struct Rows {
    T *left, *dz, *dx, *dh, *dc, *fresh[2], *dm, *e, *before_cell, *after, *projected, *unprojected;
    T *weights, *projection_weights;
    const T **from;
    T **to, **inputs_to;
    int64_t filled;
  };

  static int run(const Problem &problem, const Plan &plan) {
    Backward self(problem, plan);
    return self.run();
  }

 private:
  bool wants_weights() const { return p.grad_weight_ih; }
  int64_t rows_of_thread() const { return (B + plan.threads - 1) / plan.threads; }
  int64_t chunk_rows() const { return rows_of_thread() > CHUNK ? rows_of_thread() : CHUNK; }
  int64_t input_at() const { return recurrent; }
  int64_t late_at() const { return recurrent + padded(I + 1); }
  int64_t left_width() const { return late_at() + (has_late ? units : 0) + 16; }
  int64_t sums() const { return S * units; }
  int64_t dz_width() const { return sums() + 16; }  // no power of two: it would share cache sets

  void shared(Scratch &scratch) {
    const auto take = [&](int64_t K, int64_t columns) {
      const int64_t vectors = columns / L;
      return Packed<T>{scratch.take<T>(Packed<T>::size(K, vectors)), K, vectors, 0, 1};
    };
    if (p.grad_inputs) inward = take(Cell::input_slots * units, padded(I));
    hidden = take(early * units, recurrent);
    if (has_late) late = take(Cell::late_slots * units, recurrent);
    if (p.projection) projection = take(R, units);
  }

  Rows local(Scratch &scratch) const {
    const int64_t rows = rows_of_thread(), chunk = chunk_rows();
    const auto take = [&](int64_t count) { return scratch.take<T>(count); };
    Rows x{};
    x.left = take(chunk * left_width());
    x.dz = take(chunk * dz_width());
    if (p.grad_inputs) x.dx = take(chunk * padded(I));
    x.dh = take(rows * recurrent);
    if (has_cell) x.dc = take(rows * units), x.before_cell = take(units);
    for (int part = 0; p.resets && part < Cell::states; ++part)
      x.fresh[part] = take(rows * this->padded_width(part));
    if (has_late) x.e = take(rows * units);
    if (!Cell::kept) x.after = take(units);
    if (p.projection) {
      x.dm = take(rows * units);
      x.projected = take(chunk * recurrent), x.unprojected = take(chunk * units);
      if (wants_weights()) x.projection_weights = take(R * units);
    }
    if (wants_weights()) x.weights = take(left_width() * sums());
    x.from = scratch.take<const T *>(chunk);
    x.to = scratch.take<T *>(chunk);
    x.inputs_to = scratch.take<T *>(chunk);
    return x;
  }

  int run() {
    Scratch count, counted;
    shared(count);
    local(counted);
    Freed block;
    char *memory = block.allocate(count.used() + plan.threads * counted.used());
    if (!memory) return 1;
    Scratch pieces(memory);
    shared(pieces);
    const auto rows_of = [&](int64_t n) {
      Scratch own(memory + count.used() + n * counted.used());
      return local(own);
    };
    if (p.grad_inputs) prefer_huge_pages(p.grad_inputs, T_ * B * I * sizeof(T));
    in_parallel(plan.threads, [&](int64_t n, int64_t of) { pack({n, of}); });
    in_parallel(plan.threads, [&](int64_t n, int64_t of) {
      for (; n < plan.threads; n += of) {
        Rows rows = rows_of(n);
        through_time(rows, {n, plan.threads});
      }
    });
    if (wants_weights())
      in_parallel(plan.threads, [&](int64_t n, int64_t of) { add_up(rows_of, {n, of}); });
    return 0;
  }

  void pack(const Share &share) {
    const auto weights = [](const void *data) { return static_cast<const T *>(data); };
    if (p.grad_inputs)
      pack_gates_back(*this, inward, weights(p.weight_ih), I, Cell::input_gates, Cell::input_slots,
                      share);
    pack_gates_back(*this, hidden, weights(p.weight_hh), R, Cell::hidden_gates, early, share);
    if constexpr (has_late)
      pack_gates_back(*this, late, weights(p.weight_hh), R, Cell::hidden_gates + early,
                      Cell::late_slots, share);
    for (int64_t v = share.thread; p.projection && v < projection.vectors; v += share.threads)
      projection.fill(v, 0, R, weights(p.weight_hr) + v * L, H, 1, H > v * L ? H - v * L : 0);
  }

  void through_time(Rows &x, const Share &share) const {
    const int64_t rows = share.count(B);
    T *grads[2] = {x.dh, x.dc};
    for (int part = 0; part < Cell::states; ++part) {
      const int64_t width = this->padded_width(part), used = this->state_width(part);
      for (int64_t j = 0; j < rows; ++j) {
        T *to = grads[part] + j * width;
        if (p.grad_final[part])
          copy_padded(to, this->row_of(p.grad_final, part, share.row(j)), used, width);
        else
          std::memset(to, 0, width * sizeof(T));
      }
      if (p.resets) std::memset(x.fresh[part], 0, rows * width * sizeof(T));
    }
    if (wants_weights()) std::memset(x.weights, 0, left_width() * sums() * sizeof(T));
    if (x.projection_weights) std::memset(x.projection_weights, 0, R * units * sizeof(T));
    for (int64_t number = T_; number-- > 0;) {
      const int64_t t = this->step(number), alive = share.count(plan.alive[t]);
      if (x.filled + alive > chunk_rows()) flush(x);
      one_step(x, t, number ? this->step(number - 1) : -1, alive, share);
      x.filled += alive;
    }
    flush(x);
    for (int64_t j = 0; j < rows; ++j) {
      const int64_t r = share.row(j);
      for (int part = 0; part < Cell::states; ++part) {
        const int64_t at = j * this->padded_width(part), bytes = this->state_width(part) * sizeof(T);
        std::memcpy(this->row_of(p.grad_state, part, r), grads[part] + at, bytes);
        if (p.resets) std::memcpy(this->row_of(p.grad_fresh, part, r), x.fresh[part] + at, bytes);
      }
      for (int64_t t = p.lengths && p.grad_inputs ? this->end(r) : T_; t < T_; ++t)
        std::memset(grad_input(t, r), 0, I * sizeof(T));
    }
  }

  T *grad_input(int64_t t, int64_t r) const {
    return static_cast<T *>(p.grad_inputs) + this->dense(t, r) * I;
  }

  // Where the state before step t stands: fresh, in the step before, or the initial one.
  enum class Before { fresh, step, initial };
  Before before(int64_t t, int64_t previous, int64_t r) const {
    if (this->resets(t, r)) return Before::fresh;
    return previous >= 0 && r < plan.alive[previous] ? Before::step : Before::initial;
  }

  void one_step(Rows &x, int64_t t, int64_t previous, int64_t alive, const Share &share) const {
    T *const left = x.left + x.filled * left_width(), *const dz = x.dz + x.filled * dz_width();
    for (int64_t j = 0; j < alive; ++j) {
      const int64_t r = share.row(j);
      T *row = left + j * left_width(), *dh = x.dh + j * recurrent;
      const Before from = before(t, previous, r);
      const T *h = from == Before::step ? this->output(previous, r)
                                        : this->row_of(from == Before::fresh ? p.fresh : p.state, 0, r);
      copy_padded(row, h, R, recurrent);
      std::memcpy(row + input_at(), this->input(t, r), I * sizeof(T));
      row[input_at() + I] = T(1);
      if (p.grad_inputs) x.inputs_to[x.filled + j] = grad_input(t, r);
      if (p.grad_outputs) {
        const T *dy = this->grad_output(t, r);
        for (int64_t u = 0; u < R; ++u) dh[u] += dy[u];
      }
    }
    if (p.projection) unproject(x, alive);
    for (int64_t j = 0; j < alive; ++j) {
      const int64_t r = share.row(j);
      elementwise(x, t, previous, r, j, left + j * left_width(), dz + j * dz_width());
    }
    if constexpr (has_late) through_late(x, t, alive, left, dz, share);
    for (int64_t j = 0; j < alive; ++j) {
      x.from[j] = dz + j * dz_width() + hidden_at * units;
      x.to[j] = x.dh + j * recurrent;
    }
    hidden.multiply(alive, x.from, x.to, 0);
    for (int64_t j = 0; p.resets && j < alive; ++j)
      if (this->resets(t, share.row(j))) {
        move(x.dh + j * recurrent, x.fresh[0] + j * recurrent, recurrent);
        if (has_cell) move(x.dc + j * units, x.fresh[1] + j * units, units);
      }
  }

  static void move(T *from, T *to, int64_t count) {
    for (int64_t u = 0; u < count; ++u) to[u] += from[u], from[u] = T(0);
  }

  // h = W_hr m: dm = W_hr^T dh, and dh is kept for dW_hr.
  void unproject(Rows &x, int64_t alive) const {
    for (int64_t j = 0; j < alive; ++j) {
      T *dh = x.dh + j * recurrent, *kept = x.projected + (x.filled + j) * recurrent;
      std::memcpy(kept, dh, recurrent * sizeof(T));
      std::memset(dh, 0, recurrent * sizeof(T));
      x.from[j] = kept;
      x.to[j] = x.dm + j * units;
      std::memset(x.to[j], 0, units * sizeof(T));
    }
    projection.multiply(alive, x.from, x.to, 0);
  }

  void elementwise(Rows &x, int64_t t, int64_t previous, int64_t r, int64_t j, const T *left,
                   T *dz) const {
    const T *keep = this->kept(t, r), *c = nullptr;
    T *dh = p.projection ? x.dm + j * units : x.dh + j * recurrent, *dc = x.dc + j * units;
    T *m = p.projection ? x.unprojected + (x.filled + j) * units : nullptr;
    if constexpr (has_cell) {
      const Before from = before(t, previous, r);
      c = x.before_cell;
      if (from == Before::step)
        c = this->kept(previous, r) + Cell::kept_cell * units;
      else
        copy_padded(x.before_cell, this->row_of(from == Before::fresh ? p.fresh : p.state, 1, r), H, units);
    }
    if constexpr (!Cell::kept) copy_padded(x.after, this->output(t, r), R, units);
    for (int64_t u = 0; u < units; u += L) {
      V values[Cell::kept + 1], states[2] = {}, after[1] = {}, grad[2] = {load(dh + u)}, out[S];
      for (int k = 0; k < Cell::kept; ++k) values[k] = load(keep + k * units + u);
      if (!p.projection) states[0] = load(left + u);
      if constexpr (has_cell) states[1] = load(c + u), grad[1] = load(dc + u);
      if constexpr (!Cell::kept) after[0] = load(x.after + u);
      Cell::backward(values, states, after, grad, out);
      for (int s = 0; s < S; ++s) store(dz + s * units + u, out[s]);
      if (!p.projection) store(dh + u, grad[0]);
      if constexpr (has_cell) {
        store(dc + u, grad[1]);
        if (m) store(m + u, Cell::unprojected(values));
      }
    }
  }

  void through_late(Rows &x, int64_t t, int64_t alive, T *left, T *dz, const Share &share) const {
    for (int64_t j = 0; j < alive; ++j) {
      x.from[j] = dz + j * dz_width() + (S - Cell::late_slots) * units;
      x.to[j] = x.e + j * units;
      std::memset(x.to[j], 0, units * sizeof(T));
    }
    late.multiply(alive, x.from, x.to, 0);
    for (int64_t j = 0; j < alive; ++j) {
      const T *keep = this->kept(t, share.row(j));
      T *row = left + j * left_width(), *out = dz + j * dz_width(), *dh = x.dh + j * recurrent;
      for (int64_t u = 0; u < units; u += L) {
        V values[Cell::kept], states[1] = {load(row + u)}, grad[1] = {load(dh + u)}, sums[S];
        for (int k = 0; k < Cell::kept; ++k) values[k] = load(keep + k * units + u);
        for (int s = 0; s < S; ++s) sums[s] = load(out + s * units + u);
        Cell::backward_late(values, states, load(x.e + j * units + u), grad, sums);
        for (int s = 0; s < S; ++s) store(out + s * units + u, sums[s]);
        store(dh + u, grad[0]);
        store(row + late_at() + u, Cell::late_again(values, states));
      }
    }
  }

  // The products that need no order of time, for the rows gathered so far.
  void flush(Rows &x) const {
    const int64_t rows = x.filled;
    x.filled = 0;
    if (p.grad_inputs) {
      std::memset(x.dx, 0, rows * padded(I) * sizeof(T));
      for (int64_t j = 0; j < rows; ++j) {
        x.from[j] = x.dz + j * dz_width();
        x.to[j] = x.dx + j * padded(I);
      }
      inward.multiply(rows, x.from, x.to, 0);
      for (int64_t j = 0; j < rows; ++j) std::memcpy(x.inputs_to[j], x.to[j], I * sizeof(T));
    }
    if (!wants_weights()) return;
    const auto add = [&](int64_t left, int64_t count, int64_t slot, int64_t slots) {
      add_outer(rows, x.left + left, left_width(), count, x.dz + slot * units, dz_width(),
                slots * units, x.weights + left * sums() + slot * units, sums());
    };
    add(0, R, hidden_at, early);
    if (has_late) add(late_at(), R, S - Cell::late_slots, Cell::late_slots);
    add(input_at(), I, 0, Cell::input_slots);
    add(input_at() + I, 1, 0, S);
    if (p.projection)
      add_outer(rows, x.projected, recurrent, R, x.unprojected, units, units, x.projection_weights, units);
  }

  template <class RowsOf>
  void add_up(const RowsOf &rows_of, const Share &share) const {
    const auto gradient = [](void *data) { return static_cast<T *>(data); };
    const auto bias_at = (input_at() + I) * sums();
    for (int64_t block = share.thread; block < units / 16; block += share.threads) {
      const int64_t first = block * 16, count = H - first < 16 ? H - first : 16;
      const auto add = [&](T *to, int64_t width, int gate, int64_t from, int64_t slot) {
        sum_threads(rows_of, to + (gate * H + first) * width, width, count,
                    from + slot * units + first);
      };
      for (int s = 0; s < Cell::input_slots; ++s) {
        add(gradient(p.grad_weight_ih), I, Cell::input_gates[s], input_at() * sums(), s);
        if (p.grad_bias_ih) add(gradient(p.grad_bias_ih), 1, Cell::input_gates[s], bias_at, s);
      }
      for (int s = 0; s < Cell::hidden_slots; ++s) {
        const int64_t from = s < early ? 0 : late_at() * sums();
        add(gradient(p.grad_weight_hh), R, Cell::hidden_gates[s], from, hidden_at + s);
        if (p.grad_bias_hh)
          add(gradient(p.grad_bias_hh), 1, Cell::hidden_gates[s], bias_at, hidden_at + s);
      }
    }
    for (int64_t n = 0; p.projection && n < plan.threads; ++n) {
      const T *from = rows_of(n).projection_weights;
      T *to = gradient(p.grad_weight_hr);
      for (int64_t r = share.thread; r < R; r += share.threads)
        for (int64_t u = 0; u < H; ++u)
          to[r * H + u] = n ? to[r * H + u] + from[r * units + u] : from[r * units + u];
    }
  }

  // to[u][k] = the sum over all threads of their weights' gradient at [k][u]
  template <class RowsOf>
  void sum_threads(const RowsOf &rows_of, T *to, int64_t width, int64_t count, int64_t at) const {
    for (int64_t n = 0; n < plan.threads; ++n) {
      const T *from = rows_of(n).weights + at;
      for (int64_t k = 0; k < width; ++k, from += sums())
        for (int64_t u = 0; u < count; ++u)
          to[u * width + k] = n ? to[u * width + k] + from[u] : from[u];
    }
  }
};

}  // namespace SEQCELLS_VARIANT
