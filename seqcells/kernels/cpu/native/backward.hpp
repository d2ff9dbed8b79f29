// Backward pass. With the loss L and dh = dL/dh etc., from the last step to the first:
//
//   dh += dL/dy_t                       upstream gradient of the outputs
//   dz, dh', dc' = the cell's gradient  elementwise (functor.hpp)
//   dh' += W_hh^T dz                    step by step
//
// and, for a chunk of steps at once while it is in the cache, dx and dW (gradients.hpp). In a pair,
// one thread runs the steps and the other computes dx and dW of the finished chunks.
#pragma once
#include "gradients.hpp"

namespace SEQCELLS_VARIANT {

template <class T>
struct Backward : Gradients<T> {
  using Base = Gradients<T>;
  using Rows = typename Base::Rows;
  using Chunk = typename Base::Chunk;
  using Base::B, Base::H, Base::I, Base::R, Base::T_, Base::at_once, Base::cell, Base::chunk_rows,
      Base::clear, Base::dz_width, Base::flush, Base::hidden, Base::input_at, Base::left_at,
      Base::left_width, Base::local, Base::meetings, Base::needs_weight_gradients,
      Base::p, Base::pack, Base::parameters, Base::plan, Base::projection, Base::recurrent,
      Base::reduce_gradients, Base::shared, Base::sums, Base::units;
  using Base::Base;

  int run() {
    Scratch count, counted;
    shared(count);
    local(counted, 0);
    char *memory = block().of(count.used() + plan.groups * counted.used());
    if (!memory) return 1;
    Scratch pieces(memory);
    shared(pieces);
    plan.watch->reads = 10 * this->reads() + at_once;
    const auto rows_of = [&](int64_t group, int64_t seat) {
      Scratch own(memory + count.used() + group * counted.used());
      return local(own, seat);
    };
    for (int64_t n = 0; n < plan.groups; ++n) meetings[n] = Meeting();
    if (p.grad_inputs) prefer_huge_pages(p.grad_inputs, T_ * B * I * sizeof(T));
    in_parallel(threads_of(plan), [&](int64_t thread, int64_t threads) {
      pack(thread, threads);
      barrier_all(threads);
      for_shares(plan, meetings, thread, threads, [&](const Share &share) {
        Rows rows = rows_of(share.group, share.seat);
        share.runs() ? run_steps(rows, share) : flush_chunks(rows, share);
      });
      if (!needs_weight_gradients() || plan.watch->stopped()) return;
      barrier_all(threads);
      reduce_gradients(rows_of, thread, threads);
    });
    block().done();
    return 0;
  }

  // Steps of a chunk, from `past` - 1 down to `first`, numbered in the order of the forward pass.
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

