// The weights of one product: packed per call, packed panel by panel, or unpacked.
#pragma once
#include "direct.hpp"
#include "rows.hpp"

namespace SEQCELLS_VARIANT {

enum class Reads { packed, streamed, direct };

template <class T>
struct Weights {
  const T *data;                // rows of `width` values, `count` rows per gate
  int64_t width, count, block;  // block: padded units per slot in a row of sums
  const int *gates;             // gate of each slot
  int slots;
  Reads reads;
  Packed<T> packed;

  static constexpr int L = LANES<T>;

  // For sums = rows * weights^T: a panel holds a vector of each slot, for the same units.
  void take(Scratch &scratch) {
    const int64_t vectors = block / L * slots;
    const bool packs = reads == Reads::packed;
    T *memory = packs ? scratch.take<T>(Packed<T>::size(width, vectors)) : nullptr;
    packed = {memory, width, vectors, slots > 1 ? block : 0, slots};
  }

  // Size of the panel buffer that each thread needs to multiply.
  int64_t panel_size() const {
    return reads == Reads::streamed ? Packed<T>::size(width, slots > 1 ? slots : 4) : 0;
  }

  void pack(int64_t thread, int64_t threads) const {
    if (reads != Reads::packed) return;
    for (int64_t group = thread; group < block / L; group += threads) fill(packed, group, group);
  }

  // out[j][offset + slot * block + u] += sum over k of rows[j][k] * weights[slot][u][k]
  void multiply(int64_t rows, const T *const *from, T *const *out, int64_t offset, Columns columns,
                T *panel, bool down = false) const {
    if (reads == Reads::packed) return packed.multiply(rows, from, out, offset, columns, down);
    if (reads == Reads::streamed) return stream(rows, from, out, offset, columns, panel);
    const int64_t end = columns.to < count ? columns.to : count;
    for (int slot = 0; slot < slots; ++slot)
      multiply_rows(rows, from, row(slot), width, columns.from, end, out, offset + slot * block);
  }

  // For gradients = sums * weights: a panel has one row per unit of each slot.
  void take_back(Scratch &scratch, int64_t columns) {
    const int64_t vectors = columns / L, K = slots ? (slots - 1) * block + count : 0;
    const bool packs = reads != Reads::direct;
    T *memory = packs ? scratch.take<T>(Packed<T>::size(K, vectors)) : nullptr;
    packed = {memory, K, vectors, 0, 1};
  }

  void pack_back(int64_t thread, int64_t threads) const {
    for (int64_t vector = thread; packed.data && vector < packed.vectors; vector += threads)
      for (int slot = 0; slot < slots; ++slot) {
        const int64_t lanes = width - vector * L < 0 ? 0 : width - vector * L;
        packed.fill(vector, slot * block, count, row(slot) + vector * L, width, 1, lanes);
        if (slot + 1 < slots)
          packed.fill(vector, slot * block + count, block - count, data, 0, 0, 0);
      }
  }

  // out[j][k] += sum over slots and u of rows[j][slot * block + u] * weights[slot][u][k]
  void multiply_back(int64_t rows, const T *const *from, T *const *out, Columns columns,
                     bool down = false) const {
    if (packed.data) return packed.multiply(rows, from, out, 0, columns, down);
    const int64_t end = columns.to < width ? columns.to : width;
    for (int slot = 0; slot < slots; ++slot)
      multiply_columns(rows, from, slot * block, row(slot), width, count, columns.from, end, out);
  }

 private:
  // Pack one vector of units of each slot.
  void fill(const Packed<T> &to, int64_t place, int64_t group) const {
    const int64_t lanes = count - group * L < 0 ? 0 : count - group * L;
    for (int slot = 0; slot < slots; ++slot)
      to.fill(place * slots + slot, 0, width, row(slot) + group * L * width, 1, width, lanes);
  }

