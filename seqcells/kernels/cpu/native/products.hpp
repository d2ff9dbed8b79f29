// The products of a call, and the choice of how each reads its weights.
#pragma once
#include "weights.hpp"

namespace SEQCELLS_VARIANT {

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
  Weights<T> inward, hidden[STAGES + 1] = {}, projection;  // hidden: of each of the cell's products

  // chunks: passes over the input weights in a forward pass; 0 for a backward pass.
  Products(const Problem &problem, const Plan &plan, const Cell<T> &cell, int64_t chunks)
      : Sizes<T>(problem, plan, cell) {
    const int64_t I = this->I, H = this->H, units = this->units, D = this->D;
    const int64_t heads = this->p.heads;
    static constexpr int only[] = {0};
    const Narrow narrow = static_cast<Narrow>(this->p.narrow);
    const Stored stored = static_cast<Stored>(this->p.stored);
    const int64_t feature = narrow == Narrow::int8 ? seqcells::INT8_DOT : seqcells::BFLOAT16_DOT;
    const bool fast = BYTES == 64 && (plan.features & feature);
    const auto find = [&](const void *data, int64_t width, int64_t count, int64_t block,
                          const int *gates, int slots, int64_t passes, int64_t rows_at_once,
                          int64_t heads = 1) {
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
      return Weights<T>{data,  width,  count, block, gates, slots, heads, plan.parts > 1,
                        reads, stored, fast,  {},    {},    {},    {}};
    };
    const int64_t T_ = this->T_, rows = this->most_rows();
    inward = find(this->p.weight_ih, I, H, units, cell.input_gates,
                  chunks || this->p.grad_inputs ? cell.input_slots : 0, chunks,
                  plan.rows / plan.groups);
    for (int n = 0; n <= cell.stages; ++n)
      hidden[n] = find(this->p.weight_hh, D, H, units, cell.gates_of(n), cell.products[n].count, T_,
                       rows, heads);
    projection = find(this->p.weight_hr, H, this->R, this->recurrent, only,
                      this->p.projection ? 1 : 0, T_, rows);
  }

  // Call `work` with the weights of each product, in the order of a step.
  template <class Self, class Work>
  static void each(Self &self, const Work &work) {
    work(self.inward);
    for (int n = 0; n <= self.cell.stages; ++n) work(self.hidden[n]);
    work(self.projection);
  }

  // For tests: a digit for the products with inputs, hidden state, the operand of the first stage,
  // and the projection: 0 for none, or 1 + `Reads`.
  int64_t reads() const {
    int64_t digits = 0;
    for (const Weights<T> *weights : {&inward, hidden, hidden + 1, &projection})
      digits = 10 * digits + (weights->slots ? 1 + static_cast<int>(weights->reads) : 0);
    return digits;
  }
};

}  // namespace SEQCELLS_VARIANT
