// Forward pass. Each group of threads runs its own rows from the first step to the last:
//
//   z  = bias + W_ih x_t        for a chunk of steps at once, whose z fits into the cache
//   z += W_hh h                 step by step
//   h, c = cell(z, h, c)
//
// In a pair, one thread prepares chunks while the other runs the steps of prepared chunks.
#pragma once
#include <algorithm>

#include "products.hpp"

namespace SEQCELLS_VARIANT {

template <class T>
struct Forward : Products<T> {
  using Base = Products<T>;
  using Base::B, Base::H, Base::L, Base::R, Base::T_, Base::cell, Base::hidden, Base::inward,
      Base::each, Base::most_rows, Base::p, Base::parameters, Base::plan, Base::projection,
      Base::recurrent, Base::sums, Base::units;
  static constexpr int64_t CHUNK = 48, SHORT = 24;  // least rows of z per chunk; in a pair

  T *bias;
  uint64_t *checksum;  // of the weights that `p.packed` holds
  Meeting *meetings;

  Forward(const Problem &problem, const Plan &plan, const Cell<T> &cell)
      : Base(problem, plan, cell, chunks(problem, plan)) {}

  struct Rows {
    T *sums[2], *state[PARTS], *operands, *unprojected, *scaled, *before, *temps, *means;
    T *noise[PARTS], *drop, *buffer;  // per thread, like `from` and `to`
    const T **from;
    T **to;
  };

  struct Chunk {
    int64_t first, past, number;  // steps first to past - 1, in the order of the run
  };

  static int64_t chunk_rows(const Problem &p, const Plan &plan) {
    const int64_t least = plan.pairs ? SHORT : CHUNK, rows = plan.most_rows(p.batch);
    return rows > least ? rows : least;
  }
  int64_t chunk_rows() const { return chunk_rows(p, plan); }
  static int64_t chunks(const Problem &p, const Plan &plan) {
    return p.steps * plan.most_rows(p.batch) <= chunk_rows(p, plan) ? 1 : p.steps;
  }

  void shared(Scratch &scratch) {
    Scratch kept(static_cast<char *>(p.packed));
    take_weights(p.packed ? kept : scratch);
    bias = scratch.take<T>(sums());
    this->take_constants(scratch);
    meetings = scratch.take<Meeting>(plan.groups);
  }

  void take_weights(Scratch &scratch) {
    checksum = scratch.take<uint64_t>(1);
    each(*this, [&](Weights<T> &weights) { weights.take(scratch); });
  }

  Rows local(Scratch &scratch, int64_t seat) const {
    const int64_t rows = most_rows(), chunk = chunk_rows();
    Rows x{};
    for (int n = 0; n <= plan.pairs; ++n) x.sums[n] = scratch.take<T>(chunk * sums());
    for (int part = 0; part < cell.states; ++part)
      x.state[part] = scratch.take<T>(rows * this->padded_width(part));
    const int64_t parted = cell.stages ? rows : 1;  // rows that pass values between parts of a step
    x.operands = scratch.take<T>(cell.stages * rows * units);
    x.means = scratch.take<T>(cell.stages ? rows * cell.means * ROW_WIDTH : 0);
    if (p.projection) x.unprojected = scratch.take<T>(rows * units);
    if (p.read) x.scaled = scratch.take<T>(rows * recurrent);
    if (p.zone[0] && p.projection) x.before = scratch.take<T>(rows * recurrent);
    x.temps = scratch.take<T>(parted * cell.temps * units);
    x.drop = scratch.take<T>(plan.seats() * units) + seat * units;
    for (int part = 0; part < cell.states; ++part)
      x.noise[part] = scratch.take<T>(plan.seats() * units) + seat * units;
    int64_t buffer = inward.buffer_size(chunk);
    each(*this, [&](const Weights<T> &weights) {
      buffer = padded(std::max(buffer, weights.buffer_size(rows)));
    });
    x.buffer = scratch.take<T>(plan.seats() * buffer) + seat * buffer;
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
    plan.watch->reads = 10 * this->reads();
    uint64_t found = p.packed ? 1 : 0;
    each(*this, [&](const Weights<T> &weights) { if (found) found = weights.checksum(found); });
    const bool packs = !p.packed || *checksum != found;
    for (int64_t n = 0; n < plan.groups; ++n) meetings[n] = Meeting();
    prefer_huge_pages(p.outputs, T_ * B * R * sizeof(T));
    prefer_huge_pages(p.saved, T_ * B * this->saved_width() * sizeof(T));
    in_parallel(threads_of(plan), [&](int64_t thread, int64_t threads) {
      if (packs) pack_weights(thread, threads);
      if (!thread) pack_vectors();
      barrier_all(threads);
      for_shares(plan, meetings, thread, threads, [&](const Share &share) {
        Scratch own(memory + count.used() + share.group * counted.used());
        Rows rows = local(own, share.seat);
        share.runs() ? run_steps(rows, share) : prepare_chunks(rows, share);
      });
    });
    if (p.packed) *checksum = found;
    block().done();
    return 0;
  }

