// Forward through time. Each thread runs its own rows from the first step to the last:
//
//   z  = bias + W_ih x_t        for a few steps at once, as many rows as keep z in the cache
//   z += W_hh h                 step by step
//   h, c = cell(z, h, c)
#pragma once
#include "rows.hpp"

namespace SEQCELLS_VARIANT {

template <class T, class Cell>
struct Forward : Sizes<T, Cell> {
  using Base = Sizes<T, Cell>;
  using V = Vec<T>;
  using Base::B, Base::H, Base::I, Base::L, Base::R, Base::S, Base::T_, Base::early,
      Base::hidden_at, Base::p, Base::plan, Base::recurrent, Base::units;
  static constexpr int64_t CHUNK = 48;  // rows of z that are prepared at once, at least

  Packed<T> inward, hidden, late, projection;
  T *bias;

  Forward(const Problem &problem, const Plan &plan) : Base(problem, plan) {}

  struct Rows {
    T *sums, *state[2], *gated, *unprojected;
    const T **from;
    T **to;
  };

  static int run(const Problem &problem, const Plan &plan) {
    Forward self(problem, plan);
    return self.run();
  }

 private:
  int64_t rows_of_thread() const { return (B + plan.threads - 1) / plan.threads; }
  int64_t chunk_rows() const { return rows_of_thread() > CHUNK ? rows_of_thread() : CHUNK; }

  void shared(Scratch &scratch) {
    const auto take = [&](int64_t K, int64_t vectors, int gates) {
      T *data = scratch.take<T>(Packed<T>::size(K, vectors));
      return Packed<T>{data, K, vectors, gates > 1 ? units : 0, gates};
    };
    const int64_t groups = units / L;
    inward = take(I, groups * Cell::input_slots, Cell::input_slots);
    hidden = take(R, groups * early, early);
    if (Cell::late_slots) late = take(R, groups * Cell::late_slots, Cell::late_slots);
    if (p.projection) projection = take(H, recurrent / L, 1);
    bias = scratch.take<T>(S * units);
  }

  Rows local(Scratch &scratch) const {
    const int64_t rows = rows_of_thread();
    Rows x{};
    x.sums = scratch.take<T>(chunk_rows() * S * units);
    for (int part = 0; part < Cell::states; ++part)
      x.state[part] = scratch.take<T>(rows * this->padded_width(part));
    if (Cell::late_slots) x.gated = scratch.take<T>(rows * units);
    if (p.projection) x.unprojected = scratch.take<T>(rows * units);
    x.from = scratch.take<const T *>(chunk_rows());
    x.to = scratch.take<T *>(chunk_rows());
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
    prefer_huge_pages(p.outputs, T_ * B * R * sizeof(T));
    prefer_huge_pages(p.kept, T_ * B * Cell::kept * units * sizeof(T));
    in_parallel(plan.threads, [&](int64_t n, int64_t of) { pack({n, of}); });
    in_parallel(plan.threads, [&](int64_t n, int64_t of) {
      for (; n < plan.threads; n += of) {  // whatever the team's size, the shares are the same
        Scratch own(memory + count.used() + n * counted.used());
        Rows rows = local(own);
        through_time(rows, {n, plan.threads});
      }
    });
    return 0;
  }

  void pack(const Share &share) {
    const auto weights = [](const void *data) { return static_cast<const T *>(data); };
    pack_gates(*this, inward, weights(p.weight_ih), I, Cell::input_gates, Cell::input_slots, share);
    pack_gates(*this, hidden, weights(p.weight_hh), R, Cell::hidden_gates, early, share);
    if constexpr (Cell::late_slots > 0)
      pack_gates(*this, late, weights(p.weight_hh), R, Cell::hidden_gates + early,
                 Cell::late_slots, share);
    for (int64_t v = share.thread; p.projection && v < projection.vectors; v += share.threads)
      projection.fill(v, 0, H, weights(p.weight_hr) + v * L * H, 1, H, R > v * L ? R - v * L : 0);
    if (share.thread) return;
    std::memset(bias, 0, S * units * sizeof(T));
    const T *inward_bias = weights(p.bias_ih), *hidden_bias = weights(p.bias_hh);
    for (int64_t u = 0; inward_bias && u < H; ++u) {
      for (int s = 0; s < Cell::input_slots; ++s)
        bias[s * units + u] += inward_bias[Cell::input_gates[s] * H + u];
      for (int s = 0; s < Cell::hidden_slots; ++s)
        bias[(hidden_at + s) * units + u] += hidden_bias[Cell::hidden_gates[s] * H + u];
    }
  }

