// A stepper: layers that stay in memory and run one step per call. Weights are packed once, the
// state is held in place, and a step neither allocates memory nor starts threads.
#pragma once
#include "problem.hpp"

namespace seqcells {

// A layer's Problem has one step. Pointers to weights are read by `create` only, those to zoneout
// shares and a custom cell by every step.
struct Stepper {
  virtual ~Stepper() = default;
  // Allocate, and pack the weights; false if out of memory or for an unknown cell. May throw
  // std::bad_alloc.
  virtual bool create(const Problem *layers, int64_t count, bool residual) = 0;
  // inputs (B, I) of the first layer, outputs (B, R) of the last one.
  virtual void step(const void *inputs, void *outputs) = 0;
  // Set a layer's state in the rows that `rows` (B,) marks, or in all rows if it is null.
  virtual void set_state(int64_t layer, const void *const *parts, const uint8_t *rows) = 0;
  virtual void get_state(int64_t layer, void *const *parts) = 0;
};

}  // namespace seqcells

#ifdef SEQCELLS_VARIANT
#include <memory>
#include <vector>

#include "forward.hpp"
#include "interpreter.hpp"

namespace SEQCELLS_VARIANT {

template <class T>
const Cell<T> *cell_for(const Problem &p);

template <class T>
class LayerStepper {
 public:
  bool create(const Problem &problem) {
    problem_ = problem;
    if (p().code) {
      own_.reset(new Interpreted<T>(p().code, p().constants));
      cell_ = own_.get();
    } else {
      cell_ = cell_for<T>(p());
    }
    if (!cell_) return false;
    const int64_t B = p().batch;
    order_.resize(B);
    for (int64_t b = 0; b < B; ++b) order_[b] = b;
    alive_ = B;
    plan_ = {order_.data(), &alive_, &start_, 1, 1, false, false, &watch_, Path::packed, B,
             seqcells::features()};
    forward_.reset(new Forward<T>(problem_, plan_, *cell_));
    Scratch count;
    lay_out(count);
    memory_.reset(new Block);
    char *memory = memory_->of(count.used());
    if (!memory) return false;
    Scratch pieces(memory);
    lay_out(pieces);
    forward_->pack_weights(0, 1);
    forward_->pack_vectors();
    return true;
  }

  void step(const void *inputs, void *outputs) {
    problem_.inputs = inputs, problem_.outputs = outputs;
    const Share all = share();
    forward_->prepare(rows_, {0, 1, 0}, all, down_);
    forward_->one_step(rows_, rows_.sums[0], 0, p().batch, down_, all);
    down_ = !down_;
  }

  void set_state(const void *const *parts, const uint8_t *rows) {
    for (int64_t b = 0; b < p().batch; ++b)
      if (!rows || rows[b]) forward_->start(rows_, parts, b, share());
  }

  void get_state(void *const *parts) {
    for (int part = 0; part < cell_->states; ++part)
      problem_.final_state[part] = parts[part];
    for (int64_t b = 0; b < p().batch; ++b) forward_->finish(rows_, b, b);
  }

  int64_t width() const { return forward_->R; }
  const Problem &p() const { return problem_; }

 private:
  void lay_out(Scratch &scratch) {
    forward_->shared(scratch);
    rows_ = forward_->local(scratch, 0);
  }

  Share share() { return {0, 1, 0, 1, 0, nullptr, &watch_, false, false}; }

  Problem problem_;
  Plan plan_;
  Watch watch_;
  std::vector<int64_t> order_;
  int64_t alive_ = 0, start_ = 0;
  bool down_ = false;  // alternates, so that a step finds the last weights of the step before
  const Cell<T> *cell_ = nullptr;
  std::unique_ptr<Interpreted<T>> own_;
  std::unique_ptr<Forward<T>> forward_;
  std::unique_ptr<Block> memory_;
  typename Forward<T>::Rows rows_;
};

template <class T>
class TypedStepper : public seqcells::Stepper {
 public:
  bool create(const Problem *layers, int64_t count, bool residual) override {
    layers_.resize(count), outputs_.resize(count);
    residual_ = residual;
    for (int64_t n = 0; n < count; ++n) {
      if (!layers_[n].create(layers[n])) return false;
      outputs_[n].resize(layers[n].batch * layers_[n].width());
    }
    return true;
  }

  void step(const void *inputs, void *outputs) override {
    const void *from = inputs;
    for (size_t n = 0; n < layers_.size(); ++n) {
      void *to = n + 1 < layers_.size() ? outputs_[n].data() : outputs;
      layers_[n].step(from, to);
      const Problem &p = layers_[n].p();
      if (residual_ && p.input_size == layers_[n].width())
        for (int64_t i = 0; i < p.batch * p.input_size; ++i)
          static_cast<T *>(to)[i] += static_cast<const T *>(from)[i];
      from = to;
    }
  }

  void set_state(int64_t layer, const void *const *parts, const uint8_t *rows) override {
    layers_[layer].set_state(parts, rows);
  }
  void get_state(int64_t layer, void *const *parts) override { layers_[layer].get_state(parts); }

 private:
  std::vector<LayerStepper<T>> layers_;
  std::vector<std::vector<T>> outputs_;
  bool residual_ = false;
};

}  // namespace SEQCELLS_VARIANT
#endif