  void pack_weights(int64_t thread, int64_t threads) {
    each(*this, [&](const Weights<T> &weights) { weights.pack(thread, threads); });
  }

  void pack_vectors() {
    const auto weights = [](const void *data) { return static_cast<const T *>(data); };
    this->pack_constants();
    std::memset(bias, 0, sums() * sizeof(T));
    const T *inward_bias = weights(p.bias_ih), *hidden_bias = weights(p.bias_hh);
    for (int s = 0; inward_bias && s < cell.input_slots; ++s)
      for (int64_t u = 0; u < H; ++u)
        bias[s * units + u] += inward_bias[cell.input_gates[s] * H + u];
    for (int s = 0; hidden_bias && s < cell.hidden_slots; ++s)
      for (int64_t u = 0; u < H; ++u)
        bias[(cell.hidden_at() + s) * units + u] += hidden_bias[cell.hidden_gates[s] * H + u];
  }

  void run_steps(Rows &x, const Share &share) const {
    const int64_t rows = share.count(B);
    for (int64_t j = 0; j < rows; ++j)
      if (share.takes(j)) start(x, p.state, j, share);
    share.meet();
    for (Chunk c = after({0, 0, -1}, share); c.first < T_; c = after(c, share)) {
      if (share.stops()) return;
      if (!share.paired || share.meeting->relay.begin(c.number))
        prepare(x, c, share);
      else
        share.wait(share.meeting->relay.given, c.number + 1);
      T *z = sums_of(x, c);
      for (int64_t n = c.first; n < c.past; ++n) {
        const int64_t t = this->step(n), alive = share.count(plan.alive[t]);
        one_step(x, z, t, alive, n % 2, share);
        z += alive * sums();
      }
      if (share.paired) share.meeting->relay.finish(c.number);
    }
    for (int64_t j = 0; j < rows; ++j)
      if (share.takes(j)) finish(x, j, share.row(j));
  }