  // Use each panel right after packing it, while it is in the cache.
  void stream(int64_t rows, const T *const *from, T *const *out, int64_t offset, Columns columns,
              T *panel) const {
    const int64_t last = columns.to / L;
    for (int64_t group = columns.from / L; group < last;) {
      const int64_t groups = slots > 1 ? 1 : last - group < 4 ? last - group : 4;
      const Packed<T> one{panel, width, groups * slots, slots > 1 ? block : 0, slots};
      for (int64_t n = 0; n < groups; ++n) fill(one, n, group + n);
      one.multiply(rows, from, out, offset + group * L, {0, groups * L});
      group += groups;
    }
  }

  const T *row(int slot) const { return data + gates[slot] * count * width; }
};

// Choose how a forward product reads `rows` rows of weights. `batch_rows` is the number of rows of
// all steps, `passes` the number of times that all weights are read. A direct product is slower
// than a packed one per row of the batch, since it reduces the lanes of every sum. Packing large
// weights costs about twice as much per weight, since they are written to memory. Thresholds were
// measured with AVX-512; narrower registers break even at the same number of rows or more.
template <class T>
Reads forward_reads(int64_t batch_rows, int64_t passes, int64_t rows, int64_t width) {
  constexpr int64_t LARGE = 512 << 10;
  const int64_t bytes = width * static_cast<int64_t>(sizeof(T));
  const bool large = rows * bytes >= LARGE;
  if (width >= LANES<T> && batch_rows <= bytes / (large && passes > 1 ? 32 : 64))
    return Reads::direct;
  return passes <= (large ? 2 : 1) ? Reads::streamed : Reads::packed;
}

// The same for a backward product. It reads vectors of the same rows in either layout. Packed rows
// are closer in memory, which pays off over many tiles of the batch.
template <class T>
Reads backward_reads(int64_t batch_rows, int64_t width) {
  constexpr int64_t MOST = 128;
  return width >= LANES<T> && batch_rows <= MOST ? Reads::direct : Reads::packed;
}

// Weights of all products of a call.
template <class T>
struct Products : Sizes<T> {
  Weights<T> inward, hidden, late, projection;

  // chunks: passes over the input weights in a forward pass; 0 for a backward pass.
  Products(const Problem &problem, const Plan &plan, const Cell<T> &cell, int64_t chunks)
      : Sizes<T>(problem, plan, cell) {
    const int64_t I = this->I, H = this->H, R = this->R, units = this->units;
    const int early = cell.early();
    static constexpr int only[] = {0};
    const auto find = [&](const void *data, int64_t width, int64_t count, int64_t block,
                          const int *gates, int slots, int64_t passes) {
      Reads reads = chunks ? forward_reads<T>(plan.rows, passes, slots * count, width)
                           : backward_reads<T>(plan.rows, width);
      if (plan.path == Path::packed) reads = Reads::packed;
      if (plan.path == Path::streamed) reads = Reads::streamed;
      if (plan.path == Path::direct && width >= LANES<T>) reads = Reads::direct;
      return Weights<T>{static_cast<const T *>(data), width, count, block, gates, slots, reads, {}};
    };
    const int64_t T_ = this->T_;
    inward = find(this->p.weight_ih, I, H, units, cell.input_gates,
                  chunks || this->p.grad_inputs ? cell.input_slots : 0, chunks);
    hidden = find(this->p.weight_hh, R, H, units, cell.hidden_gates, early, T_);
    late = find(this->p.weight_hh, R, H, units, cell.hidden_gates + early, cell.late_slots, T_);
    projection = find(this->p.weight_hr, H, R, this->recurrent, only, this->p.projection ? 1 : 0,
                      T_);
  }

  // For tests: a digit for each of the four products, 0 for none, or 1 + `Reads`.
  int64_t reads() const {
    int64_t digits = 0;
    for (const Weights<T> *weights : {&inward, &hidden, &late, &projection})
      digits = 10 * digits + (weights->slots ? 1 + static_cast<int>(weights->reads) : 0);
    return digits;
  }
};

}  // namespace SEQCELLS_VARIANT
