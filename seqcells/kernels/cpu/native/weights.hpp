// The weights of one product: packed per call, packed panel by panel, or unpacked.
#pragma once
#include "direct.hpp"
#include "narrow.hpp"
#include "rows.hpp"

namespace SEQCELLS_VARIANT {

enum class Reads { packed, streamed, direct, bfloat16, rounded, int8 };

template <class T>
struct Weights {
  const void *data;             // rows of `width` values, `count` rows per gate
  int64_t width, count, block;  // block: padded units per slot in a row of sums
  const int *gates;             // gate of each slot
  int slots;
  Reads reads;
  Stored stored;
  bool fast;  // the CPU has the instruction for narrow products
  Packed<T> packed;
  NarrowPanels<Bfloat16> halves;
  RoundedPanels wide;
  NarrowPanels<Int8> bytes;

  static constexpr int L = LANES<T>;

  // For sums = rows * weights^T: a panel holds a vector of each slot, for the same units.
  void take(Scratch &scratch) {
    const int64_t vectors = block / L * slots;
    const Panels panels{vectors, slots > 1 ? block : 0, slots};
    if (reads == Reads::bfloat16) take(halves, panels, width, scratch);
    if (reads == Reads::rounded) wide.take(panels, width, scratch);
    if (reads == Reads::int8) take(bytes, panels, width, scratch);
    const bool packs = reads == Reads::packed;
    T *memory = packs ? scratch.take<T>(Packed<T>::size(width, vectors)) : nullptr;
    packed = {panels, memory, width};
  }

  // Size of the buffer that each thread needs to multiply this number of rows: for a panel, or for
  // narrow rows.
  int64_t buffer_size(int64_t rows) const {
    return reads == Reads::streamed   ? Packed<T>::size(width, slots > 1 ? slots : 4)
           : reads == Reads::bfloat16 ? rows * halves.row_size(width)
           : reads == Reads::rounded  ? rows * wide.row_size(width)
           : reads == Reads::int8     ? rows * bytes.row_size(width)
                                      : 0;
  }

  void pack(int64_t thread, int64_t threads) const {
    if (reads == Reads::streamed || reads == Reads::direct) return;
    for (int64_t group = thread; group < block / L; group += threads)
      if (reads == Reads::packed)
        fill(packed, group, group);
      else
        for (int slot = 0; slot < slots; ++slot) fill_narrow(group, slot);
  }

  // out[j][offset + slot * block + u] += sum over k of rows[j][k] * weights[slot][u][k]
  void multiply(int64_t rows, const T *const *from, T *const *out, int64_t offset, Columns columns,
                T *buffer, bool down = false) const {
    if (reads == Reads::packed) return packed.multiply(rows, from, out, offset, columns, down);
    if (reads == Reads::streamed) return stream(rows, from, out, offset, columns, buffer);
    if constexpr (sizeof(T) == sizeof(Word)) {
      Word *words = reinterpret_cast<Word *>(buffer);
      if (reads == Reads::bfloat16)
        return halves.multiply(rows, from, out, offset, columns, words, down);
      if (reads == Reads::rounded)
        return wide.multiply(rows, from, width, out, offset, columns, words, down);
      if (reads == Reads::int8)
        return bytes.multiply(rows, from, out, offset, columns, words, down);
    }
    const int64_t end = columns.to < count ? columns.to : count;
    for (int slot = 0; slot < slots; ++slot)
      multiply_rows(rows, from, row(slot), width, columns.from, end, out, offset + slot * block);
  }

  // For gradients = sums * weights: a panel has one row per unit of each slot.
  void take_back(Scratch &scratch, int64_t columns) {
    const int64_t vectors = columns / L, K = slots ? (slots - 1) * block + count : 0;
    const Panels panels{vectors, 0, 1};
    if (reads == Reads::bfloat16) return take(halves, panels, K, scratch);
    if (reads == Reads::rounded) return wide.take(panels, K, scratch);
    const bool packs = reads != Reads::direct;
    T *memory = packs ? scratch.take<T>(Packed<T>::size(K, vectors)) : nullptr;
    packed = {panels, memory, K};
  }
  int64_t back_buffer_size(int64_t rows) const {
    return reads == Reads::bfloat16  ? rows * halves.row_size(halves.K)
           : reads == Reads::rounded ? rows * wide.row_size(wide.packed.K)
                                     : 0;
  }

  void pack_back(int64_t thread, int64_t threads) const {
    if (reads == Reads::direct) return;
    for (int64_t vector = thread; vector * L < padded(width); vector += threads)
      for (int slot = 0; slot < slots; ++slot) {
        const int64_t left = width - vector * L, lanes = left < 0 ? 0 : left;
        const int64_t rows = slot + 1 < slots ? block : count;
        if (reads == Reads::packed || reads == Reads::streamed) {
          packed.fill(vector, slot * block, count, row(slot) + vector * L, width, 1, lanes);
          packed.fill(vector, slot * block + count, rows - count, row(0), 0, 0, 0);
          continue;
        }
        const auto fill = [&](const auto &put) {
          words_of_columns(stored, bytes_of(slot) + vector * row_bytes(stored, L),
                           row_bytes(stored, width), lanes < L ? lanes : L, count, rows,
                           slot * block / 2, put);
        };
        if (reads == Reads::rounded)
          fill(wide.put(vector));
        else
          fill(halves.put(vector));
      }
  }

