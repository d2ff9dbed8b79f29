// Backward through time. With L the loss, dh = dL/dh and so on, from the last step to the first:
//
//   dh += dL/dy_t                       what the outputs' readers ask for
//   dz, dh', dc' = the cell's gradient  elementwise (cells.hpp)
//   dh' += W_hh^T dz                    step by step
//
// and for a chunk of steps at once, while it is in the cache, dx and dW (gradients.hpp). In a pair,
// one thread makes these of the chunks that the other, on its way through time, leaves behind.
#pragma once
#include "gradients.hpp"

namespace SEQCELLS_VARIANT {

template <class T, class Cell>
struct Backward : Gradients<T, Cell> {
  using Base = Gradients<T, Cell>;
  using Rows = typename Base::Rows;
  using Chunk = typename Base::Chunk;
  using V = Vec<T>;
  using Base::B, Base::H, Base::I, Base::L, Base::R, Base::S, Base::T_, Base::early,
      Base::hidden_at, Base::p, Base::plan, Base::recurrent, Base::units;
  using Base::add_up, Base::chunk_rows, Base::clear, Base::dz_width, Base::flush, Base::has_cell,
      Base::has_late, Base::hidden, Base::input_at, Base::late, Base::late_at, Base::left_width,
      Base::local, Base::meetings, Base::pack, Base::parameters, Base::projection, Base::shared, Base::sums,
      Base::wants_weights;

  Backward(const Problem &problem, const Plan &plan) : Base(problem, plan) {}

  static int run(const Problem &problem, const Plan &plan) {
    Backward self(problem, plan);
    return self.run();
  }

 private:
  int run() {
    Scratch count, counted;
    shared(count);
    local(counted, 0);
    char *memory = block().of(count.used() + plan.groups * counted.used());
    if (!memory) return 1;
    Scratch pieces(memory);
    shared(pieces);
    const auto rows_of = [&](int64_t group, int64_t seat) {
      Scratch own(memory + count.used() + group * counted.used());
      return local(own, seat);
    };
    for (int64_t n = 0; n < plan.groups; ++n) meetings[n] = Meeting();
    if (p.grad_inputs) prefer_huge_pages(p.grad_inputs, T_ * B * I * sizeof(T));
    in_parallel(threads_of(plan), [&](int64_t thread, int64_t threads) {
      pack(thread, threads);
      meet_all(threads);
      in_shares(plan, meetings, thread, threads, [&](const Share &share) {
        Rows rows = rows_of(share.group, share.seat);
        share.runs() ? through_time(rows, share) : behind_time(rows, share);
      });
      if (!wants_weights()) return;
      meet_all(threads);
      add_up(rows_of, thread, threads);
    });
    block().done();
    return 0;
  }

  // Steps of a chunk, from `past` down to `first`, as they ran forward.
  struct Span {
    int64_t first, past, rows, number;
  };

  Span earlier(const Span &s, const Share &share) const {
    int64_t first = s.first, rows = 0;
    for (; first > 0; --first) {
      const int64_t alive = share.count(plan.alive[this->step(first - 1)]);
      if (rows + alive > chunk_rows()) break;
      rows += alive;
    }
    return {first, s.first, rows, s.number + 1};
  }

  void through_time(Rows &x, const Share &share) const {
    const int64_t rows = share.count(B);
    for (int64_t j = 0; j < rows; ++j)
      if (share.takes(j)) start(x, j, share.row(j));
    const Columns mine = share.columns(sums());
    for (int64_t k = 0; wants_weights() && k < left_width(); ++k)
      clear(x.weights + k * sums(), mine);
    for (int64_t k = 0; x.projection_weights && k < R; ++k)
      clear(x.projection_weights + k * units, share.columns(units));
    for (int n = 0; n < Cell::parameters; ++n) clear(x.parameters + n * units, share.columns(units));
    share.meet();
    Span last{0, 0, 0, -1}, one_before = last;  // chunks of a pair that may be unsettled
    for (Span s = earlier({T_, 0, 0, -1}, share); s.past > 0; s = earlier(s, share)) {
      if (one_before.number >= 0) settle(x, one_before, share);
      const Chunk &c = x.chunks[share.paired ? s.number % 2 : 0];
      for (int n = 0; n < Cell::parameters; ++n)
        clear(c.parameters + n * units, share.columns(units));
      for (int64_t number = s.past, filled = 0; number-- > s.first;) {
        const int64_t t = this->step(number), alive = share.count(plan.alive[t]);
        one_step(x, c, filled, t, number ? this->step(number - 1) : -1, alive, share);
        filled += alive;
      }
      if (!share.paired) {
        flush(x, c, s.rows, share);
        continue;
      }
      share.meeting->relay.give(s.number);
      one_before = last, last = s;
    }
    if (one_before.number >= 0) settle(x, one_before, share);
    if (last.number >= 0) settle(x, last, share);
    for (int64_t j = 0; j < rows; ++j)
      if (share.takes(j)) finish(x, j, share.row(j));
  }