  void through_time(Rows &x, const Share &share) const {
    const int64_t rows = share.count(B);
    for (int part = 0; part < Cell::states; ++part)
      for (int64_t j = 0; j < rows; ++j) start(x, p.state, part, j, share);
    for (int64_t number = 0; number < T_;) {
      const int64_t first = number;
      int64_t filled = 0;
      for (; number < T_; ++number) {
        const int64_t t = this->step(number), alive = share.count(plan.alive[t]);
        if (filled && filled + alive > chunk_rows()) break;
        for (int64_t j = 0; j < alive; ++j, ++filled) {
          x.from[filled] = this->input(t, share.row(j));
          x.to[filled] = x.sums + filled * S * units;
          std::memcpy(x.to[filled], bias, S * units * sizeof(T));
        }
      }
      inward.multiply(filled, x.from, x.to, 0);
      T *sums = x.sums;
      for (int64_t n = first; n < number; ++n) {
        const int64_t t = this->step(n), alive = share.count(plan.alive[t]);
        one_step(x, sums, t, alive, share);
        sums += alive * S * units;
      }
    }
    for (int64_t j = 0; j < rows; ++j) {
      const int64_t r = share.row(j);
      for (int part = 0; part < Cell::states; ++part)
        std::memcpy(this->row_of(p.final_state, part, r), x.state[part] + j * this->padded_width(part),
                    this->state_width(part) * sizeof(T));
      for (int64_t t = p.lengths ? this->end(r) : T_; t < T_; ++t)
        std::memset(this->output(t, r), 0, R * sizeof(T));
    }
  }

  void start(Rows &x, const void *const *from, int part, int64_t j, const Share &share) const {
    const int64_t width = this->padded_width(part);
    copy_padded(x.state[part] + j * width, this->row_of(from, part, share.row(j)),
                this->state_width(part), width);
  }

  void one_step(Rows &x, T *sums, int64_t t, int64_t alive, const Share &share) const {
    for (int64_t j = 0; j < alive; ++j) {
      if (this->resets(t, share.row(j)))
        for (int part = 0; part < Cell::states; ++part) start(x, p.fresh, part, j, share);
      x.from[j] = x.state[0] + j * recurrent;
      x.to[j] = sums + j * S * units;
    }
    hidden.multiply(alive, x.from, x.to, hidden_at * units);
    if constexpr (Cell::late_slots > 0) {
      for (int64_t j = 0; j < alive; ++j) {
        for (int64_t u = 0; u < units; u += L) {
          V z[S], state[2] = {load(x.state[0] + j * recurrent + u)};
          for (int s = 0; s < S; ++s) z[s] = load(x.to[j] + s * units + u);
          store(x.gated + j * units + u, Cell::late(z, state));
        }
        x.from[j] = x.gated + j * units;
      }
      late.multiply(alive, x.from, x.to, (S - Cell::late_slots) * units);
    }
    for (int64_t j = 0; j < alive; ++j) {
      T *h = p.projection ? x.unprojected + j * units : x.state[0] + j * recurrent;
      T *c = Cell::states > 1 ? x.state[1] + j * units : nullptr;
      activate(x.to[j], h, c, p.kept ? this->kept(t, share.row(j)) : nullptr);
    }
    if (p.projection) {
      for (int64_t j = 0; j < alive; ++j) {
        x.from[j] = x.unprojected + j * units;
        x.to[j] = x.state[0] + j * recurrent;
        std::memset(x.to[j], 0, recurrent * sizeof(T));
      }
      projection.multiply(alive, x.from, x.to, 0);
    }
    for (int64_t j = 0; j < alive; ++j)
      std::memcpy(this->output(t, share.row(j)), x.state[0] + j * recurrent, R * sizeof(T));
  }

  void activate(const T *sums, T *h, T *c, T *keep) const {
    for (int64_t u = 0; u < units; u += L) {
      V z[S], state[2] = {load(h + u)}, values[Cell::kept + 1];
      for (int s = 0; s < S; ++s) z[s] = load(sums + s * units + u);
      if constexpr (Cell::states > 1) state[1] = load(c + u);
      Cell::forward(z, state, values);
      store(h + u, state[0]);
      if constexpr (Cell::states > 1) store(c + u, state[1]);
      if (keep)
        for (int k = 0; k < Cell::kept; ++k) store(keep + k * units + u, values[k]);
    }
  }
};

}  // namespace SEQCELLS_VARIANT
