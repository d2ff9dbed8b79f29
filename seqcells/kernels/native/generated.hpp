// Written by seqcells/kernels/source.py from the cells' equations: `make kernels`.
#pragma once
#include "cells.hpp"

#define SEQCELLS_CELLS(_) \
  _(RNNTanh) \
  _(RNNReLU) \
  _(GRU) \
  _(LSTM) \
  _(PeepholeLSTM) \
  _(CoupledLSTM) \
  _(LightLSTM) \
  _(MGU) \
  _(IndRNNReLU) \
  _(IndRNNTanh) \
  _(MinGRU) \
  _(MinLSTM) \
  _(GRUResetBefore)

namespace SEQCELLS_VARIANT {

// gates 1 hidden 1 states 1 parameters 0
// v0 = add x0 h0
// v1 = tanh v0
// return v1
template <class T>
struct RNNTanh : Plain {
  using V = Vec<T>;
  static constexpr int slots = 1;
  static constexpr int input_slots = 1;
  static constexpr int hidden_slots = 1;
  static constexpr int states = 1;
  static constexpr int parameters = 0;
  static constexpr int kept = 0;
  static constexpr int kept_cell = 0;
  static constexpr bool reads_after = true;
  static constexpr bool projects = false;
  static constexpr int input_gates[] = {0};
  static constexpr int hidden_gates[] = {0};

  static void forward(const V *z, V *state, const V *p, V *keep) {
    const V v1 = tanh<T>(z[0]);
    state[0] = v1;
  }

  static void backward(const V *keep, const V *before, const V *after, const V *p, V *grad, V *dz,
                       V *dp) {
    const V v2 = after[0] * after[0];
    const V v3 = T(1.0) - v2;
    const V g0 = grad[0];
    const V v4 = v3 * g0;
    dz[0] = v4;
    grad[0] = V{};
  }
};

// gates 1 hidden 1 states 1 parameters 0
// v0 = add x0 h0
// v1 = relu v0
// return v1
template <class T>
struct RNNReLU : Plain {
  using V = Vec<T>;
  static constexpr int slots = 1;
  static constexpr int input_slots = 1;
  static constexpr int hidden_slots = 1;
  static constexpr int states = 1;
  static constexpr int parameters = 0;
  static constexpr int kept = 0;
  static constexpr int kept_cell = 0;
  static constexpr bool reads_after = true;
  static constexpr bool projects = false;
  static constexpr int input_gates[] = {0};
  static constexpr int hidden_gates[] = {0};

  static void forward(const V *z, V *state, const V *p, V *keep) {
    const V v1 = z[0] < V{} ? V{} : z[0];
    state[0] = v1;
  }

  static void backward(const V *keep, const V *before, const V *after, const V *p, V *grad, V *dz,
                       V *dp) {
    const V g0 = grad[0];
    const V v2 = after[0] > V{} ? g0 : V{};
    dz[0] = v2;
    grad[0] = V{};
  }
};

// gates 3 hidden 1 states 1 parameters 0
// v0 = add x0 h0
// v1 = sigmoid v0
// v2 = mul h2 v1
// v3 = add x2 v2
// v4 = tanh v3
// v5 = add x1 h1
// v6 = sigmoid v5
// v7 = sub 1.0 v6
// v8 = mul v4 v7
// v9 = mul s0 v6
// v10 = add v8 v9
// return v10
template <class T>
struct GRU : Plain {
  using V = Vec<T>;
  static constexpr int slots = 4;
  static constexpr int input_slots = 3;
  static constexpr int hidden_slots = 3;
  static constexpr int states = 1;
  static constexpr int parameters = 0;
  static constexpr int kept = 4;
  static constexpr int kept_cell = 0;
  static constexpr bool reads_after = false;
  static constexpr bool projects = false;
  static constexpr int input_gates[] = {2, 0, 1};
  static constexpr int hidden_gates[] = {0, 1, 2};

