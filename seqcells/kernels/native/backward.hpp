// Backward through time. With L the loss, dh = dL/dh and so on, from the last step to the first:
//
//   dh += dL/dy_t                       what the outputs' readers ask for
//   dz, dh', dc' = the cell's gradient  elementwise (cells.hpp)
//   dh' += W_hh^T dz                    step by step
//
// and for the rows of many steps at once, while they are in the cache, dx and dW (gradients.hpp).
#pragma once
#include "gradients.hpp"

namespace SEQCELLS_VARIANT {

template <class T, class Cell>
struct Backward : Gradients<T, Cell> {
  using Base = Gradients<T, Cell>;
  using Rows = typename Base::Rows;
  using V = Vec<T>;
  using Base::B, Base::H, Base::I, Base::L, Base::R, Base::S, Base::T_, Base::early,
      Base::hidden_at, Base::p, Base::plan, Base::recurrent, Base::units;
  using Base::add_up, Base::barriers, Base::chunk_rows, Base::clear, Base::dz_width, Base::flush,
      Base::has_cell, Base::has_late, Base::hidden, Base::input_at, Base::late, Base::late_at,
      Base::left_width, Base::local, Base::pack, Base::projection, Base::shared, Base::sums,
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
    Freed block;
    char *memory = block.allocate(count.used() + plan.groups * counted.used());
    if (!memory) return 1;
    Scratch pieces(memory);
    shared(pieces);
    const auto rows_of = [&](int64_t group, int64_t part) {
      Scratch own(memory + count.used() + group * counted.used());
      return local(own, part);
    };
    const int64_t threads = plan.groups * plan.parts;
    for (int64_t n = 0; n < plan.groups; ++n) barriers[n] = Barrier();
    if (p.grad_inputs) prefer_huge_pages(p.grad_inputs, T_ * B * I * sizeof(T));
    in_parallel(threads, [&](int64_t n, int64_t of) { pack(n, of); });
    in_shares(plan, barriers, [&](const Share &share) {
      Rows rows = rows_of(share.group, share.part);
      through_time(rows, share);
    });
    if (wants_weights())
      in_parallel(threads, [&](int64_t n, int64_t of) { add_up(rows_of, n, of); });
    return 0;
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
    share.meet();
    for (int64_t number = T_; number-- > 0;) {
      const int64_t t = this->step(number), alive = share.count(plan.alive[t]);
      if (x.filled + alive > chunk_rows()) flush(x, share);
      one_step(x, t, number ? this->step(number - 1) : -1, alive, share);
      x.filled += alive;
    }
    flush(x, share);
    for (int64_t j = 0; j < rows; ++j)
      if (share.takes(j)) finish(x, j, share.row(j));
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

  void one_step(Rows &x, int64_t t, int64_t previous, int64_t alive, const Share &share) const {
    T *const left = x.left + x.filled * left_width(), *const dz = x.dz + x.filled * dz_width();
    for (int64_t j = 0; j < alive; ++j) {
      const int64_t r = share.row(j);
      if (share.takes(j)) gather(left + j * left_width(), x.dh + j * recurrent, t, previous, r);
      if (p.grad_inputs) x.inputs_to[x.filled + j] = grad_input(t, r);
    }
    share.meet();
    if (p.projection) unproject(x, alive, share);
    for (int64_t j = 0; j < alive; ++j)
      elementwise(x, t, previous, share.row(j), j, left + j * left_width(), dz + j * dz_width(),
                  share.columns(units));
    share.meet();
    if constexpr (has_late) through_late(x, t, alive, left, dz, share);
    for (int64_t j = 0; j < alive; ++j) {
      x.from[j] = dz + j * dz_width() + hidden_at * units;
      x.to[j] = x.dh + j * recurrent;
    }
    hidden.multiply(alive, x.from, x.to, 0, share.columns(recurrent));
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
  void unproject(Rows &x, int64_t alive, const Share &share) const {
    const Columns mine = share.columns(units);
    for (int64_t j = 0; j < alive; ++j) {
      T *dh = x.dh + j * recurrent, *kept = x.projected + (x.filled + j) * recurrent;
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
                   T *dz, Columns mine) const {
    const T *keep = this->kept(t, r), *c = nullptr;
    T *dh = p.projection ? x.dm + j * units : x.dh + j * recurrent, *dc = x.dc + j * units;
    T *m = p.projection ? x.unprojected + (x.filled + j) * units : nullptr;
    if constexpr (has_cell) {
      const Before from = before(t, previous, r);
      c = x.before_cell;
      if (from == Before::step)
        c = this->kept(previous, r) + Cell::kept_cell * units;
      else
        copy_padded(x.before_cell, this->row_of(from == Before::fresh ? p.fresh : p.state, 1, r),
                    H, units);
    }
    if constexpr (!Cell::kept) copy_padded(x.after, this->output(t, r), R, units);
    for (int64_t u = mine.from; u < mine.to; u += L) {
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