  void prepare_chunks(Rows &x, const Share &share) const {
    Relay &relay = share.meeting->relay;
    for (Chunk c = after({0, 0, -1}, share); c.first < T_; c = after(c, share)) {
      if (share.stops()) return;
      share.wait(relay.done, c.number - 1);  // its buffer is free then
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

  void prepare(Rows &x, const Chunk &c, const Share &share, bool down = false) const {
    const Columns mine = share.columns(units);
    T *z = sums_of(x, c);
    int64_t filled = 0;
    for (int64_t n = c.first; n < c.past; ++n) {
      const int64_t t = this->step(n), alive = share.count(plan.alive[t]);
      for (int64_t j = 0; j < alive; ++j, ++filled, z += sums()) {
        x.from[filled] = this->input(t, share.row(j));
        x.to[filled] = z;
        for (int slot = 0; slot < cell.slots; ++slot)
          copy(z + slot * units, bias + slot * units, mine);
      }
    }
    inward.multiply(filled, x.from, x.to, 0, mine, x.buffer, down);
  }

  void start(Rows &x, const void *const *from, int64_t j, const Share &share) const {
    for (int part = 0; part < cell.states; ++part) {
      const int64_t width = this->padded_width(part);
      copy_padded(x.state[part] + j * width, this->row_of(from, part, share.row(j)),
                  this->state_width(part), width);
    }
  }

  void finish(Rows &x, int64_t j, int64_t r) const {
    for (int part = 0; part < cell.states; ++part)
      std::memcpy(this->row_of(p.final_state, part, r),
                  x.state[part] + j * this->padded_width(part),
                  this->state_width(part) * sizeof(T));
    for (int64_t t = p.lengths ? this->end(r) : T_; t < T_; ++t) {
      std::memset(this->output(t, r), 0, R * sizeof(T));
      for (int part = 1; part < cell.states; ++part)
        if (p.states[part]) std::memset(this->part_of_step(part, t, r), 0, H * sizeof(T));
    }
  }

  void one_step(Rows &x, T *z, int64_t t, int64_t alive, bool down, const Share &share) const {
    const Columns mine = share.columns(units);
    for (int64_t j = 0; j < alive; ++j) {
      if (share.takes(j) && this->resets(t, share.row(j))) start(x, p.fresh, j, share);
      x.from[j] = x.state[0] + j * recurrent;
      x.to[j] = z + j * sums();
    }
    if (p.resets) share.meet();
    if (p.read) apply_read_factor(x, t, alive, share);
    if (cell.products[0].count)
      hidden[0].multiply(alive, x.from, x.to, cell.products[0].first * units, mine, x.buffer, down);
    if (!cell.stages) share.meet();  // the state changes only after all threads have read it
    for (int part = 0; part <= cell.stages; ++part) {
      if (part) late_product(x, t, alive, part, share);
      for (int64_t j = 0; j < alive; ++j) elementwise(x, j, t, share.row(j), mine, part);
    }
    if (p.projection) project(x, t, alive, share);
    const Columns own = share.columns(recurrent), shown = {own.from, own.to < R ? own.to : R};
    const Columns units_shown = {mine.from, mine.to < H ? mine.to : H};
    for (int64_t j = 0; j < alive; ++j) {
      copy(this->output(t, share.row(j)), x.state[0] + j * recurrent, shown);
      for (int part = 1; part < cell.states; ++part)
        if (p.states[part])
          copy(this->part_of_step(part, t, share.row(j)), x.state[part] + j * units, units_shown);
    }
    share.meet();
  }

  // Multiply the operand of a stage, which the part of the step before it has computed.
  void late_product(Rows &x, int64_t t, int64_t alive, int stage, const Share &share) const {
    const Columns mine = share.columns(units);
    for (int64_t j = 0; j < alive; ++j) {
      T *operand = x.operands + (j * cell.stages + stage - 1) * units;
      x.from[j] = operand;
      if (p.read) this->scale(operand, t, share.row(j), mine);
    }
    share.meet();
    hidden[stage].multiply(alive, x.from, x.to, cell.products[stage].first * units, mine, x.buffer);
  }

  // Multiply the state by the factor for the recurrent product.
  void apply_read_factor(Rows &x, int64_t t, int64_t alive, const Share &share) const {
    for (int64_t j = 0; j < alive; ++j) {
      const T *factor = this->noise(p.read, p.read_step, R, t, share.row(j)), *from = x.from[j];
      T *to = x.scaled + j * recurrent;
      for (int64_t u = 0; share.takes(j) && u < R; ++u) to[u] = from[u] * factor[u];
      x.from[j] = to;
    }
    share.meet();
  }

  static void copy(T *to, const T *from, Columns columns) {
    if (columns.to > columns.from)
      std::memcpy(to + columns.from, from + columns.from, (columns.to - columns.from) * sizeof(T));
  }

  void project(Rows &x, int64_t t, int64_t alive, const Share &share) const {
    const Columns mine = share.columns(recurrent);
    for (int64_t j = 0; j < alive; ++j) {
      x.from[j] = x.unprojected + j * units;
      x.to[j] = x.state[0] + j * recurrent;
      if (p.zone[0]) copy(x.before + j * recurrent, x.to[j], mine);
      std::memset(x.to[j] + mine.from, 0, (mine.to - mine.from) * sizeof(T));
    }
    share.meet();
    projection.multiply(alive, x.from, x.to, 0, mine, x.buffer);
    for (int64_t j = 0; p.zone[0] && j < alive; ++j) {
      const T *stays = this->noise(p.zone[0], p.zone_step[0], R, t, share.row(j));
      const T *before = x.before + j * recurrent;
      for (int64_t u = mine.from; u < mine.to && u < R; ++u)
        x.to[j][u] = stays[u] * before[u] + (T(1) - stays[u]) * x.to[j][u];
    }
  }

  // Compute the elementwise part of a step for one row.
  void elementwise(Rows &x, int64_t j, int64_t t, int64_t r, Columns mine, int part) const {
    ForwardRow<T> row{};
    row.sums = x.to[j];
    row.parameters = parameters;
    row.state[0] = p.projection ? x.unprojected + j * units : x.state[0] + j * recurrent;
    for (int n = 1; n < cell.states; ++n) row.state[n] = x.state[n] + j * units;
    if (p.saved) row.saved = this->saved_row(t, r), row.rows = row.saved + this->rows_at();
    if (cell.takes_drop) row.drop = this->drop(t, r, x.drop);
    for (int n = p.projection ? 1 : 0; n < cell.states; ++n)
      row.zoned |= (row.stays[n] = this->stays(n, t, r, x.noise[n])) != nullptr;
    row.temps = x.temps;
    if (cell.stages) {
      row.temps += j * cell.temps * units;
      row.means = x.means + j * cell.means * ROW_WIDTH;
      row.operands = x.operands + j * cell.stages * units;
    }
    row.units = this->shared_units(mine);
    cell.forward(cell, row, part);
  }
};

}  // namespace SEQCELLS_VARIANT