  static void forward(const V *z, V *state, const V *p, V *keep) {
    const V v1 = sigmoid<T>(z[1]);
    const V v2 = z[3] * v1;
    const V v3 = z[0] + v2;
    const V v4 = tanh<T>(v3);
    const V v6 = sigmoid<T>(z[2]);
    const V v7 = T(1.0) - v6;
    const V v8 = v4 * v7;
    const V s0 = state[0];
    const V v9 = s0 * v6;
    const V v10 = v8 + v9;
    state[0] = v10;
    keep[0] = z[3];
    keep[1] = v6;
    keep[2] = v4;
    keep[3] = v1;
  }

  static void backward(const V *keep, const V *before, const V *after, const V *p, V *grad, V *dz,
                       V *dp) {
    const V v7 = T(1.0) - keep[1];
    const V g0 = grad[0];
    const V v13 = v7 * g0;
    const V v19 = keep[2] * keep[2];
    const V v20 = T(1.0) - v19;
    const V v21 = v13 * v20;
    const V v23 = keep[0] * v21;
    const V v24 = T(1.0) - keep[3];
    const V v25 = keep[3] * v24;
    const V v26 = v23 * v25;
    const V v12 = before[0] * g0;
    const V v14 = keep[2] * g0;
    const V v16 = v12 - v14;
    const V v17 = keep[1] * v7;
    const V v18 = v16 * v17;
    const V v22 = keep[3] * v21;
    const V v11 = keep[1] * g0;
    dz[0] = v21;
    dz[1] = v26;
    dz[2] = v18;
    dz[3] = v22;
    grad[0] = v11;
  }
};

// gates 4 hidden 1 states 2 parameters 0
// v0 = add x3 h3
// v1 = sigmoid v0
// v2 = add x1 h1
// v3 = sigmoid v2
// v4 = mul s1 v3
// v5 = add x0 h0
// v6 = sigmoid v5
// v7 = add x2 h2
// v8 = tanh v7
// v9 = mul v6 v8
// v10 = add v4 v9
// v11 = tanh v10
// v12 = mul v1 v11
// return v12 v10
template <class T>
struct LSTM : Plain {
  using V = Vec<T>;
  static constexpr int slots = 4;
  static constexpr int input_slots = 4;
  static constexpr int hidden_slots = 4;
  static constexpr int states = 2;
  static constexpr int parameters = 0;
  static constexpr int kept = 5;
  static constexpr int kept_cell = 0;
  static constexpr bool reads_after = false;
  static constexpr bool projects = true;
  static constexpr int input_gates[] = {0, 1, 2, 3};
  static constexpr int hidden_gates[] = {0, 1, 2, 3};

  static void forward(const V *z, V *state, const V *p, V *keep) {
    const V v1 = sigmoid<T>(z[3]);
    const V s1 = state[1];
    const V v3 = sigmoid<T>(z[1]);
    const V v4 = s1 * v3;
    const V v6 = sigmoid<T>(z[0]);
    const V v8 = tanh<T>(z[2]);
    const V v9 = v6 * v8;
    const V v10 = v4 + v9;
    const V v11 = tanh<T>(v10);
    const V v12 = v1 * v11;
    state[0] = v12;
    state[1] = v10;
    keep[0] = v10;
    keep[1] = v8;
    keep[2] = v1;
    keep[3] = v6;
    keep[4] = v3;
  }