  void run_steps(Rows &x, const Share &share) const {
    const int64_t rows = share.count(B);
    for (int64_t j = 0; j < rows; ++j)
      if (share.takes(j)) start(x, j, share.row(j));
    const Columns mine = share.columns(sums());
    for (int64_t k = 0; x.weights && k < left_width(); ++k)
      clear(x.weights + k * sums(), mine);
    for (int64_t k = 0; x.projection_weights && k < R; ++k)
      clear(x.projection_weights + k * units, share.columns(units));
    for (int n = 0; n < cell.parameters; ++n) clear(x.parameters + n * units, share.columns(units));
    share.meet();
    Span last{0, 0, 0, -1}, one_before = last;  // chunks of a pair that may be pending
    for (Span s = earlier({T_, 0, 0, -1}, share); s.past > 0; s = earlier(s, share)) {
      if (share.stops()) return;
      if (one_before.number >= 0) flush_once(x, one_before, share);
      const Chunk &c = x.chunks[share.paired ? s.number % 2 : 0];
      for (int n = 0; n < cell.parameters; ++n)
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
    if (one_before.number >= 0) flush_once(x, one_before, share);
    if (last.number >= 0) flush_once(x, last, share);
    for (int64_t j = 0; j < rows; ++j)
      if (share.takes(j)) finish(x, j, share.row(j));
  }

  // Flush a chunk unless the other thread does. In order, since chunks add to the same sums.
  void flush_once(Rows &x, const Span &s, const Share &share) const {
    Relay &relay = share.meeting->relay;
    if (relay.begin(s.number)) {
      flush(x, x.chunks[s.number % 2], s.rows, share);
      relay.finish(s.number);
    }
    share.wait(relay.done, s.number + 1);
  }

  void flush_chunks(Rows &x, const Share &share) const {
    for (Span s = earlier({T_, 0, 0, -1}, share); s.past > 0; s = earlier(s, share)) {
      if (share.stops()) return;
      share.wait(share.meeting->relay.given, s.number + 1);
      flush_once(x, s, share);
    }
  }

  void start(Rows &x, int64_t j, int64_t r) const {
    for (int part = 0; part < cell.states; ++part) {
      const int64_t width = this->padded_width(part), at = j * width;
      if (const int64_t given = p.grad_final[part] ? this->state_width(part) : 0)
        copy_padded(x.grad[part] + at, this->row_of(p.grad_final, part, r), given, width);
      else
        clear(x.grad[part] + at, {0, width});
      if (p.resets) clear(x.fresh[part] + at, {0, width});
    }
  }

  void finish(Rows &x, int64_t j, int64_t r) const {
    for (int part = 0; part < cell.states; ++part) {
      const int64_t at = j * this->padded_width(part), bytes = this->state_width(part) * sizeof(T);
      std::memcpy(this->row_of(p.grad_state, part, r), x.grad[part] + at, bytes);
      if (p.resets) std::memcpy(this->row_of(p.grad_fresh, part, r), x.fresh[part] + at, bytes);
    }
    for (int64_t t = p.lengths && p.grad_inputs ? this->end(r) : T_; t < T_; ++t)
      clear(grad_input(t, r), {0, I});
  }

  T *grad_input(int64_t t, int64_t r) const {
    return static_cast<T *>(p.grad_inputs) + this->dense(t, r) * I;
  }

  // Location of the state before step t: `fresh`, the previous step, or the initial state.
  enum class Before { fresh, step, initial };
  Before before(int64_t t, int64_t previous, int64_t r) const {
    if (this->resets(t, r)) return Before::fresh;
    return previous >= 0 && r < plan.alive[previous] ? Before::step : Before::initial;
  }

  void one_step(Rows &x, const Chunk &c, int64_t filled, int64_t t, int64_t previous, int64_t alive,
                const Share &share) const {
    T *const left = c.left + filled * left_width(), *const dz = c.dz + filled * dz_width();
    T *const through = p.read ? x.dscaled : x.grad[0];  // by the operand of the product
    for (int64_t j = 0; j < alive; ++j) {
      if (share.takes(j)) gather(x, left + j * left_width(), t, previous, j, share.row(j));
      if (p.grad_inputs) c.inputs_to[filled + j] = grad_input(t, share.row(j));
    }
    share.meet();
    if (p.projection) unproject(x, c, filled, alive, share);
    for (int part = 0; part <= cell.stages; ++part) {
      if (part) late_product(x, t, alive, cell.stages + 1 - part, dz, share);
      for (int64_t j = 0; j < alive; ++j) {
        BackwardRow<T> row{};
        row.before[0] = p.read ? x.before + j * recurrent : left + j * left_width();
        row.dz = dz + j * dz_width();
        row.m = p.projection ? c.unprojected + (filled + j) * units : nullptr;
        row.dp = c.parameters;
        row.units = this->shared_units(share.columns(units));
        row.operands = left + j * left_width() + left_at(1);
        elementwise(x, row, t, previous, share.row(j), j, part);
      }
      share.meet();
    }
    for (int64_t j = 0; p.read && cell.stages && j < alive; ++j)
      for (int n = 1; n <= cell.stages; ++n)
        this->scale(left + j * left_width() + left_at(n), t, share.row(j), share.columns(units));
    if (cell.products[0].count) {
      for (int64_t j = 0; j < alive; ++j) {
        x.from[j] = dz + j * dz_width() + cell.products[0].first * units;
        x.to[j] = through + j * recurrent;
      }
      hidden[0].multiply_back(alive, x.from, x.to, share.columns(recurrent), x.buffer, filled % 2);
    }
    share.meet();
    for (int64_t j = 0; j < alive; ++j)
      if (share.takes(j)) finish_state_gradient(x, t, j, share.row(j));
  }

  // Complete the gradient by the old state, and move it to `fresh` for rows that were reset.
  void finish_state_gradient(Rows &x, int64_t t, int64_t j, int64_t r) const {
    T *dh = x.grad[0] + j * recurrent;
    if (p.read) {
      const T *scale = this->noise(p.read, p.read_step, R, t, r), *grad = x.dscaled + j * recurrent;
      for (int64_t u = 0; u < R; ++u) dh[u] += scale[u] * grad[u];
    }
    if (p.zone[0])
      for (int64_t u = 0; u < R; ++u) dh[u] += x.stays[j * recurrent + u];
    if (!this->resets(t, r)) return;
    move(dh, x.fresh[0] + j * recurrent, recurrent);
    for (int part = 1; part < cell.states; ++part)
      move(x.grad[part] + j * units, x.fresh[part] + j * units, units);
  }

  static void move(T *from, T *to, int64_t count) {
    for (int64_t u = 0; u < count; ++u) to[u] += from[u], from[u] = T(0);
  }

  // Copy the operands of the step, and add the upstream gradients.
  void gather(Rows &x, T *row, int64_t t, int64_t previous, int64_t j, int64_t r) const {
    const Before from = before(t, previous, r);
    const T *hidden = from == Before::step    ? this->output(previous, r)
                      : from == Before::fresh ? this->row_of(p.fresh, 0, r)
                                              : this->row_of(p.state, 0, r);
    copy_padded(row, hidden, R, recurrent);
    std::memcpy(row + input_at(), this->input(t, r), I * sizeof(T));
    row[input_at() + I] = T(1);
    if (at_once) clear(row + input_at(), {I + 1, left_at(1) - input_at()});
    T *dh = x.grad[0] + j * recurrent;
    if (p.grad_outputs) {
      const T *dy = this->grad_output(t, r);
      for (int64_t u = 0; u < R; ++u) dh[u] += dy[u];
    }
    for (int part = 1; part < cell.states; ++part) {
      if (!p.grad_states[part]) continue;
      const T *dy = static_cast<const T *>(p.grad_states[part]) + this->dense(t, r) * H;
      for (int64_t u = 0; u < H; ++u) x.grad[part][j * units + u] += dy[u];
    }
    if (p.read) {
      const T *factor = this->noise(p.read, p.read_step, R, t, r);
      std::memcpy(x.before + j * recurrent, row, recurrent * sizeof(T));
      for (int64_t u = 0; u < R; ++u) row[u] *= factor[u];
      clear(x.dscaled + j * recurrent, {0, recurrent});
    }
    if (p.zone[0]) {
      const T *share = this->noise(p.zone[0], p.zone_step[0], R, t, r);
      T *stays = x.stays + j * recurrent;
      for (int64_t u = 0; u < R; ++u) stays[u] = share[u] * dh[u], dh[u] -= stays[u];
    }
  }

  // h = W_hr m: compute dm = W_hr^T dh, and save dh for dW_hr.
  void unproject(Rows &x, const Chunk &c, int64_t filled, int64_t alive, const Share &share) const {
    const Columns mine = share.columns(units);
    for (int64_t j = 0; j < alive; ++j) {
      T *dh = x.grad[0] + j * recurrent, *saved = c.projected + (filled + j) * recurrent;
      if (share.takes(j)) {
        std::memcpy(saved, dh, recurrent * sizeof(T));
        clear(dh, {0, recurrent});
      }
      x.from[j] = saved;
      clear(x.to[j] = x.dm + j * units, mine);
    }
    share.meet();
    projection.multiply_back(alive, x.from, x.to, mine, x.buffer);
  }

  // Compute the elementwise part of a step for one row.
  void elementwise(Rows &x, BackwardRow<T> &row, int64_t t, int64_t previous, int64_t r, int64_t j,
                   int part_of_step) const {
    row.projected = p.projection, row.parameters = parameters, row.temps = x.temps;
    if (cell.stages) {
      row.temps += j * cell.temps * units;
      row.means = x.means + j * cell.means * ROW_WIDTH;
      row.e = x.e + j * cell.stages * units;
    }
    row.saved = this->saved_row(t, r), row.rows = row.saved + this->rows_at();
    row.grad[0] = p.projection ? x.dm + j * units : x.grad[0] + j * recurrent;
    const Before from = before(t, previous, r);
    for (int part = 1; part < cell.states; ++part) {
      row.grad[part] = x.grad[part] + j * units;
      row.stays[part] = this->stays(part, t, r, x.noise[part]);
      row.before[part] = x.before_part[part];
      if (from == Before::step)
        row.before[part] = this->saved_row(previous, r) + cell.blended_at(part, p.zone[0]) * units;
      else
        copy_padded(x.before_part[part],
                    this->row_of(from == Before::fresh ? p.fresh : p.state, part, r), H, units);
    }
    if (cell.reads_new_hidden) {
      row.after = p.zone[0] ? row.saved + cell.made_at() * units : x.after;
      if (!p.zone[0]) copy_padded(x.after, this->output(t, r), R, units);
    }
    if (cell.takes_drop) row.drop = this->drop(t, r, x.drop);
    cell.backward(cell, row, part_of_step);
  }

  // Compute the gradient by the operand of a stage, from that by its sums.
  void late_product(Rows &x, int64_t t, int64_t alive, int stage, const T *dz,
                    const Share &share) const {
    const Columns mine = share.columns(units);
    for (int64_t j = 0; j < alive; ++j) {
      x.from[j] = dz + j * dz_width() + cell.products[stage].first * units;
      clear(x.to[j] = x.e + (j * cell.stages + stage - 1) * units, mine);
    }
    hidden[stage].multiply_back(alive, x.from, x.to, mine, x.buffer);
    for (int64_t j = 0; p.read && j < alive; ++j) this->scale(x.to[j], t, share.row(j), mine);
  }
};

}  // namespace SEQCELLS_VARIANT
