// Runs calls of the native library from standard input, for emulated.py in an emulator.
//
// A request is six numbers: the function, its argument, the index of the instruction set, the sizes
// of the problem and of its memory in bytes, and the number of pointers. Their offsets in the
// problem follow, then the problem, whose pointers are offsets in the memory, then the memory. The
// reply is the result, and the memory of a forward or a backward pass.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "problem.hpp"

using seqcells::Problem;

extern "C" {
int seqcells_forward(const Problem *, int64_t);
int seqcells_backward(const Problem *, int64_t);
int64_t seqcells_packed_size(const Problem *, int64_t);
const char *seqcells_variant(int64_t);
int64_t seqcells_use_features(int64_t);
int64_t seqcells_has_threads();
int64_t seqcells_last_reads();
void seqcells_set_path(int64_t);
}

enum { FORWARD, BACKWARD, PACKED_SIZE, VARIANT, USE_FEATURES, HAS_THREADS, LAST_READS, SET_PATH };

static void read_all(void *to, size_t bytes) {
  if (bytes && std::fread(to, bytes, 1, stdin) != 1) std::exit(1);
}

static int64_t call(int64_t function, int64_t argument, int64_t variant, const Problem &problem) {
  switch (function) {
    case FORWARD: return seqcells_forward(&problem, variant);
    case BACKWARD: return seqcells_backward(&problem, variant);
    case PACKED_SIZE: return seqcells_packed_size(&problem, variant);
    case USE_FEATURES: return seqcells_use_features(argument);
    case HAS_THREADS: return seqcells_has_threads();
    case LAST_READS: return seqcells_last_reads();
    case SET_PATH: seqcells_set_path(argument); return 0;
    case VARIANT: {  // the first letters of its name
      int64_t letters = 0;
      const char *name = seqcells_variant(argument);
      if (name) std::memcpy(&letters, name, strnlen(name, 8));
      return letters;
    }
  }
  std::exit(1);
}

int main() {
  int64_t head[6];
  while (std::fread(head, sizeof head, 1, stdin) == 1) {
    const auto [function, argument, variant, size, bytes, pointers] = head;
    std::vector<int64_t> places(pointers);
    read_all(places.data(), pointers * sizeof(int64_t));
    Problem problem{};
    if (size && size != sizeof problem) std::exit(1);
    read_all(&problem, size);
    char *memory = static_cast<char *>(std::aligned_alloc(64, bytes + 64 - bytes % 64));
    read_all(memory, bytes);
    for (int64_t place : places) {
      int64_t offset;
      char *member = reinterpret_cast<char *>(&problem) + place;
      std::memcpy(&offset, member, sizeof offset);
      const char *pointer = memory + offset;
      std::memcpy(member, &pointer, sizeof pointer);
    }
    const int64_t result = call(function, argument, variant, problem);
    std::fwrite(&result, sizeof result, 1, stdout);
    if (function == FORWARD || function == BACKWARD) std::fwrite(memory, bytes, 1, stdout);
    std::fflush(stdout);
    std::free(memory);
  }
}