  static void backward(const V *keep, const V *before, const V *after, const V *p, V *grad, V *dz,
                       V *dp) {
    const V g0 = grad[0];
    const V v14 = keep[2] * g0;
    const V v11 = tanh<T>(keep[0]);
    const V v15 = v11 * v11;
    const V v16 = T(1.0) - v15;
    const V v17 = v14 * v16;
    const V g1 = grad[1];
    const V v18 = v17 + g1;
    const V v19 = keep[1] * v18;
    const V v24 = T(1.0) - keep[3];
    const V v25 = keep[3] * v24;
    const V v26 = v19 * v25;
    const V v28 = before[1] * v18;
    const V v29 = T(1.0) - keep[4];
    const V v30 = keep[4] * v29;
    const V v31 = v28 * v30;
    const V v20 = keep[3] * v18;
    const V v21 = keep[1] * keep[1];
    const V v22 = T(1.0) - v21;
    const V v23 = v20 * v22;
    const V v13 = v11 * g0;
    const V v32 = T(1.0) - keep[2];
    const V v33 = keep[2] * v32;
    const V v34 = v13 * v33;
    const V v27 = keep[4] * v18;
    dz[0] = v26;
    dz[1] = v31;
    dz[2] = v23;
    dz[3] = v34;
    grad[0] = V{};
    grad[1] = v27;
  }

  static V unprojected(const V *keep) {
    const V v11 = tanh<T>(keep[0]);
    const V v12 = keep[2] * v11;
    return v12;
  }
};

// gates 4 hidden 1 states 2 parameters 3
// v0 = add x3 h3
// v1 = add x1 h1
// v2 = mul s1 p1
// v3 = add v1 v2
// v4 = sigmoid v3
// v5 = mul s1 v4
// v6 = add x0 h0
// v7 = mul s1 p0
// v8 = add v6 v7
// v9 = sigmoid v8
// v10 = add x2 h2
// v11 = tanh v10
// v12 = mul v9 v11
// v13 = add v5 v12
// v14 = mul p2 v13
// v15 = add v0 v14
// v16 = sigmoid v15
// v17 = tanh v13
// v18 = mul v16 v17
// return v18 v13
template <class T>
struct PeepholeLSTM : Plain {
  using V = Vec<T>;
  static constexpr int slots = 4;
  static constexpr int input_slots = 4;
  static constexpr int hidden_slots = 4;
  static constexpr int states = 2;
  static constexpr int parameters = 3;
  static constexpr int kept = 5;
  static constexpr int kept_cell = 0;
  static constexpr bool reads_after = false;
  static constexpr bool projects = false;
  static constexpr int input_gates[] = {0, 1, 2, 3};
  static constexpr int hidden_gates[] = {0, 1, 2, 3};

  static void forward(const V *z, V *state, const V *p, V *keep) {
    const V s1 = state[1];
    const V v2 = s1 * p[1];
    const V v3 = z[1] + v2;
    const V v4 = sigmoid<T>(v3);
    const V v5 = s1 * v4;
    const V v7 = s1 * p[0];
    const V v8 = z[0] + v7;
    const V v9 = sigmoid<T>(v8);
    const V v11 = tanh<T>(z[2]);
    const V v12 = v9 * v11;
    const V v13 = v5 + v12;
    const V v14 = p[2] * v13;
    const V v15 = z[3] + v14;
    const V v16 = sigmoid<T>(v15);
    const V v17 = tanh<T>(v13);
    const V v18 = v16 * v17;
    state[0] = v18;
    state[1] = v13;
    keep[0] = v13;
    keep[1] = v11;
    keep[2] = v16;
    keep[3] = v9;
    keep[4] = v4;
  }

