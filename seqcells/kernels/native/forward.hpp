// Forward through time. Each group of threads runs its own rows from the first step to the last:
//
//   z  = bias + W_ih x_t        for a chunk of steps at once, whose z stays in the cache
//   z += W_hh h                 step by step
//   h, c = cell(z, h, c)
//
// In a pair, one thread prepares chunks while the other runs through those that are ready.
#pragma once
#include "rows.hpp"

namespace SEQCELLS_VARIANT {

template <class T, class Cell>
struct Forward : Sizes<T, Cell> {
  using Base = Sizes<T, Cell>;
  using V = Vec<T>;
  using Base::B, Base::H, Base::I, Base::L, Base::R, Base::S, Base::T_, Base::early,
      Base::hidden_at, Base::p, Base::plan, Base::recurrent, Base::units;
  static constexpr int64_t CHUNK = 48, SHORT = 24;  // rows of z in a chunk, at least; in a pair's

  Packed<T> inward, hidden, late, projection;
  T *bias, *parameters;
  Meeting *meetings;

  Forward(const Problem &problem, const Plan &plan) : Base(problem, plan) {}

  struct Rows {
    T *sums[2], *state[2], *gated, *unprojected;
    const T **from;  // each thread's own
    T **to;
  };

  struct Chunk {
    int64_t first, past, number;  // its steps, as they run
  };

  static int run(const Problem &problem, const Plan &plan) {
    Forward self(problem, plan);
    return self.run();
  }

 private:
  int64_t most_rows() const { return (B + plan.groups - 1) / plan.groups; }
  int64_t chunk_rows() const {
    const int64_t least = plan.pairs ? SHORT : CHUNK;
    return most_rows() > least ? most_rows() : least;
  }

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
    parameters = scratch.take<T>(Cell::parameters * units);
    meetings = scratch.take<Meeting>(plan.groups);
  }

  Rows local(Scratch &scratch, int64_t seat) const {
    const int64_t rows = most_rows(), chunk = chunk_rows();
    Rows x{};
    for (int n = 0; n <= plan.pairs; ++n) x.sums[n] = scratch.take<T>(chunk * S * units);
    for (int part = 0; part < Cell::states; ++part)
      x.state[part] = scratch.take<T>(rows * this->padded_width(part));
    if (Cell::late_slots) x.gated = scratch.take<T>(rows * units);
    if (p.projection) x.unprojected = scratch.take<T>(rows * units);
    x.from = scratch.take<const T *>(plan.seats() * chunk) + seat * chunk;
    x.to = scratch.take<T *>(plan.seats() * chunk) + seat * chunk;
    return x;
  }

  int run() {
    Scratch count, counted;
    shared(count);
    local(counted, 0);
    char *memory = block().of(count.used() + plan.groups * counted.used());
    if (!memory) return 1;
    Scratch pieces(memory);
    shared(pieces);
    for (int64_t n = 0; n < plan.groups; ++n) meetings[n] = Meeting();
    prefer_huge_pages(p.outputs, T_ * B * R * sizeof(T));
    prefer_huge_pages(p.kept, T_ * B * Cell::kept * units * sizeof(T));
    in_parallel(threads_of(plan), [&](int64_t thread, int64_t threads) {
      pack(thread, threads);
      meet_all(threads);
      in_shares(plan, meetings, thread, threads, [&](const Share &share) {
        Scratch own(memory + count.used() + share.group * counted.used());
        Rows rows = local(own, share.seat);
        share.runs() ? through_time(rows, share) : ahead_of_time(rows, share);
      });
    });
    block().done();
    return 0;
  }

  void pack(int64_t thread, int64_t threads) {
    const auto weights = [](const void *data) { return static_cast<const T *>(data); };
    pack_gates(*this, inward, weights(p.weight_ih), I, Cell::input_gates, Cell::input_slots, thread,
               threads);
    pack_gates(*this, hidden, weights(p.weight_hh), R, Cell::hidden_gates, early, thread,
               threads);
    if constexpr (Cell::late_slots > 0)
      pack_gates(*this, late, weights(p.weight_hh), R, Cell::hidden_gates + early,
                 Cell::late_slots, thread, threads);
    for (int64_t v = thread; p.projection && v < projection.vectors; v += threads)
      projection.fill(v, 0, H, weights(p.weight_hr) + v * L * H, 1, H, R > v * L ? R - v * L : 0);
    if (thread) return;
    this->pack_parameters(parameters);
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
    for (int64_t j = 0; j < rows; ++j)
      if (share.takes(j)) start(x, p.state, j, share);
    share.meet();
    for (Chunk c = after({0, 0, -1}, share); c.first < T_; c = after(c, share)) {
      if (!share.paired || share.meeting->relay.begin(c.number))
        prepare(x, c, share);
      else
        wait_for(share.meeting->relay.given, c.number + 1);
      T *sums = sums_of(x, c);
      for (int64_t n = c.first; n < c.past; ++n) {
        const int64_t t = this->step(n), alive = share.count(plan.alive[t]);
        one_step(x, sums, t, alive, n % 2, share);
        sums += alive * S * units;
      }
      if (share.paired) share.meeting->relay.finish(c.number);
    }
    for (int64_t j = 0; j < rows; ++j)
      if (share.takes(j)) finish(x, j, share.row(j));
  }

  void ahead_of_time(Rows &x, const Share &share) const {
    Relay &relay = share.meeting->relay;
    for (Chunk c = after({0, 0, -1}, share); c.first < T_; c = after(c, share)) {
      wait_for(relay.done, c.number - 1);  // whose sums make room
      if (!relay.begin(c.number)) continue;
      prepare(x, c, share);
      relay.give(c.number);
    }
  }

