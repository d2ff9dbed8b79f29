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
  int64_t heads;  // blocks of `width` units, which multiply their own `width` values of a row
  bool divided;   // several threads divide the columns
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
    const Panels panels{vectors, stride(), slots};
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
    return reads == Reads::streamed   ? Packed<T>::size(width, stride() ? slots : 4)
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

  uint64_t checksum(uint64_t seed) const {
    for (int slot = 0; slot < slots; ++slot)
      seed = checksum_of(seed, bytes_of(slot), count * row_bytes<T>(stored, width));
    return seed;
  }

  // out[j][offset + slot * block + u] += sum over k of rows[j][k] * weights[slot][u][k]
  void multiply(int64_t rows, const T **from, T *const *out, int64_t offset, Columns columns,
                T *buffer, bool down = false) const {
    if (heads == 1) return multiply_head(rows, from, out, offset, columns, buffer, down);
    for (int64_t head = 0; head < heads; ++head) {
      const Columns own = columns.within(head * width, (head + 1) * width);
      if (own.to > own.from) multiply_head(rows, from, out, offset, own, buffer, down);
      shift(rows, from, width);
    }
    shift(rows, from, -heads * width);
  }

  void multiply_head(int64_t rows, const T *const *from, T *const *out, int64_t offset,
                     Columns columns, T *buffer, bool down) const {
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

  // For gradients = sums * weights: a panel has one row per unit of each slot. With heads, each
  // block has its own panels.
  void take_back(Scratch &scratch) {
    if (heads > 1) {
      take_blocks(scratch);
      return;
    }
    const int64_t vectors = padded(width) / L, K = slots ? (slots - 1) * block + count : 0;
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
    if (heads > 1) {
      for (int64_t n = 0; n < slots * heads; ++n) block_of(n).pack_back(thread, threads);
      return;
    }
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
          words_of_columns(stored, bytes_of(slot) + vector * row_bytes<T>(stored, L),
                           row_bytes<T>(stored, width), lanes < L ? lanes : L, count, rows,
                           slot * block / 2, put);
        };
        if (reads == Reads::rounded)
          fill(wide.put(vector));
        else
          fill(halves.put(vector));
      }
  }

  // out[j][k] += sum over slots and u of rows[j][slot * block + u] * weights[slot][u][k]
  void multiply_back(int64_t rows, const T **from, T **out, Columns columns, T *buffer,
                     bool down = false) const {
    if (heads > 1) return multiply_blocks_back(rows, from, out, columns, buffer);
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

  // The block of slot n / heads and head n % heads, as weights without heads.
  Weights block_of(int64_t n) const {
    static constexpr int first[] = {0};
    Weights found = *this;
    found.data = bytes_of(n / heads) + n % heads * width * row_bytes<T>(stored, width);
    found.count = found.block = width, found.gates = first, found.slots = 1, found.heads = 1;
    if (found.packed.data) found.packed.data += n * width * width;
    if (found.halves.data) found.halves.data += n * width * width / 2;
    if (found.wide.packed.data) found.wide.packed.data += n * width * width;
    return found;
  }

 private:
  // A panel has vectors of the same units in all slots. Without heads, a single slot has panels of
  // adjacent vectors.
  int64_t stride() const { return slots > 1 || heads > 1 ? block : 0; }

  void take_blocks(Scratch &scratch) {
    const Panels panels{width / L, divided ? width : 0, 1};  // threads divide at any vector
    const int64_t size = slots * heads * width * width;
    if (reads == Reads::bfloat16) {
      static_cast<Panels &>(halves) = panels;
      halves.K = width, halves.fast = fast, halves.data = scratch.take<Word>(size / 2);
    } else if (reads == Reads::rounded) {
      wide.packed = {panels, scratch.take<float>(size), width};
    } else {
      packed = {panels, reads == Reads::direct ? nullptr : scratch.take<T>(size), width};
    }
  }

  void multiply_blocks_back(int64_t rows, const T **from, T **out, Columns columns,
                            T *buffer) const {
    for (int64_t head = 0; head < heads; ++head) {
      const int64_t first = head * width;
      const Columns own = columns.within(first, first + width);
      for (int slot = 0; slot < slots && own.to > own.from; ++slot) {
        shift(rows, from, slot * block + first);
        shift(rows, out, first);
        block_of(slot * heads + head)
            .multiply_back(rows, from, out, {own.from - first, own.to - first}, buffer);
        shift(rows, from, -slot * block - first);
        shift(rows, out, -first);
      }
    }
  }

  template <class Pointer>
  static void shift(int64_t rows, Pointer *pointers, int64_t by) {
    for (int64_t j = 0; j < rows; ++j) pointers[j] += by;
  }

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
      const int64_t groups = stride() ? 1 : last - group < 4 ? last - group : 4;
      const Packed<T> one{{groups * slots, stride(), slots}, panel, width};
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
    const char *rows = bytes_of(slot) + group * L * row_bytes<T>(stored, width);
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
      const char *from = rows + lane * row_bytes<T>(stored, width) + width;
      if (lane < lanes) std::memcpy(&scale, from, sizeof scale);
    }
  }

  const T *row(int slot) const {
    return static_cast<const T *>(data) + gates[slot] * count * width;
  }
  const char *bytes_of(int slot) const {
    return static_cast<const char *>(data) + gates[slot] * count * row_bytes<T>(stored, width);
  }
};

}  // namespace SEQCELLS_VARIANT