  static void backward(const V *keep, const V *before, const V *after, const V *p, V *grad, V *dz,
                       V *dp) {
    const V g0 = grad[0];
    const V v20 = keep[2] * g0;
    const V v17 = tanh<T>(keep[0]);
    const V v21 = v17 * v17;
    const V v22 = T(1.0) - v21;
    const V v23 = v20 * v22;
    const V g1 = grad[1];
    const V v24 = v23 + g1;
    const V v19 = v17 * g0;
    const V v25 = T(1.0) - keep[2];
    const V v26 = keep[2] * v25;
    const V v27 = v19 * v26;
    const V v29 = p[2] * v27;
    const V v30 = v24 + v29;
    const V v31 = keep[1] * v30;
    const V v36 = T(1.0) - keep[3];
    const V v37 = keep[3] * v36;
    const V v38 = v31 * v37;
    const V v42 = before[1] * v30;
    const V v44 = T(1.0) - keep[4];
    const V v45 = keep[4] * v44;
    const V v46 = v42 * v45;
    const V v32 = keep[3] * v30;
    const V v33 = keep[1] * keep[1];
    const V v34 = T(1.0) - v33;
    const V v35 = v32 * v34;
    const V v40 = before[1] * v38;
    const V v48 = before[1] * v46;
    const V v28 = keep[0] * v27;
    const V v39 = p[0] * v38;
    const V v41 = keep[4] * v30;
    const V v43 = v39 + v41;
    const V v47 = p[1] * v46;
    const V v49 = v43 + v47;
    dz[0] = v38;
    dz[1] = v46;
    dz[2] = v35;
    dz[3] = v27;
    dp[0] = v40;
    dp[1] = v48;
    dp[2] = v28;
    grad[0] = V{};
    grad[1] = v49;
  }
};

// gates 3 hidden 1 states 2 parameters 0
// v0 = add x2 h2
// v1 = sigmoid v0
// v2 = add x0 h0
// v3 = sigmoid v2
// v4 = mul s1 v3
// v5 = add x1 h1
// v6 = tanh v5
// v7 = sub 1.0 v3
// v8 = mul v6 v7
// v9 = add v4 v8
// v10 = tanh v9
// v11 = mul v1 v10
// return v11 v9
template <class T>
struct CoupledLSTM : Plain {
  using V = Vec<T>;
  static constexpr int slots = 3;
  static constexpr int input_slots = 3;
  static constexpr int hidden_slots = 3;
  static constexpr int states = 2;
  static constexpr int parameters = 0;
  static constexpr int kept = 4;
  static constexpr int kept_cell = 0;
  static constexpr bool reads_after = false;
  static constexpr bool projects = false;
  static constexpr int input_gates[] = {0, 1, 2};
  static constexpr int hidden_gates[] = {0, 1, 2};

  static void forward(const V *z, V *state, const V *p, V *keep) {
    const V v1 = sigmoid<T>(z[2]);
    const V s1 = state[1];
    const V v3 = sigmoid<T>(z[0]);
    const V v4 = s1 * v3;
    const V v6 = tanh<T>(z[1]);
    const V v7 = T(1.0) - v3;
    const V v8 = v6 * v7;
    const V v9 = v4 + v8;
    const V v10 = tanh<T>(v9);
    const V v11 = v1 * v10;
    state[0] = v11;
    state[1] = v9;
    keep[0] = v9;
    keep[1] = v1;
    keep[2] = v6;
    keep[3] = v3;
  }

  static void backward(const V *keep, const V *before, const V *after, const V *p, V *grad, V *dz,
                       V *dp) {
    const V g0 = grad[0];
    const V v13 = keep[1] * g0;
    const V v10 = tanh<T>(keep[0]);
    const V v14 = v10 * v10;
    const V v15 = T(1.0) - v14;
    const V v16 = v13 * v15;
    const V g1 = grad[1];
    const V v17 = v16 + g1;
    const V v25 = before[1] * v17;
    const V v19 = keep[2] * v17;
    const V v26 = v25 - v19;
    const V v7 = T(1.0) - keep[3];
    const V v27 = keep[3] * v7;
    const V v28 = v26 * v27;
    const V v18 = v7 * v17;
    const V v21 = keep[2] * keep[2];
    const V v22 = T(1.0) - v21;
    const V v23 = v18 * v22;
    const V v12 = v10 * g0;
    const V v29 = T(1.0) - keep[1];
    const V v30 = keep[1] * v29;
    const V v31 = v12 * v30;
    const V v24 = keep[3] * v17;
    dz[0] = v28;
    dz[1] = v23;
    dz[2] = v31;
    grad[0] = V{};
    grad[1] = v24;
  }
};

// gates 2 hidden 1 states 2 parameters 0
// v0 = add x1 h1
// v1 = tanh v0
// v2 = add x0 h0
// v3 = sigmoid v2
// v4 = mul s1 v3
// v5 = add v1 v4
// v6 = tanh v5
// return v6 v5
template <class T>
struct LightLSTM : Plain {
  using V = Vec<T>;
  static constexpr int slots = 2;
  static constexpr int input_slots = 2;
  static constexpr int hidden_slots = 2;
  static constexpr int states = 2;
  static constexpr int parameters = 0;
  static constexpr int kept = 3;
  static constexpr int kept_cell = 0;
  static constexpr bool reads_after = true;
  static constexpr bool projects = false;
  static constexpr int input_gates[] = {0, 1};
  static constexpr int hidden_gates[] = {0, 1};