  Chunk after(const Chunk &c, const Share &share) const {
    int64_t past = c.past;
    for (int64_t rows = 0; past < T_; ++past) {
      rows += share.count(plan.alive[this->step(past)]);
      if (past > c.past && rows > chunk_rows()) break;
    }
    return {c.past, past, c.number + 1};
  }

  T *sums_of(const Rows &x, const Chunk &c) const { return x.sums[plan.pairs ? c.number % 2 : 0]; }

  void prepare(Rows &x, const Chunk &c, const Share &share) const {
    const Columns mine = share.columns(units);
    T *sums = sums_of(x, c);
    int64_t filled = 0;
    for (int64_t n = c.first; n < c.past; ++n) {
      const int64_t t = this->step(n), alive = share.count(plan.alive[t]);
      for (int64_t j = 0; j < alive; ++j, ++filled, sums += S * units) {
        x.from[filled] = this->input(t, share.row(j));
        x.to[filled] = sums;
        for (int slot = 0; slot < S; ++slot) copy(sums + slot * units, bias + slot * units, mine);
      }
    }
    inward.multiply(filled, x.from, x.to, 0, mine);
  }

  void start(Rows &x, const void *const *from, int64_t j, const Share &share) const {
    for (int part = 0; part < Cell::states; ++part) {
      const int64_t width = this->padded_width(part);
      copy_padded(x.state[part] + j * width, this->row_of(from, part, share.row(j)),
                  this->state_width(part), width);
    }
  }

  void finish(Rows &x, int64_t j, int64_t r) const {
    for (int part = 0; part < Cell::states; ++part)
      std::memcpy(this->row_of(p.final_state, part, r),
                  x.state[part] + j * this->padded_width(part), this->state_width(part) * sizeof(T));
    for (int64_t t = p.lengths ? this->end(r) : T_; t < T_; ++t)
      std::memset(this->output(t, r), 0, R * sizeof(T));
  }

  void one_step(Rows &x, T *sums, int64_t t, int64_t alive, bool down, const Share &share) const {
    const Columns mine = share.columns(units);
    for (int64_t j = 0; j < alive; ++j) {
      if (share.takes(j) && this->resets(t, share.row(j))) start(x, p.fresh, j, share);
      x.from[j] = x.state[0] + j * recurrent;
      x.to[j] = sums + j * S * units;
    }
    if (p.resets) share.meet();
    if constexpr (early > 0)
      hidden.multiply(alive, x.from, x.to, hidden_at * units, mine, down);
    if constexpr (Cell::late_slots > 0) {
      for (int64_t j = 0; j < alive; ++j) {
        gate(x.to[j], x.state[0] + j * recurrent, x.gated + j * units, mine);
        x.from[j] = x.gated + j * units;
      }
      share.meet();
      late.multiply(alive, x.from, x.to, (S - Cell::late_slots) * units, mine);
    } else {
      share.meet();  // everyone has read the state that now changes
    }
    for (int64_t j = 0; j < alive; ++j) {
      T *h = p.projection ? x.unprojected + j * units : x.state[0] + j * recurrent;
      T *c = Cell::states > 1 ? x.state[1] + j * units : nullptr;
      activate(x.to[j], h, c, p.kept ? this->kept(t, share.row(j)) : nullptr, mine);
    }
    if (p.projection) project(x, alive, share);
    const Columns own = share.columns(recurrent), shown = {own.from, own.to < R ? own.to : R};
    for (int64_t j = 0; j < alive; ++j)
      copy(this->output(t, share.row(j)), x.state[0] + j * recurrent, shown);
    share.meet();
  }

  static void copy(T *to, const T *from, Columns columns) {
    if (columns.to > columns.from)
      std::memcpy(to + columns.from, from + columns.from, (columns.to - columns.from) * sizeof(T));
  }

  void project(Rows &x, int64_t alive, const Share &share) const {
    const Columns mine = share.columns(recurrent);
    for (int64_t j = 0; j < alive; ++j) {
      x.from[j] = x.unprojected + j * units;
      x.to[j] = x.state[0] + j * recurrent;
      std::memset(x.to[j] + mine.from, 0, (mine.to - mine.from) * sizeof(T));
    }
    share.meet();
    projection.multiply(alive, x.from, x.to, 0, mine);
  }

  void gate(const T *sums, const T *h, T *gated, Columns mine) const {
    for (int64_t u = mine.from; u < mine.to; u += L) {
      V z[S], state[2] = {load(h + u)};
      for (int s = 0; s < S; ++s) z[s] = load(sums + s * units + u);
      store(gated + u, Cell::late(z, state));
    }
  }

  void activate(const T *sums, T *h, T *c, T *keep, Columns mine) const {
    for (int64_t u = mine.from; u < mine.to; u += L) {
      V z[S], state[2] = {load(h + u)}, values[Cell::kept + 1], own[Cell::parameters + 1];
      for (int s = 0; s < S; ++s) z[s] = load(sums + s * units + u);
      for (int n = 0; n < Cell::parameters; ++n) own[n] = load(parameters + n * units + u);
      if constexpr (Cell::states > 1) state[1] = load(c + u);
      Cell::forward(z, state, own, values);
      store(h + u, state[0]);
      if constexpr (Cell::states > 1) store(c + u, state[1]);
      if (keep)
        for (int k = 0; k < Cell::kept; ++k) store(keep + k * units + u, values[k]);
    }
  }
};

}  // namespace SEQCELLS_VARIANT
