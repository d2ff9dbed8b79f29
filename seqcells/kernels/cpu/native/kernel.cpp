// C interface: selects the instruction set, plans the rows and threads, and runs the kernel.
#include <atomic>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "features.hpp"
#include "planning.hpp"
#include "variants.hpp"

using namespace seqcells;

namespace {

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

int run_planned(const Problem &p, Function *function, Watch &watch) {
  Rows rows(p);
  Plan plan;
  if (!rows.plan(plan)) return 1;
  plan.watch = &watch;
  return function(p, plan);
}

int ended(const Call &call, int failed) {
  last_end.store(now(), std::memory_order_relaxed);
  last_reads.store(call.reads, std::memory_order_relaxed);
  return failed ? failed : call.stopped() ? 3 : 0;
}

int run(const Problem &p, Function *function) {
  Call call;
  return ended(call, run_planned(p, function, call));
}

// Problem n of a call of several models. Every member is the first problem's plus n times its
// difference from the second problem's, so that tensors of all models are arrays of models, and
// shared ones are given twice.
Problem problem_of(const Problem *first_two, int64_t n) {
  constexpr int64_t MEMBERS = sizeof(Problem) / sizeof(int64_t);
  static_assert(sizeof(void *) == sizeof(int64_t), "members are words of 64 bits");
  int64_t members[2][MEMBERS];
  std::memcpy(members, first_two, sizeof members);
  for (int64_t k = 0; k < MEMBERS; ++k) members[0][k] += n * (members[1][k] - members[0][k]);
  Problem found;
  std::memcpy(static_cast<void *>(&found), members[0], sizeof found);
  return found;
}

// Watch of a thread other than the calling one: stops when the call does.
struct Follower : Watch {
  const Watch &leader;

  explicit Follower(const Watch &leader) : leader(leader) { interrupted = leader_stopped; }

  static bool leader_stopped(Watch &watch) {
    return static_cast<Follower &>(watch).leader.stopped();
  }
};

// Run the models in parallel, unless one of them alone uses more threads. Models that remain when
// the threads have taken equally many run one after another, each with all threads.
int run_models(const Problem *first_two, int64_t models, Function *function) {
  Call call;
  const Problem &first = first_two[0];
  Plan alone;
  const int64_t rows = first.steps * first.batch;
  divide(first, rows, alone);
  const int64_t used = alone.groups * alone.seats();
  int64_t threads = models < first.threads ? models : first.threads;
  if (used > threads || !is_parallel(first, models * rows)) threads = 1;
  const int64_t together = threads < 2 ? 0 : used < 2 ? models : models / threads * threads;
  int failed = 0;
  const auto run_one = [&](int64_t n, bool parallel, Watch &watch) {
    if (__atomic_load_n(&failed, __ATOMIC_RELAXED) || watch.stopped()) return;
    Problem p = problem_of(first_two, n);
    if (parallel) p.threads = 1;
    if (const int error = run_planned(p, function, watch))
      __atomic_store_n(&failed, error, __ATOMIC_RELAXED);
  };
  int64_t next = 0;
  const auto run_together = [&](Watch &watch) {
    while (true) {
      const int64_t n = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
      if (n >= together) return;
      run_one(n, true, watch);
    }
  };
#ifdef _OPENMP
#pragma omp parallel num_threads(static_cast<int>(threads)) if (together)
  {
    Follower follower(call);
    run_together(omp_get_thread_num() ? static_cast<Watch &>(follower) : call);
  }
#else
  run_together(call);
#endif
  for (int64_t n = together; n < models; ++n) run_one(n, false, call);
  return ended(call, failed);
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

// The same for several models in one call. `first_two` points to the problems of the first two.
PUBLIC int seqcells_forward_models(const Problem *first_two, int64_t models, int64_t number) {
  const Variant *variant = supported_variant(number);
  return variant ? run_models(first_two, models, variant->forward) : 2;
}
PUBLIC int seqcells_backward_models(const Problem *first_two, int64_t models, int64_t number) {
  const Variant *variant = supported_variant(number);
  return variant ? run_models(first_two, models, variant->backward) : 2;
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

// Set how products read their weights, by the number of a `Path`, and return the former one.
PUBLIC int64_t seqcells_set_path(int64_t number) {
  return static_cast<int64_t>(path.exchange(static_cast<Path>(number)));
}

// For tests: use these optional instructions, as bits, as far as the CPU has them. Return the
// former ones; a negative number changes nothing.
PUBLIC int64_t seqcells_use_features(int64_t wanted) { return seqcells::use_features(wanted); }

// For tests: return how the last call read its weights. The decimal digits stand for the products
// with inputs, hidden state, the first stage and projection: 0 for none, or 1 + the number of a
// `Reads`. The last digit is 1 if a backward pass wrote each weight gradient once.
PUBLIC int64_t seqcells_last_reads() { return last_reads; }