  static void forward(const V *z, V *state, const V *p, V *keep) {
    const V v1 = tanh<T>(z[1]);
    const V s1 = state[1];
    const V v3 = sigmoid<T>(z[0]);
    const V v4 = s1 * v3;
    const V v5 = v1 + v4;
    const V v6 = tanh<T>(v5);
    state[0] = v6;
    state[1] = v5;
    keep[0] = v5;
    keep[1] = v3;
    keep[2] = v1;
  }

  static void backward(const V *keep, const V *before, const V *after, const V *p, V *grad, V *dz,
                       V *dp) {
    const V v7 = after[0] * after[0];
    const V v8 = T(1.0) - v7;
    const V g0 = grad[0];
    const V v9 = v8 * g0;
    const V g1 = grad[1];
    const V v10 = v9 + g1;
    const V v12 = before[1] * v10;
    const V v13 = T(1.0) - keep[1];
    const V v14 = keep[1] * v13;
    const V v15 = v12 * v14;
    const V v16 = keep[2] * keep[2];
    const V v17 = T(1.0) - v16;
    const V v18 = v10 * v17;
    const V v11 = keep[1] * v10;
    dz[0] = v15;
    dz[1] = v18;
    grad[0] = V{};
    grad[1] = v11;
  }
};

// gates 2 hidden 1 states 1 parameters 0
// v0 = add x0 h0
// v1 = sigmoid v0
// v2 = sub 1.0 v1
// v3 = mul s0 v2
// v4 = mul h1 v1
// v5 = add x1 v4
// v6 = tanh v5
// v7 = mul v1 v6
// v8 = add v3 v7
// return v8
template <class T>
struct MGU : Plain {
  using V = Vec<T>;
  static constexpr int slots = 3;
  static constexpr int input_slots = 2;
  static constexpr int hidden_slots = 2;
  static constexpr int states = 1;
  static constexpr int parameters = 0;
  static constexpr int kept = 3;
  static constexpr int kept_cell = 0;
  static constexpr bool reads_after = false;
  static constexpr bool projects = false;
  static constexpr int input_gates[] = {1, 0};
  static constexpr int hidden_gates[] = {0, 1};

  static void forward(const V *z, V *state, const V *p, V *keep) {
    const V s0 = state[0];
    const V v1 = sigmoid<T>(z[1]);
    const V v2 = T(1.0) - v1;
    const V v3 = s0 * v2;
    const V v4 = z[2] * v1;
    const V v5 = z[0] + v4;
    const V v6 = tanh<T>(v5);
    const V v7 = v1 * v6;
    const V v8 = v3 + v7;
    state[0] = v8;
    keep[0] = v6;
    keep[1] = z[2];
    keep[2] = v1;
  }

