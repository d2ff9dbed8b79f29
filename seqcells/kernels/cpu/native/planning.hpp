// Plan of a call: sorts its rows by length and divides them among threads. Included once, by
// kernel.cpp.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdlib>

#include "problem.hpp"

namespace seqcells {

namespace {

// Minimum number of multiplications of a call to wake a second thread, and of one step of one row
// to synchronise the threads within the step.
constexpr int64_t MIN_PARALLEL = 350000, MIN_SYNCHRONISED = 60000;

// A single step with at most FEW_ROWS rows and at least MANY_WEIGHTS recurrent weights divides the
// units among threads. If it divided the rows, each thread would read all weights.
constexpr int64_t FEW_ROWS = 48, MANY_WEIGHTS = 150000;

// Nanoseconds after a call during which OpenMP threads still spin. Waking one later costs about as
// much again, so pairs are only used by calls in quick succession. Results do not depend on it.
constexpr int64_t AWAKE = 500000;
std::atomic<int64_t> last_end{0};

int64_t now() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int64_t recurrent_weights(const Problem &p) {
  return p.weight_hh ? p.gates * p.hidden_size * p.hidden_size : 0;
}

// Whether this number of rows is enough work for several threads.
bool is_parallel(const Problem &p, int64_t rows) {
  const int64_t step = recurrent_weights(p) + p.gates * p.hidden_size * p.input_size;
  return p.threads > 1 && rows * step >= MIN_PARALLEL;
}

// Divide rows among threads if possible, since threads with separate rows never wait. If there are
// fewer rows than a tile per thread, divide the units if steps are long; if steps are short and
// threads are left, form pairs.
void divide(const Problem &p, int64_t rows, Plan &plan) {
  const int64_t recurrent = recurrent_weights(p);
  plan.groups = plan.parts = 1;
  plan.pairs = plan.awake = false;
  if (!is_parallel(p, rows)) return;
  const bool one = p.steps == 1 && p.batch <= FEW_ROWS && recurrent >= MANY_WEIGHTS;
  const bool divides = one && !p.whole_rows;
  const bool meets = divides || (recurrent >= MIN_SYNCHRONISED && (p.batch + 5) / 6 < p.threads);
  const int64_t wanted = divides ? 1 : meets ? (p.batch + 5) / 6 : p.batch;
  plan.groups = wanted < p.threads ? wanted : p.threads;
  const int64_t most = (p.hidden_size + 63) / 64, parts = p.threads / plan.groups;
  if (meets && !p.whole_rows) plan.parts = parts < most ? parts : most;
  plan.pairs = plan.parts == 1 && parts > 1;
  plan.awake = plan.pairs && now() - last_end.load(std::memory_order_relaxed) < AWAKE;
}

// The path is set by batch_invariant and by tests, which query how the last call read its weights.
std::atomic<Path> path{Path::by_size};
std::atomic<int64_t> last_reads{0};

class Rows {
 public:
  explicit Rows(const Problem &p) : p_(p), T_(p.steps), B_(p.batch) {
    memory_ = static_cast<int64_t *>(std::malloc((2 * B_ + 3 * T_ + 2) * sizeof(int64_t)));
  }
  ~Rows() { std::free(memory_); }

  bool plan(Plan &plan) {
    if (!memory_) return false;
    int64_t *order = memory_, *length = order + B_, *alive = length + B_, *start = alive + T_;
    int64_t *place = start + T_;  // (T + 2,)
    for (int64_t t = 0; t < T_; ++t) alive[t] = p_.batch_sizes ? p_.batch_sizes[t] : B_;
    for (int64_t b = 0; b < B_; ++b) order[b] = b;
    if (p_.lengths) sort_by_length(order, length, alive, place);
    int64_t rows = 0;
    for (int64_t t = 0; t < T_; rows += alive[t++]) start[t] = rows;
    plan = {order, alive, start, 1, 1, false, false, nullptr, path.load(), rows, features()};
    divide(p_, rows, plan);
    return true;
  }

 private:
  // Sort by decreasing length. Rows of equal length keep the caller's order.
  void sort_by_length(int64_t *order, int64_t *length, int64_t *alive, int64_t *place) {
    for (int64_t n = 0; n <= T_ + 1; ++n) place[n] = 0;
    for (int64_t b = 0; b < B_; ++b) {
      const int64_t given = p_.lengths[b];
      length[b] = given < 0 ? 0 : given > T_ ? T_ : given;
      ++place[length[b]];
    }
    int64_t longer = 0;
    for (int64_t n = T_; n >= 0; --n) {
      const int64_t equal = place[n];
      place[n] = longer;
      longer += equal;
      if (n) alive[n - 1] = longer;
    }
    for (int64_t b = 0; b < B_; ++b) order[place[length[b]]++] = b;
  }

  const Problem &p_;
  const int64_t T_, B_;
  int64_t *memory_;
};

}  // namespace

}  // namespace seqcells
