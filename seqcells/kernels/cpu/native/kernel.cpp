// The C interface: chooses the instruction set, orders the rows, and runs.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "problem.hpp"

using seqcells::Path;
using seqcells::Plan;
using seqcells::Problem;
using seqcells::Watch;

#define DECLARE(variant)                         \
  namespace variant {                            \
  int forward(const Problem &, const Plan &);    \
  int backward(const Problem &, const Plan &);   \
  }

DECLARE(seqcells_portable)
#ifdef SEQCELLS_X86
DECLARE(seqcells_avx2)
DECLARE(seqcells_avx512)
#endif

namespace {

struct Variant {
  const char *name;
  int (*forward)(const Problem &, const Plan &);
  int (*backward)(const Problem &, const Plan &);
  bool runs;
};

// The best first.
const Variant *variants(int &count) {
  static const Variant all[] = {
#ifdef SEQCELLS_X86
      {"AVX-512", seqcells_avx512::forward, seqcells_avx512::backward,
       __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")},
      {"AVX2", seqcells_avx2::forward, seqcells_avx2::backward,
       __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")},
#endif
      {"portable", seqcells_portable::forward, seqcells_portable::backward, true},
  };
  count = sizeof(all) / sizeof(all[0]);
  return all;
}

const Variant *chosen(int64_t skip) {
  int count;
  for (const Variant *v = variants(count), *end = v + count; v < end; ++v)
    if (v->runs && skip-- == 0) return v;
  return nullptr;
}

// Products below which a second thread is not worth waking, and, in one step of one row, below
// which the threads are not worth bringing together.
constexpr int64_t WAKING = 350000, MEETING = 60000;

// A single step of at most so many rows, whose recurrent weights are at least so many, divides the
// units: threads with rows of their own would each read all weights.
constexpr int64_t FEW_ROWS = 48, MANY_WEIGHTS = 150000;

// Nanoseconds for which threads go on looking for work. To wake one later costs as much again,
// so that a pair is for programs that call in quick succession; its results are those of one.
constexpr int64_t AWAKE = 500000;
std::atomic<int64_t> last_end{0};

int64_t now() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Rows make the best shares: threads that have their own never wait. Where there are too few of
// them for a whole tile a thread, and steps are long, the threads divide the units instead; where
// steps are short and threads to spare, they pair up.
void divide(const Problem &p, int64_t rows, Plan &plan) {
  const int64_t recurrent = p.weight_hh ? p.gates * p.hidden_size * p.hidden_size : 0;
  const int64_t step = recurrent + p.gates * p.hidden_size * p.input_size;
  plan.groups = plan.parts = 1;
  plan.pairs = plan.awake = false;
  if (p.threads < 2 || rows * step < WAKING) return;
  const bool one = p.steps == 1 && p.batch <= FEW_ROWS && recurrent >= MANY_WEIGHTS;
  const bool divides = one && !p.whole_rows;
  const bool meets = divides || (recurrent >= MEETING && (p.batch + 5) / 6 < p.threads);
  const int64_t wanted = divides ? 1 : meets ? (p.batch + 5) / 6 : p.batch;
  plan.groups = wanted < p.threads ? wanted : p.threads;
  const int64_t most = (p.hidden_size + 63) / 64, parts = p.threads / plan.groups;
  if (meets && !p.whole_rows) plan.parts = parts < most ? parts : most;
  plan.pairs = plan.parts == 1 && parts > 1;
  plan.awake = plan.pairs && now() - last_end.load(std::memory_order_relaxed) < AWAKE;
}

// For tests, which choose a path and read which one the last call took.
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
    if (p_.lengths) by_length(order, length, alive, place);
    int64_t rows = 0;
    for (int64_t t = 0; t < T_; rows += alive[t++]) start[t] = rows;
    plan = {order, alive, start, 1, 1, false, false, nullptr, path.load(), rows};
    divide(p_, rows, plan);
    return true;
  }

 private:
  // Longest first, equal lengths in the caller's order.
  void by_length(int64_t *order, int64_t *length, int64_t *alive, int64_t *place) {
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

// The caller's interpreter: its lock is given up while a kernel runs, and a long kernel takes it
// back from time to time to let Python handle signals, so that Ctrl-C stops it.
struct Python {
  void *(*release)();
  void (*acquire)(void *);
  int (*handle_signals)();  // not 0: the handler raised an exception
} python{};

constexpr int64_t BETWEEN_SIGNALS = 50000000;  // nanoseconds

struct Call : Watch {
  void *thread = nullptr;

  Call() {
    if (!python.release) return;
    interrupted = raised;
    next = now() + BETWEEN_SIGNALS;
    thread = python.release();
  }
  ~Call() {
    if (python.release) python.acquire(thread);
  }

  static bool raised(Watch &watch) {
    if (now() < watch.next) return false;
    Call &call = static_cast<Call &>(watch);
    python.acquire(call.thread);
    const bool raised = python.handle_signals() != 0;
    call.thread = python.release();
    call.next = now() + BETWEEN_SIGNALS;
    return raised;
  }
};

using Function = int(const Problem &, const Plan &);

int run(const Problem &p, Function *function) {
  Call call;
  Rows rows(p);
  Plan plan;
  if (!rows.plan(plan)) return 1;
  plan.watch = &call;
  const int failed = function(p, plan);
  last_end.store(now(), std::memory_order_relaxed);
  last_reads.store(call.reads, std::memory_order_relaxed);
  return failed ? failed : call.stopped() ? 3 : 0;
}

}  // namespace

#define PUBLIC extern "C" __attribute__((visibility("default")))

// Instruction sets that run here, the best first; null past the last.
PUBLIC const char *seqcells_variant(int64_t number) {
  const Variant *variant = chosen(number);
  return variant ? variant->name : nullptr;
}

// Functions of the Python interpreter that calls with its lock held; without them, none.
PUBLIC void seqcells_python(void *(*release)(), void (*acquire)(void *), int (*handle_signals)()) {
  python = {release, acquire, handle_signals};
}

// 0: done. 1: no memory. 2: no such cell or variant. 3: stopped by an exception, which is set.
PUBLIC int seqcells_forward(const Problem *p, int64_t number) {
  const Variant *variant = chosen(number);
  return variant ? run(*p, variant->forward) : 2;
}
PUBLIC int seqcells_backward(const Problem *p, int64_t number) {
  const Variant *variant = chosen(number);
  return variant ? run(*p, variant->backward) : 2;
}

// The members of `Problem` as "name:offset ", in order, and its size.
PUBLIC const char *seqcells_members() {
  static char text[2048];
  int at = 0;
#define SEQCELLS_MEMBER(name)                                                                 \
  at += std::snprintf(text + at, sizeof text - at, #name ":%d ",                              \
                      static_cast<int>(offsetof(Problem, name)));
  SEQCELLS_MEMBERS(SEQCELLS_MEMBER)
  std::snprintf(text + at, sizeof text - at, "%d", static_cast<int>(sizeof(Problem)));
  return text;
}
// For tests: how products read their weights from now on, by the number of a `Path`.
PUBLIC void seqcells_set_path(int64_t number) { path = static_cast<Path>(number); }

// For tests: how the last call read its weights. A decimal digit for each of its products, with
// inputs, hidden state, late slots and projection: 0 where there is none, or 1 + the number of a
// `Reads`. Then 1 if it was a backward pass that wrote each gradient by weights once.
PUBLIC int64_t seqcells_last_reads() { return last_reads; }
