// Shared by both directions: sizes, addresses and scratch memory.
#pragma once
#include <cstdlib>
#ifdef __linux__
#include <sys/mman.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(memory, bytes)
#define ASAN_UNPOISON_MEMORY_REGION(memory, bytes)
#endif

#include "cell.hpp"
#include "threads.hpp"

namespace SEQCELLS_VARIANT {

using seqcells::Path;
using seqcells::Problem;

// Rows in scratch memory are padded to 16 units, independent of the register width.
inline int64_t padded(int64_t units) { return (units + 15) / 16 * 16; }

// The first access to memory costs a page fault per 4 KiB; huge pages avoid most of them.
inline void prefer_huge_pages(void *memory, int64_t bytes) {
#ifdef __linux__
  const uintptr_t page = 1 << 21, begin = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t from = (begin + page - 1) / page * page, to = (begin + bytes) / page * page;
  if (memory && to > from) madvise(reinterpret_cast<void *>(from), to - from, MADV_HUGEPAGE);
#else
  (void)memory, (void)bytes;
#endif
}

// Allocator of pieces of one memory block. Without memory it only computes the size.
class Scratch {
 public:
  explicit Scratch(char *memory = nullptr) : memory_(memory) {}

  template <class T>
  T *take(int64_t count) {
    const int64_t at = used_, end = at + count * static_cast<int64_t>(sizeof(T));
    used_ = (end + 127) / 128 * 128 + 128;
    if (!memory_) return nullptr;
    ASAN_POISON_MEMORY_REGION(memory_ + end, used_ - end);
    return reinterpret_cast<T *>(memory_ + at);
  }

  int64_t used() const { return used_; }

 private:
  char *memory_;
  int64_t used_ = 0;
};

// Scratch memory of the calling thread. It is reused by the next call, unless it is large.
class Block {
 public:
  char *of(int64_t bytes) {
    if (bytes > bytes_) {
      release();
      if (posix_memalign(&memory_, 4096, bytes)) memory_ = nullptr;
      if (!memory_) return nullptr;
      bytes_ = bytes;
      prefer_huge_pages(memory_, bytes);
    }
    ASAN_UNPOISON_MEMORY_REGION(memory_, bytes_);
    return static_cast<char *>(memory_);
  }

  void done() {
    if (bytes_ > LARGE) release();
  }

  ~Block() { release(); }

 private:
  static constexpr int64_t LARGE = 32 << 20;

  void release() {
    ASAN_UNPOISON_MEMORY_REGION(memory_, bytes_);
    std::free(memory_);
    memory_ = nullptr, bytes_ = 0;
  }

  void *memory_ = nullptr;
  int64_t bytes_ = 0;
};

inline Block &block() {
  static thread_local Block own;
  return own;
}

template <class T>
inline void copy_padded(T *to, const T *from, int64_t count, int64_t padded_count) {
  std::memcpy(to, from, count * sizeof(T));
  std::memset(to + count, 0, (padded_count - count) * sizeof(T));
}

template <class T>
struct Sizes {
  const Problem &p;
  const Plan &plan;
  const Cell<T> &cell;
  const int64_t T_, B, I, H, units, R, recurrent;  // R: width of the hidden state, H or P
  const int64_t D;                                 // columns of W_hh: R, or of one head
  static constexpr int L = LANES<T>;
  T *parameters = nullptr, *ones = nullptr;

  Sizes(const Problem &problem, const Plan &plan, const Cell<T> &cell)
      : p(problem), plan(plan), cell(cell), T_(p.steps), B(p.batch), I(p.input_size),
        H(p.hidden_size), units(padded(H)), R(p.projection ? p.projection : H),
        recurrent(padded(R)), D(R / p.heads) {}

  int64_t sums() const { return cell.slots * units; }
  int64_t most_rows() const { return plan.most_rows(B); }
  // Saved values per step and row: blocks of units, then values per row.
  int64_t rows_at() const { return cell.saved_width(p.zone[0]) * units; }
  int64_t saved_width() const { return rows_at() + cell.rows * ROW_WIDTH; }
  Units shared_units(Columns columns) const { return {columns.from, columns.to, H, units}; }