  static void backward(const V *keep, const V *before, const V *after, const V *p, V *grad, V *dz,
                       V *dp) {
    const V g0 = grad[0];
    const V v10 = keep[2] * g0;
    const V v11 = keep[0] * keep[0];
    const V v12 = T(1.0) - v11;
    const V v13 = v10 * v12;
    const V v9 = keep[0] * g0;
    const V v15 = keep[1] * v13;
    const V v16 = v9 + v15;
    const V v18 = before[0] * g0;
    const V v20 = v16 - v18;
    const V v2 = T(1.0) - keep[2];
    const V v21 = keep[2] * v2;
    const V v22 = v20 * v21;
    const V v14 = keep[2] * v13;
    const V v17 = v2 * g0;
    dz[0] = v13;
    dz[1] = v22;
    dz[2] = v14;
    grad[0] = v17;
  }
};

// gates 1 hidden 0 states 1 parameters 1
// v0 = mul s0 p0
// v1 = add x0 v0
// v2 = relu v1
// return v2
template <class T>
struct IndRNNReLU : Plain {
  using V = Vec<T>;
  static constexpr int slots = 1;
  static constexpr int input_slots = 1;
  static constexpr int hidden_slots = 0;
  static constexpr int states = 1;
  static constexpr int parameters = 1;
  static constexpr int kept = 0;
  static constexpr int kept_cell = 0;
  static constexpr bool reads_after = true;
  static constexpr bool projects = false;
  static constexpr int input_gates[] = {0};
  static constexpr int hidden_gates[] = {0};

  static void forward(const V *z, V *state, const V *p, V *keep) {
    const V s0 = state[0];
    const V v0 = s0 * p[0];
    const V v1 = z[0] + v0;
    const V v2 = v1 < V{} ? V{} : v1;
    state[0] = v2;
  }

  static void backward(const V *keep, const V *before, const V *after, const V *p, V *grad, V *dz,
                       V *dp) {
    const V g0 = grad[0];
    const V v3 = after[0] > V{} ? g0 : V{};
    const V v5 = before[0] * v3;
    const V v4 = p[0] * v3;
    dz[0] = v3;
    dp[0] = v5;
    grad[0] = v4;
  }
};

// gates 1 hidden 0 states 1 parameters 1
// v0 = mul s0 p0
// v1 = add x0 v0
// v2 = tanh v1
// return v2
template <class T>
struct IndRNNTanh : Plain {
  using V = Vec<T>;
  static constexpr int slots = 1;
  static constexpr int input_slots = 1;
  static constexpr int hidden_slots = 0;
  static constexpr int states = 1;
  static constexpr int parameters = 1;
  static constexpr int kept = 0;
  static constexpr int kept_cell = 0;
  static constexpr bool reads_after = true;
  static constexpr bool projects = false;
  static constexpr int input_gates[] = {0};
  static constexpr int hidden_gates[] = {0};

  static void forward(const V *z, V *state, const V *p, V *keep) {
    const V s0 = state[0];
    const V v0 = s0 * p[0];
    const V v1 = z[0] + v0;
    const V v2 = tanh<T>(v1);
    state[0] = v2;
  }

  static void backward(const V *keep, const V *before, const V *after, const V *p, V *grad, V *dz,
                       V *dp) {
    const V v3 = after[0] * after[0];
    const V v4 = T(1.0) - v3;
    const V g0 = grad[0];
    const V v5 = v4 * g0;
    const V v7 = before[0] * v5;
    const V v6 = p[0] * v5;
    dz[0] = v5;
    dp[0] = v7;
    grad[0] = v6;
  }
};

// gates 2 hidden 0 states 1 parameters 0
// v0 = sigmoid x0
// v1 = sub 1.0 v0
// v2 = mul x1 v1
// v3 = mul s0 v0
// v4 = add v2 v3
// return v4
template <class T>
struct MinGRU : Plain {
  using V = Vec<T>;
  static constexpr int slots = 2;
  static constexpr int input_slots = 2;
  static constexpr int hidden_slots = 0;
  static constexpr int states = 1;
  static constexpr int parameters = 0;
  static constexpr int kept = 2;
  static constexpr int kept_cell = 0;
  static constexpr bool reads_after = false;
  static constexpr bool projects = false;
  static constexpr int input_gates[] = {0, 1};
  static constexpr int hidden_gates[] = {0};