  // out[j][k] += sum over slots and u of rows[j][slot * block + u] * weights[slot][u][k]
  void multiply_back(int64_t rows, const T *const *from, T *const *out, Columns columns, T *buffer,
                     bool down = false) const {
    if constexpr (sizeof(T) == sizeof(Word)) {
      Word *words = reinterpret_cast<Word *>(buffer);
      if (reads == Reads::bfloat16)
        return halves.multiply(rows, from, out, 0, columns, words, down);
      if (reads == Reads::rounded)
        return wide.multiply(rows, from, (slots - 1) * block + count, out, 0, columns, words, down);
    }
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
      const Packed<T> one{{groups * slots, slots > 1 ? block : 0, slots}, panel, width};
      for (int64_t n = 0; n < groups; ++n) fill(one, n, group + n);
      one.multiply(rows, from, out, offset + group * L, {0, groups * L});
      group += groups;
    }
  }

  template <class Format>
  void take(NarrowPanels<Format> &narrow, const Panels &panels, int64_t K, Scratch &scratch) {
    static_cast<Panels &>(narrow) = panels;
    narrow.K = K, narrow.fast = fast;
    narrow.take(scratch);
  }

  // Pack one vector of units of a slot.
  void fill_narrow(int64_t group, int slot) const {
    const char *rows = bytes_of(slot) + group * L * row_bytes(stored, width);
    const int64_t left = count - group * L, lanes = left < 0 ? 0 : left < L ? left : L;
    const int64_t vector = group * slots + slot;
    if (reads == Reads::bfloat16)
      words_of_rows<Bfloat16>(stored, rows, width, lanes, halves.put(vector));
    if (reads == Reads::rounded)
      words_of_rows<Bfloat16>(stored, rows, width, lanes, wide.put(vector));
    if (reads != Reads::int8) return;
    words_of_rows<Int8>(stored, rows, width, lanes, bytes.put(vector));
    for (int64_t lane = 0; lane < L; ++lane) {
      float &scale = bytes.scales[vector * L + lane] = 0;
      const char *from = rows + lane * row_bytes(stored, width) + width;
      if (lane < lanes) std::memcpy(&scale, from, sizeof scale);
    }
  }

  const T *row(int slot) const {
    return static_cast<const T *>(data) + gates[slot] * count * width;
  }
  const char *bytes_of(int slot) const {
    return static_cast<const char *>(data) + gates[slot] * count * row_bytes(stored, width);
  }
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

// Rows per product from which rounded panels are faster than to widen words.
constexpr int64_t MANY_ROWS = 12;

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
    const Narrow narrow = static_cast<Narrow>(this->p.narrow);
    const Stored stored = static_cast<Stored>(this->p.stored);
    const int64_t feature = narrow == Narrow::int8 ? seqcells::INT8_DOT : seqcells::BFLOAT16_DOT;
    const bool fast = BYTES == 64 && (plan.features & feature);
    const auto find = [&](const void *data, int64_t width, int64_t count, int64_t block,
                          const int *gates, int slots, int64_t passes, int64_t rows_at_once) {
      Reads reads = chunks ? forward_reads<T>(plan.rows, passes, slots * count, width)
                           : backward_reads<T>(plan.rows, width);
      if (plan.path == Path::packed) reads = Reads::packed;
      if (plan.path == Path::streamed) reads = Reads::streamed;
      if (plan.path == Path::direct && width >= LANES<T>) reads = Reads::direct;
      if (narrow == Narrow::bfloat16) {
        const bool many = !fast && rows_at_once >= MANY_ROWS;
        reads = many ? Reads::rounded : Reads::bfloat16;
        if (plan.path == Path::packed) reads = Reads::bfloat16;
        if (plan.path == Path::direct) reads = Reads::rounded;
      }
      if (narrow == Narrow::int8) reads = Reads::int8;
      return Weights<T>{data,  width, count,  block, gates, slots,
                        reads, stored, fast, {},    {},    {}};
    };
    const int64_t T_ = this->T_, rows = this->most_rows();
    inward = find(this->p.weight_ih, I, H, units, cell.input_gates,
                  chunks || this->p.grad_inputs ? cell.input_slots : 0, chunks, plan.rows / plan.groups);
    hidden = find(this->p.weight_hh, R, H, units, cell.hidden_gates, early, T_, rows);
    late = find(this->p.weight_hh, R, H, units, cell.hidden_gates + early, cell.late_slots, T_,
                rows);
    projection = find(this->p.weight_hr, H, R, this->recurrent, only, this->p.projection ? 1 : 0,
                      T_, rows);
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