  // Rows of the caller's inputs, upstream gradients and outputs.
  const T *input(int64_t t, int64_t r) const {
    const T *data = static_cast<const T *>(p.inputs);
    return p.batch_sizes ? data + (plan.start[t] + r) * I
                         : data + t * p.input_step + plan.order[r] * p.input_row;
  }
  const T *grad_output(int64_t t, int64_t r) const {
    const T *data = static_cast<const T *>(p.grad_outputs);
    return p.batch_sizes ? data + (plan.start[t] + r) * R
                         : data + t * p.grad_step + plan.order[r] * p.grad_row;
  }
  int64_t dense(int64_t t, int64_t r) const {
    return p.batch_sizes ? plan.start[t] + r : t * B + plan.order[r];
  }
  T *output(int64_t t, int64_t r) const { return static_cast<T *>(p.outputs) + dense(t, r) * R; }
  T *part_of_step(int part, int64_t t, int64_t r) const {
    return static_cast<T *>(p.states[part]) + dense(t, r) * H;
  }
  T *saved_row(int64_t t, int64_t r) const {
    return static_cast<T *>(p.saved) + (plan.start[t] + r) * saved_width();
  }
  // Row r of a noise at step t. `whole` copies rows that do not fill their last vector.
  const T *noise(const void *data, int64_t step, int64_t width, int64_t t, int64_t r) const {
    return static_cast<const T *>(data) + t * step + plan.order[r] * width;
  }
  const T *padded_row(const T *row, T *copy) const {
    if (H % 16 == 0) return row;
    copy_padded(copy, row, H, units);
    return copy;
  }
  const T *drop(int64_t t, int64_t r, T *copy) const {
    return p.drop ? padded_row(noise(p.drop, p.drop_step, H, t, r), copy) : ones;
  }
  const T *stays(int part, int64_t t, int64_t r, T *copy) const {
    if (!p.zone[part]) return nullptr;
    return padded_row(noise(p.zone[part], p.zone_step[part], H, t, r), copy);
  }
  // Multiply a value of row r by the factor on the hidden state.
  void scale(T *value, int64_t t, int64_t r, Columns columns) const {
    const T *factor = noise(p.read, p.read_step, R, t, r);
    for (int64_t u = columns.from; u < columns.to && u < R; ++u) value[u] *= factor[u];
  }
  bool resets(int64_t t, int64_t r) const {
    return p.resets && p.resets[t * B + plan.order[r]];
  }
  int64_t state_width(int part) const { return part ? H : R; }
  int64_t padded_width(int part) const { return part ? units : recurrent; }
  const T *row_of(const void *const *parts, int part, int64_t r) const {
    return static_cast<const T *>(parts[part]) + plan.order[r] * state_width(part);
  }
  T *row_of(void *const *parts, int part, int64_t r) const {
    return static_cast<T *>(parts[part]) + plan.order[r] * state_width(part);
  }

  // Parameters of the step, and factors of one in place of missing noise.
  void take_constants(Scratch &scratch) {
    parameters = scratch.take<T>(cell.parameters * units);
    if (cell.takes_drop) ones = scratch.take<T>(units);
  }
  void pack_constants() const {
    for (int n = 0; n < cell.parameters; ++n)
      copy_padded(parameters + n * units, static_cast<const T *>(p.parameters) + n * H, H, units);
    for (int64_t u = 0; cell.takes_drop && u < units; ++u) ones[u] = T(1);
  }

  int64_t step(int64_t number) const { return p.reverse ? T_ - 1 - number : number; }

  // Number of steps of row r.
  int64_t end(int64_t r) const {
    int64_t low = 0, high = T_;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      plan.alive[middle] > r ? low = middle + 1 : high = middle;
    }
    return low;
  }
};

}  // namespace SEQCELLS_VARIANT
