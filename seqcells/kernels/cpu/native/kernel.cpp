// C interface: selects the instruction set, sorts the rows, plans the threads and runs the kernel.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>

#include "features.hpp"
#include "variants.hpp"

using seqcells::Path;
using seqcells::Watch;

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

// Divide rows among threads if possible, since threads with separate rows never wait. If there are
// fewer rows than a tile per thread, divide the units if steps are long; if steps are short and
// threads are left, form pairs.
void divide(const Problem &p, int64_t rows, Plan &plan) {
  const int64_t recurrent = p.weight_hh ? p.gates * p.hidden_size * p.hidden_size : 0;
  const int64_t step = recurrent + p.gates * p.hidden_size * p.input_size;
  plan.groups = plan.parts = 1;
  plan.pairs = plan.awake = false;
  if (p.threads < 2 || rows * step < MIN_PARALLEL) return;
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

// For tests, which set the path and query which one the last call took.
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
    plan = {order, alive, start, 1, 1, false, false, nullptr, path.load(), rows, seqcells::features()};
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

// The Python interpreter of the caller. The GIL is released while a kernel runs. A long kernel
// acquires it at intervals to let Python handle signals, so that Ctrl-C stops the kernel.
struct Python {
  void *(*release)();
  void (*acquire)(void *);
  int (*handle_signals)();  // nonzero if the handler raised an exception
} python{};

constexpr int64_t SIGNAL_INTERVAL = 50000000;  // nanoseconds

struct Call : Watch {
  void *thread = nullptr;

  Call() {
    if (!python.release) return;
    interrupted = raised;
    next = now() + SIGNAL_INTERVAL;
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
    call.next = now() + SIGNAL_INTERVAL;
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

// Name of the supported instruction set `number`, in order of preference; null past the last one.
PUBLIC const char *seqcells_variant(int64_t number) {
  const Variant *variant = supported_variant(number);
  return variant ? variant->name : nullptr;
}

// Set the interpreter's functions, if callers hold the GIL. By default the GIL is not touched.
PUBLIC void seqcells_python(void *(*release)(), void (*acquire)(void *), int (*handle_signals)()) {
  python = {release, acquire, handle_signals};
}

// Returns 0 on success, 1 if out of memory, 2 for an unknown cell or variant, 3 if interrupted by a
// Python exception, which is set.
PUBLIC int seqcells_forward(const Problem *p, int64_t number) {
  const Variant *variant = supported_variant(number);
  return variant ? run(*p, variant->forward) : 2;
}
PUBLIC int seqcells_backward(const Problem *p, int64_t number) {
  const Variant *variant = supported_variant(number);
  return variant ? run(*p, variant->backward) : 2;
}

// Return the bytes that `Problem::packed` needs for int8 weights; 0 for an unknown cell or variant.
PUBLIC int64_t seqcells_packed_size(const Problem *p, int64_t number) {
  const Variant *variant = supported_variant(number);
  Plan plan{};
  plan.groups = plan.parts = 1;
  return variant ? variant->packed_size(*p, plan) : 0;
}

// A stepper of the caller, which uses it in one thread at a time.
struct Handle {
  std::unique_ptr<Stepper> stepper;
  std::atomic<bool> busy{false};
};

// Return a stepper of `count` layers, or null if out of memory or for an unknown cell.
PUBLIC Handle *seqcells_stepper_create(const Problem *layers, int64_t count, int64_t residual,
                                       int64_t number) {
  const Variant *variant = supported_variant(number);
  if (!variant) return nullptr;
  try {
    std::unique_ptr<Handle> handle(new Handle);
    handle->stepper.reset(variant->stepper(layers->is_double));
    const bool made = handle->stepper->create(layers, count, residual);
    return made ? handle.release() : nullptr;
  } catch (const std::bad_alloc &) {
    return nullptr;
  }
}
PUBLIC void seqcells_stepper_destroy(Handle *handle) { delete handle; }
PUBLIC void seqcells_stepper_set(Handle *handle, int64_t layer, const void *const *parts,
                                 const uint8_t *rows) {
  handle->stepper->set_state(layer, parts, rows);
}
PUBLIC void seqcells_stepper_get(Handle *handle, int64_t layer, void *const *parts) {
  handle->stepper->get_state(layer, parts);
}

// Returns 0 on success, 1 if another thread is running a step of the same stepper.
PUBLIC int seqcells_stepper_step(Handle *handle, const void *inputs, void *outputs) {
  if (handle->busy.exchange(true, std::memory_order_acquire)) return 1;
  void *thread = python.release ? python.release() : nullptr;
  handle->stepper->step(inputs, outputs);
  handle->busy.store(false, std::memory_order_release);
  if (python.release) python.acquire(thread);
  return 0;
}

// Return the members of `Problem` as "name:offset ", in order, and its size.
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

// Return whether calls can run in several threads.
PUBLIC int64_t seqcells_has_threads() {
#ifdef _OPENMP
  return 1;
#else
  return 0;
#endif
}

// For tests: set how products read their weights, by the number of a `Path`.
PUBLIC void seqcells_set_path(int64_t number) { path = static_cast<Path>(number); }

// For tests: use these optional instructions, as bits, as far as the CPU has them. Return the former
// ones; a negative number changes nothing.
PUBLIC int64_t seqcells_use_features(int64_t wanted) { return seqcells::use_features(wanted); }

// For tests: return how the last call read its weights. The decimal digits stand for the products
// with inputs, hidden state, the first stage and projection: 0 for none, or 1 + the number of a `Reads`.
// The last digit is 1 if a backward pass wrote each weight gradient once.
PUBLIC int64_t seqcells_last_reads() { return last_reads; }