  static void forward(const V *z, V *state, const V *p, V *keep) {
    const V v0 = sigmoid<T>(z[0]);
    const V v1 = T(1.0) - v0;
    const V v2 = z[1] * v1;
    const V s0 = state[0];
    const V v3 = s0 * v0;
    const V v4 = v2 + v3;
    state[0] = v4;
    keep[0] = z[1];
    keep[1] = v0;
  }

  static void backward(const V *keep, const V *before, const V *after, const V *p, V *grad, V *dz,
                       V *dp) {
    const V g0 = grad[0];
    const V v6 = before[0] * g0;
    const V v8 = keep[0] * g0;
    const V v10 = v6 - v8;
    const V v1 = T(1.0) - keep[1];
    const V v11 = keep[1] * v1;
    const V v12 = v10 * v11;
    const V v7 = v1 * g0;
    const V v5 = keep[1] * g0;
    dz[0] = v12;
    dz[1] = v7;
    grad[0] = v5;
  }
};

// gates 3 hidden 0 states 1 parameters 0
// v0 = neg x0
// v1 = softplus v0
// v2 = neg x1
// v3 = softplus v2
// v4 = sub v1 v3
// v5 = neg v4
// v6 = sigmoid v5
// v7 = mul x2 v6
// v8 = sigmoid v4
// v9 = mul s0 v8
// v10 = add v7 v9
// return v10
template <class T>
struct MinLSTM : Plain {
  using V = Vec<T>;
  static constexpr int slots = 3;
  static constexpr int input_slots = 3;
  static constexpr int hidden_slots = 0;
  static constexpr int states = 1;
  static constexpr int parameters = 0;
  static constexpr int kept = 5;
  static constexpr int kept_cell = 0;
  static constexpr bool reads_after = false;
  static constexpr bool projects = false;
  static constexpr int input_gates[] = {0, 1, 2};
  static constexpr int hidden_gates[] = {0};

  static void forward(const V *z, V *state, const V *p, V *keep) {
    const V v0 = -z[0];
    const V v1 = softplus<T>(v0);
    const V v2 = -z[1];
    const V v3 = softplus<T>(v2);
    const V v4 = v1 - v3;
    const V v5 = -v4;
    const V v6 = sigmoid<T>(v5);
    const V v7 = z[2] * v6;
    const V s0 = state[0];
    const V v8 = sigmoid<T>(v4);
    const V v9 = s0 * v8;
    const V v10 = v7 + v9;
    state[0] = v10;
    keep[0] = v8;
    keep[1] = z[2];
    keep[2] = v6;
    keep[3] = z[0];
    keep[4] = z[1];
  }

  static void backward(const V *keep, const V *before, const V *after, const V *p, V *grad, V *dz,
                       V *dp) {
    const V g0 = grad[0];
    const V v12 = before[0] * g0;
    const V v13 = T(1.0) - keep[0];
    const V v14 = keep[0] * v13;
    const V v15 = v12 * v14;
    const V v17 = keep[1] * g0;
    const V v18 = T(1.0) - keep[2];
    const V v19 = keep[2] * v18;
    const V v20 = v17 * v19;
    const V v22 = v15 - v20;
    const V v0 = -keep[3];
    const V v27 = sigmoid<T>(v0);
    const V v28 = v22 * v27;
    const V v29 = -v28;
    const V v23 = -v22;
    const V v2 = -keep[4];
    const V v24 = sigmoid<T>(v2);
    const V v25 = v23 * v24;
    const V v26 = -v25;
    const V v16 = keep[2] * g0;
    const V v11 = keep[0] * g0;
    dz[0] = v29;
    dz[1] = v26;
    dz[2] = v16;
    grad[0] = v11;
  }
};

}  // namespace SEQCELLS_VARIANT