  // Sees to it that a chunk is flushed. They are flushed in order: each adds to the last one's sums.
  void settle(Rows &x, const Span &s, const Share &share) const {
    Relay &relay = share.meeting->relay;
    if (relay.begin(s.number)) {
      flush(x, x.chunks[s.number % 2], s.rows, share);
      relay.finish(s.number);
    }
    wait_for(relay.done, s.number + 1);
  }

  void behind_time(Rows &x, const Share &share) const {
    for (Span s = earlier({T_, 0, 0, -1}, share); s.past > 0; s = earlier(s, share)) {
      wait_for(share.meeting->relay.given, s.number + 1);
      settle(x, s, share);
    }
  }

  void start(Rows &x, int64_t j, int64_t r) const {
    T *const grads[2] = {x.dh, x.dc};
    for (int part = 0; part < Cell::states; ++part) {
      const int64_t width = this->padded_width(part), at = j * width;
      if (p.grad_final[part])
        copy_padded(grads[part] + at, this->row_of(p.grad_final, part, r), this->state_width(part),
                    width);
      else
        clear(grads[part] + at, {0, width});
      if (p.resets) clear(x.fresh[part] + at, {0, width});
    }
  }

  void finish(Rows &x, int64_t j, int64_t r) const {
    const T *const grads[2] = {x.dh, x.dc};
    for (int part = 0; part < Cell::states; ++part) {
      const int64_t at = j * this->padded_width(part), bytes = this->state_width(part) * sizeof(T);
      std::memcpy(this->row_of(p.grad_state, part, r), grads[part] + at, bytes);
      if (p.resets) std::memcpy(this->row_of(p.grad_fresh, part, r), x.fresh[part] + at, bytes);
    }
    for (int64_t t = p.lengths && p.grad_inputs ? this->end(r) : T_; t < T_; ++t)
      clear(grad_input(t, r), {0, I});
  }

  T *grad_input(int64_t t, int64_t r) const {
    return static_cast<T *>(p.grad_inputs) + this->dense(t, r) * I;
  }

  // Where the state before step t stands: in `fresh`, in the step before it, or in the first one.
  enum class Before { fresh, step, initial };
  Before before(int64_t t, int64_t previous, int64_t r) const {
    if (this->resets(t, r)) return Before::fresh;
    return previous >= 0 && r < plan.alive[previous] ? Before::step : Before::initial;
  }

  void one_step(Rows &x, const Chunk &c, int64_t filled, int64_t t, int64_t previous, int64_t alive,
                const Share &share) const {
    T *const left = c.left + filled * left_width(), *const dz = c.dz + filled * dz_width();
    for (int64_t j = 0; j < alive; ++j) {
      const int64_t r = share.row(j);
      if (share.takes(j)) gather(left + j * left_width(), x.dh + j * recurrent, t, previous, r);
      if (p.grad_inputs) c.inputs_to[filled + j] = grad_input(t, r);
    }
    share.meet();
    if (p.projection) unproject(x, c, filled, alive, share);
    for (int64_t j = 0; j < alive; ++j)
      elementwise(x, t, previous, share.row(j), j, left + j * left_width(), dz + j * dz_width(),
                  p.projection ? c.unprojected + (filled + j) * units : nullptr, c.parameters,
                  share.columns(units));
    share.meet();
    if constexpr (has_late) through_late(x, t, alive, left, dz, share);
    if constexpr (early > 0) {
      for (int64_t j = 0; j < alive; ++j) {
        x.from[j] = dz + j * dz_width() + hidden_at * units;
        x.to[j] = x.dh + j * recurrent;
      }
      hidden.multiply(alive, x.from, x.to, 0, share.columns(recurrent), filled % 2);
    }
    share.meet();
    for (int64_t j = 0; p.resets && j < alive; ++j)
      if (share.takes(j) && this->resets(t, share.row(j))) {
        move(x.dh + j * recurrent, x.fresh[0] + j * recurrent, recurrent);
        if (has_cell) move(x.dc + j * units, x.fresh[1] + j * units, units);
      }
  }

  static void move(T *from, T *to, int64_t count) {
    for (int64_t u = 0; u < count; ++u) to[u] += from[u], from[u] = T(0);
  }

