// The threads of a call: who takes which rows, and where they wait for each other.
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

inline int64_t value_of(const int64_t &number) { return __atomic_load_n(&number, __ATOMIC_ACQUIRE); }

// Waits until `number` is at least `least`, or until the call is stopped.
inline void wait_for(const int64_t &number, int64_t least, const Watch &watch) {
  for (int spins = 0; value_of(number) < least && !watch.stopped(); ++spins)
    if (spins > 4000) sched_yield();
}

// Where the threads of a group wait for each other.
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

// Work that comes in numbered pieces, of which a pair of threads has two in hand: whoever needs a
// piece that nobody has begun begins it, so that neither depends on the other being awake.
struct Relay {
  alignas(64) int64_t begun = 0;
  alignas(64) int64_t given = 0;  // pieces that are handed over
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

// A thread's share of the work. A group takes every n-th row by falling length, so that all groups
// end together. Where there are fewer rows than threads can use, the threads of a group divide
// the columns of every product among them, and meet between the steps; or, where steps are too
// short for that, a pair of them divides what depends on time from what does not.
struct Share {
  int64_t group, groups, part, parts, seat;  // seat: which of the group's threads this is
  Meeting *meeting;
  Watch *watch;
  bool paired, calling;  // calling: the thread that the call came from

  int64_t row(int64_t j) const { return group + j * groups; }
  int64_t count(int64_t alive) const { return (alive - group + groups - 1) / groups; }
  bool takes(int64_t j) const { return j % parts == part; }
  bool runs() const { return !paired || seat == 0; }  // through time
  void meet() const {
    if (parts > 1) meeting->barrier.wait(parts, *watch);
  }
  void wait(const int64_t &number, int64_t least) const { wait_for(number, least, *watch); }
  bool stops() const { return calling ? watch->ask() : watch->stopped(); }
  Columns columns(int64_t width) const {  // in whole panels
    const int64_t blocks = (width + 63) / 64, end = blocks * (part + 1) / parts * 64;
    return {blocks * part / parts * 64, end < width ? end : width};
  }
};

// Runs `work(thread, threads)` on so many threads, or fewer.
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

// Where all of them wait for each other.
inline void meet_all(int64_t threads) {
#ifdef _OPENMP
  if (threads > 1) {
#pragma omp barrier
  }
#else
  (void)threads;
#endif
}

inline int64_t threads_of(const Plan &plan) { return plan.groups * (plan.awake ? 2 : plan.parts); }

// Runs `work` for each share of this thread. A team that came out smaller than asked divides
// neither columns nor time.
template <class Work>
void in_shares(const Plan &plan, Meeting *meetings, int64_t thread, int64_t threads,
               const Work &work) {
  const bool whole = threads == threads_of(plan), paired = whole && plan.awake;
  const int64_t parts = whole && !paired ? plan.parts : 1, seats = paired ? 2 : parts;
  const int64_t seat = thread % seats;
  for (int64_t g = thread / seats; g < plan.groups; g += threads / seats)
    work(Share{g, plan.groups, paired ? 0 : seat, parts, seat, meetings + g, plan.watch, paired,
               thread == 0});
}

}  // namespace SEQCELLS_VARIANT
