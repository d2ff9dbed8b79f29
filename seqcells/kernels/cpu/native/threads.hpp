// Division of a call among threads, and their synchronisation.
#pragma once
#include <sched.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "problem.hpp"
#include "product.hpp"

namespace SEQCELLS_VARIANT {

using seqcells::Plan;
using seqcells::Watch;

inline int64_t value_of(const int64_t &number) {
  return __atomic_load_n(&number, __ATOMIC_ACQUIRE);
}

// Wait until `number` is at least `least`, or until the call is stopped.
inline void wait_for(const int64_t &number, int64_t least, const Watch &watch) {
  for (int spins = 0; value_of(number) < least && !watch.stopped(); ++spins)
    if (spins > 4000) sched_yield();
}

// Barrier of the threads of a group.
struct Barrier {
  alignas(64) int64_t arrived = 0;
  int64_t round = 0;

  void wait(int64_t parts, const Watch &watch) {
    const int64_t now = value_of(round);
    if (__atomic_add_fetch(&arrived, 1, __ATOMIC_ACQ_REL) == parts) {
      __atomic_store_n(&arrived, 0, __ATOMIC_RELAXED);
      __atomic_store_n(&round, now + 1, __ATOMIC_RELEASE);
      return;
    }
    wait_for(round, now + 1, watch);
  }
};

// Queue of numbered pieces of work between two threads, at most two at a time. A thread that needs
// a piece which has not been started computes it itself, so neither waits for a sleeping thread.
struct Relay {
  alignas(64) int64_t begun = 0;
  alignas(64) int64_t given = 0;  // number of pieces handed over
  alignas(64) int64_t done = 0;

  bool begin(int64_t piece) {
    return __atomic_compare_exchange_n(&begun, &piece, piece + 1, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
  }
  void give(int64_t piece) { __atomic_store_n(&given, piece + 1, __ATOMIC_RELEASE); }
  void finish(int64_t piece) { __atomic_store_n(&done, piece + 1, __ATOMIC_RELEASE); }
};

struct Meeting {
  Barrier barrier;
  Relay relay;
};

// A thread's share of the work. A group takes every n-th row by decreasing length, which balances
// the groups. If there are fewer rows than threads, the threads of a group divide the columns of
// every product and synchronise between steps. If steps are too short for that, one thread of a
// pair runs the recurrence and the other the products that do not depend on it.
struct Share {
  int64_t group, groups, part, parts, seat;  // seat: index of the thread in its group
  Meeting *meeting;
  Watch *watch;
  bool paired, calling;  // calling: this is the thread of the caller

  int64_t row(int64_t j) const { return group + j * groups; }
  int64_t count(int64_t alive) const { return (alive - group + groups - 1) / groups; }
  bool takes(int64_t j) const { return j % parts == part; }
  bool runs() const { return !paired || seat == 0; }  // this thread runs the recurrence
  void meet() const {
    if (parts > 1) meeting->barrier.wait(parts, *watch);
  }
  void wait(const int64_t &number, int64_t least) const { wait_for(number, least, *watch); }
  bool stops() const { return calling ? watch->poll() : watch->stopped(); }
  Columns columns(int64_t width) const {  // rounded to whole panels
    const int64_t blocks = (width + 63) / 64, end = blocks * (part + 1) / parts * 64;
    return {blocks * part / parts * 64, end < width ? end : width};
  }
};

// Run `work(thread, threads)` on at most this number of threads.
template <class Work>
void in_parallel(int64_t threads, const Work &work) {
#ifdef _OPENMP
  if (threads > 1) {
#pragma omp parallel num_threads(static_cast<int>(threads))
    work(omp_get_thread_num(), omp_get_num_threads());
    return;
  }
#endif
  (void)threads;
  work(0, 1);
}

// Barrier of all threads of a call.
inline void barrier_all(int64_t threads) {
#ifdef _OPENMP
  if (threads > 1) {
#pragma omp barrier
  }
#else
  (void)threads;
#endif
}

inline int64_t threads_of(const Plan &plan) { return plan.groups * (plan.awake ? 2 : plan.parts); }

// Run `work` for each share of this thread. If OpenMP provides fewer threads than requested, groups
// divide neither columns nor time.
template <class Work>
void for_shares(const Plan &plan, Meeting *meetings, int64_t thread, int64_t threads,
               const Work &work) {
  const bool whole = threads == threads_of(plan), paired = whole && plan.awake;
  const int64_t parts = whole && !paired ? plan.parts : 1, seats = paired ? 2 : parts;
  const int64_t seat = thread % seats;
  for (int64_t g = thread / seats; g < plan.groups; g += threads / seats)
    work(Share{g, plan.groups, paired ? 0 : seat, parts, seat, meetings + g, plan.watch, paired,
               thread == 0});
}

}  // namespace SEQCELLS_VARIANT