  // What the step read, and what its output's readers ask for.
  void gather(T *row, T *dh, int64_t t, int64_t previous, int64_t r) const {
    const Before from = before(t, previous, r);
    copy_padded(row,
                from == Before::step ? this->output(previous, r)
                                     : this->row_of(from == Before::fresh ? p.fresh : p.state, 0, r),
                R, recurrent);
    std::memcpy(row + input_at(), this->input(t, r), I * sizeof(T));
    row[input_at() + I] = T(1);
    if (!p.grad_outputs) return;
    const T *dy = this->grad_output(t, r);
    for (int64_t u = 0; u < R; ++u) dh[u] += dy[u];
  }

  // h = W_hr m: dm = W_hr^T dh, and dh is kept for dW_hr.
  void unproject(Rows &x, const Chunk &c, int64_t filled, int64_t alive, const Share &share) const {
    const Columns mine = share.columns(units);
    for (int64_t j = 0; j < alive; ++j) {
      T *dh = x.dh + j * recurrent, *kept = c.projected + (filled + j) * recurrent;
      if (share.takes(j)) {
        std::memcpy(kept, dh, recurrent * sizeof(T));
        clear(dh, {0, recurrent});
      }
      x.from[j] = kept;
      x.to[j] = x.dm + j * units;
      clear(x.to[j], mine);
    }
    share.meet();
    projection.multiply(alive, x.from, x.to, 0, mine);
  }

  void elementwise(Rows &x, int64_t t, int64_t previous, int64_t r, int64_t j, const T *left,
                   T *dz, T *m, T *dp, Columns mine) const {
    const T *keep = this->kept(t, r), *c = nullptr;
    T *dh = p.projection ? x.dm + j * units : x.dh + j * recurrent, *dc = x.dc + j * units;
    if constexpr (has_cell) {
      const Before from = before(t, previous, r);
      c = x.before_cell;
      if (from == Before::step)
        c = this->kept(previous, r) + Cell::kept_cell * units;
      else
        copy_padded(x.before_cell, this->row_of(from == Before::fresh ? p.fresh : p.state, 1, r),
                    H, units);
    }
    if constexpr (Cell::reads_after) copy_padded(x.after, this->output(t, r), R, units);
    for (int64_t u = mine.from; u < mine.to; u += L) {
      V values[Cell::kept + 1], states[2] = {}, after[1] = {}, grad[2] = {load(dh + u)}, out[S];
      V own[Cell::parameters + 1], own_grad[Cell::parameters + 1];
      for (int k = 0; k < Cell::kept; ++k) values[k] = load(keep + k * units + u);
      for (int n = 0; n < Cell::parameters; ++n) own[n] = load(parameters + n * units + u);
      if (!p.projection) states[0] = load(left + u);
      if constexpr (has_cell) states[1] = load(c + u), grad[1] = load(dc + u);
      if constexpr (Cell::reads_after) after[0] = load(x.after + u);
      Cell::backward(values, states, after, own, grad, out, own_grad);
      for (int s = 0; s < S; ++s) store(dz + s * units + u, out[s]);
      for (int n = 0; n < Cell::parameters; ++n) {
        T *to = dp + n * units + u;
        store(to, load(to) + own_grad[n]);
      }
      if (!p.projection) store(dh + u, grad[0]);
      if constexpr (has_cell) store(dc + u, grad[1]);
      if constexpr (Cell::projects)
        if (m) store(m + u, Cell::unprojected(values));
    }
  }

  void through_late(Rows &x, int64_t t, int64_t alive, T *left, T *dz, const Share &share) const {
    const Columns mine = share.columns(units);
    for (int64_t j = 0; j < alive; ++j) {
      x.from[j] = dz + j * dz_width() + (S - Cell::late_slots) * units;
      x.to[j] = x.e + j * units;
      clear(x.to[j], mine);
    }
    late.multiply(alive, x.from, x.to, 0, mine);
    for (int64_t j = 0; j < alive; ++j) {
      const T *keep = this->kept(t, share.row(j));
      T *row = left + j * left_width(), *out = dz + j * dz_width(), *dh = x.dh + j * recurrent;
      for (int64_t u = mine.from; u < mine.to; u += L) {
        V values[Cell::kept], states[1] = {load(row + u)}, grad[1] = {load(dh + u)}, dzs[S];
        for (int k = 0; k < Cell::kept; ++k) values[k] = load(keep + k * units + u);
        for (int s = 0; s < S; ++s) dzs[s] = load(out + s * units + u);
        Cell::backward_late(values, states, load(x.e + j * units + u), grad, dzs);
        for (int s = 0; s < early; ++s) store(out + s * units + u, dzs[s]);
        store(dh + u, grad[0]);
        store(row + late_at() + u, Cell::late_again(values, states));
      }
    }
    share.meet();
  }
};

}  // namespace SEQCELLS_VARIANT
