// Written by cells/write_kernels.py from the cells' equations: `make kernels`.
#pragma once
#include "functor.hpp"

#define SEQCELLS_CELLS(_) \
  _(RnnTanh) \
  _(RnnRelu) \
  _(Gru) \
  _(GruResetBefore) \
  _(Lstm) \
  _(LayerNormLstm) \
  _(LayerNormGru) \
  _(PeepholeLstm) \
  _(CoupledLstm) \
  _(LightLstm) \
  _(Mgu) \
  _(MguResetBefore) \
  _(IndrnnRelu) \
  _(IndrnnTanh) \
  _(MinGru) \
  _(MinLstm) \
  _(Slstm) \
  _(MultiplicativeLstm) \
  _(Rhn) \
  _(Lem) \
  _(Ugrnn)

namespace SEQCELLS_VARIANT {

// gates 1 hidden 1 states 1 parameters 0
// v0 = add x0 h0
// v1 = tanh v0
// return v1
template <class T>
struct RnnTanh : Plain {
  using V = Vec<T>;
  static constexpr int slots = 1;
  static constexpr int input_slots = 1;
  static constexpr int hidden_slots = 1;
  static constexpr int states = 1;
  static constexpr int parameters = 0;
  static constexpr int saved = 0;
  static constexpr int rows = 0;
  static constexpr bool reads_new_hidden = true;
  static constexpr int input_gates[] = {0};
  static constexpr int hidden_gates[] = {0};
  static constexpr Slots products[] = {{0, 1}};

  template <class Phase>
  static void forward(Phase phase, const V *z, V *state, const V *p, V drop, V *saved, V *row,
                      V *temp, const V *mean, V *sum, V *operand) {
    const V v1 = tanh<T>(z[0]);
    state[0] = v1;
  }

  template <class Phase>
  static void backward(Phase phase, const V *saved, const V *row, const V *before, const V *after,
                       const V *p, V drop, V *grad, V *dz, V *dp, V *temp, const V *mean, V *sum,
                       V *operand, const V *e) {
    const V v2 = after[0] * after[0];
    const V v3 = T(1.0) - v2;
    const V v4 = v3 * grad[0];
    dz[0] = v4;
    grad[0] = V{};
  }
};

// gates 1 hidden 1 states 1 parameters 0
// v0 = add x0 h0
// v1 = relu v0
// return v1
template <class T>
struct RnnRelu : Plain {
  using V = Vec<T>;
  static constexpr int slots = 1;
  static constexpr int input_slots = 1;
  static constexpr int hidden_slots = 1;
  static constexpr int states = 1;
  static constexpr int parameters = 0;
  static constexpr int saved = 0;
  static constexpr int rows = 0;
  static constexpr bool reads_new_hidden = true;
  static constexpr int input_gates[] = {0};
  static constexpr int hidden_gates[] = {0};
  static constexpr Slots products[] = {{0, 1}};

  template <class Phase>
  static void forward(Phase phase, const V *z, V *state, const V *p, V drop, V *saved, V *row,
                      V *temp, const V *mean, V *sum, V *operand) {
    const V v1 = select(z[0] < V{}, V{}, z[0]);
    state[0] = v1;
  }

  template <class Phase>
  static void backward(Phase phase, const V *saved, const V *row, const V *before, const V *after,
                       const V *p, V drop, V *grad, V *dz, V *dp, V *temp, const V *mean, V *sum,
                       V *operand, const V *e) {
    const V v2 = select(after[0] > V{}, grad[0], V{});
    dz[0] = v2;
    grad[0] = V{};
  }
};

// gates 3 hidden 1 states 1 parameters 0
// v0 = add x1 h1
// v1 = sigmoid v0
// v2 = sub 1.0 v1
// v3 = add x0 h0
// v4 = sigmoid v3
// v5 = mul h2 v4
// v6 = add x2 v5
// v7 = tanh v6
// v8 = mul d0 v7
// v9 = mul v2 v8
// v10 = mul s0 v1
// v11 = add v9 v10
// return v11
template <class T>
struct Gru : Plain {
  using V = Vec<T>;
  static constexpr int slots = 4;
  static constexpr int input_slots = 3;
  static constexpr int hidden_slots = 3;
  static constexpr int states = 1;
  static constexpr int parameters = 0;
  static constexpr int saved = 4;
  static constexpr int rows = 0;
  static constexpr bool reads_new_hidden = false;
  static constexpr bool takes_drop = true;
  static constexpr int input_gates[] = {2, 0, 1};
  static constexpr int hidden_gates[] = {0, 1, 2};
  static constexpr Slots products[] = {{1, 3}};

  template <class Phase>
  static void forward(Phase phase, const V *z, V *state, const V *p, V drop, V *saved, V *row,
                      V *temp, const V *mean, V *sum, V *operand) {
    const V v1 = sigmoid<T>(z[2]);
    const V v2 = T(1.0) - v1;
    const V v4 = sigmoid<T>(z[1]);
    const V v5 = z[3] * v4;
    const V v6 = z[0] + v5;
    const V v7 = tanh<T>(v6);
    const V v8 = drop * v7;
    const V v9 = v2 * v8;
    const V v10 = state[0] * v1;
    const V v11 = v9 + v10;
    state[0] = v11;
    saved[0] = z[3];
    saved[1] = v1;
    saved[2] = v7;
    saved[3] = v4;
  }

  template <class Phase>
  static void backward(Phase phase, const V *saved, const V *row, const V *before, const V *after,
                       const V *p, V drop, V *grad, V *dz, V *dp, V *temp, const V *mean, V *sum,
                       V *operand, const V *e) {
    const V v2 = T(1.0) - saved[1];
    const V v15 = v2 * grad[0];
    const V v17 = drop * v15;
    const V v18 = saved[2] * saved[2];
    const V v19 = T(1.0) - v18;
    const V v20 = v17 * v19;
    const V v22 = saved[0] * v20;
    const V v23 = T(1.0) - saved[3];
    const V v24 = saved[3] * v23;
    const V v25 = v22 * v24;
    const V v13 = before[0] * grad[0];
    const V v8 = drop * saved[2];
    const V v14 = v8 * grad[0];
    const V v27 = v13 - v14;
    const V v28 = saved[1] * v2;
    const V v29 = v27 * v28;
    const V v21 = saved[3] * v20;
    const V v12 = saved[1] * grad[0];
    dz[0] = v20;
    dz[1] = v25;
    dz[2] = v29;
    dz[3] = v21;
    grad[0] = v12;
  }
};

// gates 3 hidden 1 states 1 parameters 0
// v0 = add x1 h1
// v1 = sigmoid v0
// v2 = sub 1.0 v1
// v3 = add x0 h0
// v4 = sigmoid v3
// v5 = mul s0 v4
// v6 = product h2 v5
// v7 = add x2 v6
// v8 = tanh v7
// v9 = mul d0 v8
// v10 = mul v2 v9
// v11 = mul s0 v1
// v12 = add v10 v11
// return v12
template <class T>
struct GruResetBefore : Plain {
  using V = Vec<T>;
  static constexpr int slots = 3;
  static constexpr int input_slots = 3;
  static constexpr int hidden_slots = 3;
  static constexpr int states = 1;
  static constexpr int parameters = 0;
  static constexpr int saved = 3;
  static constexpr int rows = 0;
  static constexpr int stages = 1;
  static constexpr int forward_phases = 2;
  static constexpr int forward_temps = 2;
  static constexpr int forward_means = 0;
  static constexpr int backward_phases = 2;
  static constexpr int backward_temps = 0;
  static constexpr int backward_means = 0;
  static constexpr bool reads_new_hidden = false;
  static constexpr bool takes_drop = true;
  static constexpr int input_gates[] = {0, 1, 2};
  static constexpr int hidden_gates[] = {0, 1, 2};
  static constexpr int forward_part[] = {0, 1};
  static constexpr int backward_part[] = {0, 1};
  static constexpr int forward_operand_phase[] = {0};
  static constexpr int backward_operand_phase[] = {0};
  static constexpr int forward_temp_phase[] = {0, 0};
  static constexpr int forward_mean_phase[] = {0};
  static constexpr int backward_temp_phase[] = {0};
  static constexpr int backward_mean_phase[] = {0};
  static constexpr int saved_phase[] = {0, 1, 0};
  static constexpr int row_phase[] = {0};
  static constexpr int dz_phase[] = {1, 0, 0};
  static constexpr int dp_phase[] = {0};
  static constexpr Slots products[] = {{0, 2}, {2, 1}};

  template <class Phase>
  static void forward(Phase phase, const V *z, V *state, const V *p, V drop, V *saved, V *row,
                      V *temp, const V *mean, V *sum, V *operand) {
    if constexpr (phase == 0) {
      const V v4 = sigmoid<T>(z[0]);
      const V v5 = state[0] * v4;
      const V v1 = sigmoid<T>(z[1]);
      const V v2 = T(1.0) - v1;
      const V v11 = state[0] * v1;
      operand[0] = v5;
      saved[0] = v4;
      saved[2] = v1;
      temp[0] = v2;
      temp[1] = v11;
    }
    if constexpr (phase == 1) {
      const V v8 = tanh<T>(z[2]);
      const V v9 = drop * v8;
      const V v10 = temp[0] * v9;
      const V v12 = v10 + temp[1];
      state[0] = v12;
      saved[1] = v8;
    }
  }

  template <class Phase>
  static void backward(Phase phase, const V *saved, const V *row, const V *before, const V *after,
                       const V *p, V drop, V *grad, V *dz, V *dp, V *temp, const V *mean, V *sum,
                       V *operand, const V *e) {
    if constexpr (phase == 0) {
      const V v14 = before[0] * grad[0];
      const V v9 = drop * saved[1];
      const V v15 = v9 * grad[0];
      const V v29 = v14 - v15;
      const V v2 = T(1.0) - saved[2];
      const V v30 = saved[2] * v2;
      const V v31 = v29 * v30;
      const V v16 = v2 * grad[0];
      const V v18 = drop * v16;
      const V v19 = saved[1] * saved[1];
      const V v20 = T(1.0) - v19;
      const V v21 = v18 * v20;
      const V v5 = before[0] * saved[0];
      dz[1] = v31;
      dz[2] = v21;
      operand[0] = v5;
    }
    if constexpr (phase == 1) {
      const V v23 = before[0] * e[0];
      const V v25 = T(1.0) - saved[0];
      const V v26 = saved[0] * v25;
      const V v27 = v23 * v26;
      const V v13 = saved[2] * grad[0];
      const V v22 = saved[0] * e[0];
      const V v24 = v13 + v22;
      dz[0] = v27;
      grad[0] = v24;
    }
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
// v9 = mul d0 v8
// v10 = mul v6 v9
// v11 = add v4 v10
// v12 = tanh v11
// v13 = mul v1 v12
// return v13 v11
template <class T>
struct Lstm : Plain {
  using V = Vec<T>;
  static constexpr int slots = 4;
  static constexpr int input_slots = 4;
  static constexpr int hidden_slots = 4;
  static constexpr int states = 2;
  static constexpr int parameters = 0;
  static constexpr int saved = 5;
  static constexpr int rows = 0;
  static constexpr bool reads_new_hidden = false;
  static constexpr bool projects = true;
  static constexpr bool takes_drop = true;
  static constexpr int input_gates[] = {0, 1, 2, 3};
  static constexpr int hidden_gates[] = {0, 1, 2, 3};
  static constexpr int saved_states[] = {0};
  static constexpr Slots products[] = {{0, 4}};

  template <class Phase>
  static void forward(Phase phase, const V *z, V *state, const V *p, V drop, V *saved, V *row,
                      V *temp, const V *mean, V *sum, V *operand) {
    const V v1 = sigmoid<T>(z[3]);
    const V v3 = sigmoid<T>(z[1]);
    const V v4 = state[1] * v3;
    const V v6 = sigmoid<T>(z[0]);
    const V v8 = tanh<T>(z[2]);
    const V v9 = drop * v8;
    const V v10 = v6 * v9;
    const V v11 = v4 + v10;
    const V v12 = tanh<T>(v11);
    const V v13 = v1 * v12;
    state[0] = v13;
    state[1] = v11;
    saved[0] = v11;
    saved[1] = v8;
    saved[2] = v1;
    saved[3] = v6;
    saved[4] = v3;
  }

  template <class Phase>
  static void backward(Phase phase, const V *saved, const V *row, const V *before, const V *after,
                       const V *p, V drop, V *grad, V *dz, V *dp, V *temp, const V *mean, V *sum,
                       V *operand, const V *e) {
    const V v9 = drop * saved[1];
    const V v15 = saved[2] * grad[0];
    const V v12 = tanh<T>(saved[0]);
    const V v16 = v12 * v12;
    const V v17 = T(1.0) - v16;
    const V v18 = v15 * v17;
    const V v19 = v18 + grad[1];
    const V v20 = v9 * v19;
    const V v27 = T(1.0) - saved[3];
    const V v28 = saved[3] * v27;
    const V v29 = v20 * v28;
    const V v31 = before[1] * v19;
    const V v32 = T(1.0) - saved[4];
    const V v33 = saved[4] * v32;
    const V v34 = v31 * v33;
    const V v21 = saved[3] * v19;
    const V v23 = drop * v21;
    const V v24 = saved[1] * saved[1];
    const V v25 = T(1.0) - v24;
    const V v26 = v23 * v25;
    const V v14 = v12 * grad[0];
    const V v35 = T(1.0) - saved[2];
    const V v36 = saved[2] * v35;
    const V v37 = v14 * v36;
    const V v30 = saved[4] * v19;
    dz[0] = v29;
    dz[1] = v34;
    dz[2] = v26;
    dz[3] = v37;
    grad[0] = V{};
    grad[1] = v30;
  }

  static V unprojected(const V *saved) {
    const V v12 = tanh<T>(saved[0]);
    const V v13 = saved[2] * v12;
    return v13;
  }
};

// gates 4 hidden 1 states 2 parameters 18
// v0 = add x0 x1
// v1 = add x2 v0
// v2 = add x3 v1
// v3 = mul 0.25 v2
// v4 = mean v3
// v5 = sub x3 v4
// v6 = mul v5 v5
// v7 = sub x2 v4
// v8 = mul v7 v7
// v9 = sub x0 v4
// v10 = mul v9 v9
// v11 = sub x1 v4
// v12 = mul v11 v11
// v13 = add v10 v12
// v14 = add v8 v13
// v15 = add v6 v14
// v16 = mul 0.25 v15
// v17 = mean v16
// v18 = add 1e-05 v17
// v19 = rsqrt v18
// v20 = mul v5 v19
// v21 = mul p11 v20
// v22 = add p3 v21
// v23 = add h0 h1
// v24 = add h2 v23
// v25 = add h3 v24
// v26 = mul 0.25 v25
// v27 = mean v26
// v28 = sub h3 v27
// v29 = mul v28 v28
// v30 = sub h2 v27
// v31 = mul v30 v30
// v32 = sub h0 v27
// v33 = mul v32 v32
// v34 = sub h1 v27
// v35 = mul v34 v34
// v36 = add v33 v35
// v37 = add v31 v36
// v38 = add v29 v37
// v39 = mul 0.25 v38
// v40 = mean v39
// v41 = add 1e-05 v40
// v42 = rsqrt v41
// v43 = mul v28 v42
// v44 = mul p15 v43
// v45 = add p7 v44
// v46 = add v22 v45
// v47 = sigmoid v46
// v48 = mul v11 v19
// v49 = mul p9 v48
// v50 = add p1 v49
// v51 = mul v34 v42
// v52 = mul p13 v51
// v53 = add p5 v52
// v54 = add v50 v53
// v55 = sigmoid v54
// v56 = mul s1 v55
// v57 = mul v9 v19
// v58 = mul p8 v57
// v59 = add p0 v58
// v60 = mul v32 v42
// v61 = mul p12 v60
// v62 = add p4 v61
// v63 = add v59 v62
// v64 = sigmoid v63
// v65 = mul v7 v19
// v66 = mul p10 v65
// v67 = add p2 v66
// v68 = mul v30 v42
// v69 = mul p14 v68
// v70 = add p6 v69
// v71 = add v67 v70
// v72 = tanh v71
// v73 = mul d0 v72
// v74 = mul v64 v73
// v75 = add v56 v74
// v76 = mean v75
// v77 = sub v75 v76
// v78 = mul v77 v77
// v79 = mean v78
// v80 = add 1e-05 v79
// v81 = rsqrt v80
// v82 = mul v77 v81
// v83 = mul p16 v82
// v84 = add p17 v83
// v85 = tanh v84
// v86 = mul v47 v85
// return v86 v75
template <class T>
struct LayerNormLstm : Plain {
  using V = Vec<T>;
  static constexpr int slots = 8;
  static constexpr int input_slots = 4;
  static constexpr int hidden_slots = 4;
  static constexpr int states = 2;
  static constexpr int parameters = 18;
  static constexpr int saved = 14;
  static constexpr int rows = 4;
  static constexpr int forward_phases = 5;
  static constexpr int forward_temps = 11;
  static constexpr int forward_means = 6;
  static constexpr int backward_phases = 5;
  static constexpr int backward_temps = 23;
  static constexpr int backward_means = 6;
  static constexpr bool reads_new_hidden = false;
  static constexpr bool takes_drop = true;
  static constexpr int input_gates[] = {0, 1, 2, 3};
  static constexpr int hidden_gates[] = {0, 1, 2, 3};
  static constexpr int saved_states[] = {0};
  static constexpr int forward_temp_phase[] = {2, 3, 2, 1, 1, 1, 1, 1, 1, 1, 1};
  static constexpr int forward_mean_phase[] = {3, 2, 1, 1, 0, 0};
  static constexpr int backward_temp_phase[] = {3, 3, 3, 3, 3, 3, 3, 3, 2, 2, 2, 2, 0, 2, 2, 2, 0, 1, 0, 0, 0, 0, 0};
  static constexpr int backward_mean_phase[] = {3, 3, 2, 2, 1, 0};
  static constexpr int saved_phase[] = {2, 1, 1, 2, 2, 4, 2, 1, 2, 1, 1, 1, 1, 1};
  static constexpr int row_phase[] = {3, 4, 2, 2};
  static constexpr int dz_phase[] = {4, 4, 4, 4, 4, 4, 4, 4};
  static constexpr int dp_phase[] = {2, 2, 2, 0, 2, 2, 2, 0, 2, 2, 2, 0, 2, 2, 2, 0, 0, 0};
  static constexpr Slots products[] = {{4, 4}};

  template <class Phase>
  static void forward(Phase phase, const V *z, V *state, const V *p, V drop, V *saved, V *row,
                      V *temp, const V *mean, V *sum, V *operand) {
    if constexpr (phase == 0) {
      const V v0 = z[0] + z[1];
      const V v1 = z[2] + v0;
      const V v2 = z[3] + v1;
      const V v3 = T(0.25) * v2;
      const V v23 = z[4] + z[5];
      const V v24 = z[6] + v23;
      const V v25 = z[7] + v24;
      const V v26 = T(0.25) * v25;
      sum[4] = v3;
      sum[5] = v26;
    }
    if constexpr (phase == 1) {
      const V v9 = z[0] - mean[4];
      const V v7 = z[2] - mean[4];
      const V v11 = z[1] - mean[4];
      const V v5 = z[3] - mean[4];
      const V v32 = z[4] - mean[5];
      const V v30 = z[6] - mean[5];
      const V v34 = z[5] - mean[5];
      const V v28 = z[7] - mean[5];
      const V v6 = v5 * v5;
      const V v8 = v7 * v7;
      const V v10 = v9 * v9;
      const V v12 = v11 * v11;
      const V v13 = v10 + v12;
      const V v14 = v8 + v13;
      const V v15 = v6 + v14;
      const V v16 = T(0.25) * v15;
      const V v29 = v28 * v28;
      const V v31 = v30 * v30;
      const V v33 = v32 * v32;
      const V v35 = v34 * v34;
      const V v36 = v33 + v35;
      const V v37 = v31 + v36;
      const V v38 = v29 + v37;
      const V v39 = T(0.25) * v38;
      saved[1] = v9;
      saved[2] = v7;
      saved[7] = v11;
      saved[9] = v5;
      saved[10] = v32;
      saved[11] = v30;
      saved[12] = v34;
      saved[13] = v28;
      temp[3] = v11;
      sum[2] = v16;
      temp[4] = v34;
      sum[3] = v39;
      temp[5] = v9;
      temp[6] = v32;
      temp[7] = v7;
      temp[8] = v30;
      temp[9] = v5;
      temp[10] = v28;
    }
    if constexpr (phase == 2) {
      const V v18 = T(1e-05) + mean[2];
      const V v19 = T(1) / sqrt<T>(v18);
      const V v48 = temp[3] * v19;
      const V v49 = p[9] * v48;
      const V v50 = p[1] + v49;
      const V v41 = T(1e-05) + mean[3];
      const V v42 = T(1) / sqrt<T>(v41);
      const V v51 = temp[4] * v42;
      const V v52 = p[13] * v51;
      const V v53 = p[5] + v52;
      const V v54 = v50 + v53;
      const V v55 = sigmoid<T>(v54);
      const V v56 = state[1] * v55;
      const V v57 = temp[5] * v19;
      const V v58 = p[8] * v57;
      const V v59 = p[0] + v58;
      const V v60 = temp[6] * v42;
      const V v61 = p[12] * v60;
      const V v62 = p[4] + v61;
      const V v63 = v59 + v62;
      const V v64 = sigmoid<T>(v63);
      const V v65 = temp[7] * v19;
      const V v66 = p[10] * v65;
      const V v67 = p[2] + v66;
      const V v68 = temp[8] * v42;
      const V v69 = p[14] * v68;
      const V v70 = p[6] + v69;
      const V v71 = v67 + v70;
      const V v72 = tanh<T>(v71);
      const V v73 = drop * v72;
      const V v74 = v64 * v73;
      const V v75 = v56 + v74;
      const V v20 = temp[9] * v19;
      const V v21 = p[11] * v20;
      const V v22 = p[3] + v21;
      const V v43 = temp[10] * v42;
      const V v44 = p[15] * v43;
      const V v45 = p[7] + v44;
      const V v46 = v22 + v45;
      const V v47 = sigmoid<T>(v46);
      saved[0] = v75;
      saved[3] = v64;
      saved[4] = v47;
      saved[6] = v72;
      saved[8] = v55;
      row[2] = v19;
      row[3] = v42;
      temp[0] = v47;
      temp[2] = v75;
      sum[1] = v75;
    }
    if constexpr (phase == 3) {
      const V v77 = temp[2] - mean[1];
      const V v78 = v77 * v77;
      row[0] = mean[1];
      temp[1] = v77;
      sum[0] = v78;
    }
    if constexpr (phase == 4) {
      const V v80 = T(1e-05) + mean[0];
      const V v81 = T(1) / sqrt<T>(v80);
      const V v82 = temp[1] * v81;
      const V v83 = p[16] * v82;
      const V v84 = p[17] + v83;
      const V v85 = tanh<T>(v84);
      const V v86 = temp[0] * v85;
      state[0] = v86;
      state[1] = temp[2];
      saved[5] = v85;
      row[1] = v81;
    }
  }

  template <class Phase>
  static void backward(Phase phase, const V *saved, const V *row, const V *before, const V *after,
                       const V *p, V drop, V *grad, V *dz, V *dp, V *temp, const V *mean, V *sum,
                       V *operand, const V *e) {
    if constexpr (phase == 0) {
      const V v87 = saved[5] * grad[0];
      const V v151 = T(1.0) - saved[4];
      const V v152 = saved[4] * v151;
      const V v153 = v87 * v152;
      const V v20 = saved[9] * row[2];
      const V v192 = v20 * v153;
      const V v43 = saved[13] * row[3];
      const V v154 = v43 * v153;
      const V v77 = saved[0] - row[0];
      const V v82 = v77 * row[1];
      const V v88 = saved[4] * grad[0];
      const V v89 = saved[5] * saved[5];
      const V v90 = T(1.0) - v89;
      const V v91 = v88 * v90;
      const V v92 = v82 * v91;
      const V v193 = p[11] * v153;
      const V v194 = row[2] * v193;
      const V v155 = p[15] * v153;
      const V v156 = row[3] * v155;
      const V v195 = saved[9] * v193;
      const V v197 = row[2] * row[2];
      const V v198 = row[2] * v197;
      const V v199 = T(-0.5) * v198;
      const V v157 = saved[13] * v155;
      const V v159 = row[3] * row[3];
      const V v160 = row[3] * v159;
      const V v161 = T(-0.5) * v160;
      const V v93 = p[16] * v91;
      const V v95 = v77 * v93;
      const V v96 = row[1] * row[1];
      const V v97 = row[1] * v96;
      const V v98 = T(-0.5) * v97;
      const V v99 = v95 * v98;
      const V v94 = row[1] * v93;
      dp[3] = v153;
      dp[7] = v153;
      dp[11] = v192;
      dp[15] = v154;
      dp[16] = v92;
      dp[17] = v91;
      temp[12] = v194;
      temp[16] = v156;
      temp[18] = v195;
      temp[19] = v199;
      temp[20] = v157;
      temp[21] = v161;
      sum[5] = v99;
      temp[22] = v94;
    }
    if constexpr (phase == 1) {
      const V v77 = saved[0] - row[0];
      const V v101 = v77 * mean[5];
      const V v102 = temp[22] + v101;
      const V v103 = v101 + v102;
      const V v105 = v103 + grad[1];
      const V v104 = -v103;
      temp[17] = v105;
      sum[4] = v104;
    }
    if constexpr (phase == 2) {
      const V v73 = drop * saved[6];
      const V v107 = temp[17] + mean[4];
      const V v108 = v73 * v107;
      const V v123 = T(1.0) - saved[3];
      const V v124 = saved[3] * v123;
      const V v125 = v108 * v124;
      const V v137 = before[1] * v107;
      const V v138 = T(1.0) - saved[8];
      const V v139 = saved[8] * v138;
      const V v140 = v137 * v139;
      const V v109 = saved[3] * v107;
      const V v111 = drop * v109;
      const V v112 = saved[6] * saved[6];
      const V v113 = T(1.0) - v112;
      const V v114 = v111 * v113;
      const V v57 = saved[1] * row[2];
      const V v131 = v57 * v125;
      const V v48 = saved[7] * row[2];
      const V v146 = v48 * v140;
      const V v65 = saved[2] * row[2];
      const V v119 = v65 * v114;
      const V v60 = saved[10] * row[3];
      const V v126 = v60 * v125;
      const V v51 = saved[12] * row[3];
      const V v141 = v51 * v140;
      const V v68 = saved[11] * row[3];
      const V v115 = v68 * v114;
      const V v136 = saved[8] * v107;
      const V v120 = p[10] * v114;
      const V v122 = saved[2] * v120;
      const V v132 = p[8] * v125;
      const V v134 = saved[1] * v132;
      const V v135 = v122 + v134;
      const V v147 = p[9] * v140;
      const V v149 = saved[7] * v147;
      const V v150 = v135 + v149;
      const V v196 = v150 + temp[18];
      const V v200 = v196 * temp[19];
      const V v133 = row[2] * v132;
      const V v148 = row[2] * v147;
      const V v121 = row[2] * v120;
      const V v116 = p[14] * v114;
      const V v118 = saved[11] * v116;
      const V v127 = p[12] * v125;
      const V v129 = saved[10] * v127;
      const V v130 = v118 + v129;
      const V v142 = p[13] * v140;
      const V v144 = saved[12] * v142;
      const V v145 = v130 + v144;
      const V v158 = v145 + temp[20];
      const V v162 = v158 * temp[21];
      const V v128 = row[3] * v127;
      const V v143 = row[3] * v142;
      const V v117 = row[3] * v116;
      dp[0] = v125;
      dp[1] = v140;
      dp[2] = v114;
      dp[4] = v125;
      dp[5] = v140;
      dp[6] = v114;
      dp[8] = v131;
      dp[9] = v146;
      dp[10] = v119;
      dp[12] = v126;
      dp[13] = v141;
      dp[14] = v115;
      temp[8] = v136;
      sum[2] = v200;
      temp[9] = v133;
      temp[10] = v148;
      temp[11] = v121;
      sum[3] = v162;
      temp[13] = v128;
      temp[14] = v143;
      temp[15] = v117;
    }
    if constexpr (phase == 3) {
      const V v203 = T(0.25) * mean[2];
      const V v208 = saved[1] * v203;
      const V v209 = temp[9] + v208;
      const V v210 = v208 + v209;
      const V v204 = saved[7] * v203;
      const V v205 = temp[10] + v204;
      const V v206 = v204 + v205;
      const V v207 = -v206;
      const V v212 = v207 - v210;
      const V v213 = saved[2] * v203;
      const V v214 = temp[11] + v213;
      const V v215 = v213 + v214;
      const V v217 = v212 - v215;
      const V v218 = saved[9] * v203;
      const V v219 = temp[12] + v218;
      const V v220 = v218 + v219;
      const V v222 = v217 - v220;
      const V v165 = T(0.25) * mean[3];
      const V v170 = saved[10] * v165;
      const V v171 = temp[13] + v170;
      const V v172 = v170 + v171;
      const V v166 = saved[12] * v165;
      const V v167 = temp[14] + v166;
      const V v168 = v166 + v167;
      const V v169 = -v168;
      const V v174 = v169 - v172;
      const V v175 = saved[11] * v165;
      const V v176 = temp[15] + v175;
      const V v177 = v175 + v176;
      const V v179 = v174 - v177;
      const V v180 = saved[13] * v165;
      const V v181 = temp[16] + v180;
      const V v182 = v180 + v181;
      const V v184 = v179 - v182;
      temp[0] = v210;
      sum[0] = v222;
      temp[1] = v206;
      temp[2] = v215;
      temp[3] = v220;
      temp[4] = v172;
      sum[1] = v184;
      temp[5] = v168;
      temp[6] = v177;
      temp[7] = v182;
    }
    if constexpr (phase == 4) {
      const V v225 = T(0.25) * mean[0];
      const V v228 = temp[0] + v225;
      const V v229 = temp[1] + v225;
      const V v227 = temp[2] + v225;
      const V v226 = temp[3] + v225;
      const V v187 = T(0.25) * mean[1];
      const V v190 = temp[4] + v187;
      const V v191 = temp[5] + v187;
      const V v189 = temp[6] + v187;
      const V v188 = temp[7] + v187;
      dz[0] = v228;
      dz[1] = v229;
      dz[2] = v227;
      dz[3] = v226;
      dz[4] = v190;
      dz[5] = v191;
      dz[6] = v189;
      dz[7] = v188;
      grad[0] = V{};
      grad[1] = temp[8];
    }
  }
};

// gates 3 hidden 1 states 1 parameters 12
// v0 = add x0 x1
// v1 = mul 0.5 v0
// v2 = mean v1
// v3 = sub x1 v2
// v4 = sub x0 v2
// v5 = mul v4 v4
// v6 = mul v3 v3
// v7 = add v5 v6
// v8 = mul 0.5 v7
// v9 = mean v8
// v10 = add 1e-05 v9
// v11 = rsqrt v10
// v12 = mul v3 v11
// v13 = mul p7 v12
// v14 = add p1 v13
// v15 = add h0 h1
// v16 = mul 0.5 v15
// v17 = mean v16
// v18 = sub h1 v17
// v19 = sub h0 v17
// v20 = mul v19 v19
// v21 = mul v18 v18
// v22 = add v20 v21
// v23 = mul 0.5 v22
// v24 = mean v23
// v25 = add 1e-05 v24
// v26 = rsqrt v25
// v27 = mul v18 v26
// v28 = mul p10 v27
// v29 = add p4 v28
// v30 = add v14 v29
// v31 = sigmoid v30
// v32 = sub 1.0 v31
// v33 = mean x2
// v34 = sub x2 v33
// v35 = mul v34 v34
// v36 = mean v35
// v37 = add 1e-05 v36
// v38 = rsqrt v37
// v39 = mul v34 v38
// v40 = mul p8 v39
// v41 = add p2 v40
// v42 = mean h2
// v43 = sub h2 v42
// v44 = mul v43 v43
// v45 = mean v44
// v46 = add 1e-05 v45
// v47 = rsqrt v46
// v48 = mul v43 v47
// v49 = mul p11 v48
// v50 = add p5 v49
// v51 = mul v4 v11
// v52 = mul p6 v51
// v53 = add p0 v52
// v54 = mul v19 v26
// v55 = mul p9 v54
// v56 = add p3 v55
// v57 = add v53 v56
// v58 = sigmoid v57
// v59 = mul v50 v58
// v60 = add v41 v59
// v61 = tanh v60
// v62 = mul d0 v61
// v63 = mul v32 v62
// v64 = mul s0 v31
// v65 = add v63 v64
// return v65
template <class T>
struct LayerNormGru : Plain {
  using V = Vec<T>;
  static constexpr int slots = 6;
  static constexpr int input_slots = 3;
  static constexpr int hidden_slots = 3;
  static constexpr int states = 1;
  static constexpr int parameters = 12;
  static constexpr int saved = 10;
  static constexpr int rows = 4;
  static constexpr int forward_phases = 3;
  static constexpr int forward_temps = 6;
  static constexpr int forward_means = 8;
  static constexpr int backward_phases = 3;
  static constexpr int backward_temps = 12;
  static constexpr int backward_means = 8;
  static constexpr bool reads_new_hidden = false;
  static constexpr bool takes_drop = true;
  static constexpr int input_gates[] = {0, 1, 2};
  static constexpr int hidden_gates[] = {0, 1, 2};
  static constexpr int forward_temp_phase[] = {1, 1, 1, 1, 1, 1};
  static constexpr int forward_mean_phase[] = {1, 1, 1, 1, 0, 0, 0, 0};
  static constexpr int backward_temp_phase[] = {1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0};
  static constexpr int backward_mean_phase[] = {1, 1, 1, 1, 0, 0, 0, 0};
  static constexpr int saved_phase[] = {1, 2, 2, 2, 2, 1, 1, 1, 1, 1};
  static constexpr int row_phase[] = {2, 2, 2, 2};
  static constexpr int dz_phase[] = {2, 2, 2, 2, 2, 2};
  static constexpr int dp_phase[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  static constexpr Slots products[] = {{3, 3}};

  template <class Phase>
  static void forward(Phase phase, const V *z, V *state, const V *p, V drop, V *saved, V *row,
                      V *temp, const V *mean, V *sum, V *operand) {
    if constexpr (phase == 0) {
      const V v0 = z[0] + z[1];
      const V v1 = T(0.5) * v0;
      const V v15 = z[3] + z[4];
      const V v16 = T(0.5) * v15;
      sum[4] = v1;
      sum[5] = z[2];
      sum[6] = v16;
      sum[7] = z[5];
    }
    if constexpr (phase == 1) {
      const V v4 = z[0] - mean[4];
      const V v3 = z[1] - mean[4];
      const V v34 = z[2] - mean[5];
      const V v19 = z[3] - mean[6];
      const V v18 = z[4] - mean[6];
      const V v43 = z[5] - mean[7];
      const V v5 = v4 * v4;
      const V v6 = v3 * v3;
      const V v7 = v5 + v6;
      const V v8 = T(0.5) * v7;
      const V v20 = v19 * v19;
      const V v21 = v18 * v18;
      const V v22 = v20 + v21;
      const V v23 = T(0.5) * v22;
      const V v35 = v34 * v34;
      const V v44 = v43 * v43;
      saved[0] = v4;
      saved[5] = v3;
      saved[6] = v34;
      saved[7] = v19;
      saved[8] = v18;
      saved[9] = v43;
      temp[0] = v3;
      sum[0] = v8;
      temp[1] = v18;
      sum[1] = v23;
      temp[2] = v34;
      sum[2] = v35;
      temp[3] = v43;
      sum[3] = v44;
      temp[4] = v4;
      temp[5] = v19;
    }
    if constexpr (phase == 2) {
      const V v10 = T(1e-05) + mean[0];
      const V v11 = T(1) / sqrt<T>(v10);
      const V v12 = temp[0] * v11;
      const V v13 = p[7] * v12;
      const V v14 = p[1] + v13;
      const V v25 = T(1e-05) + mean[1];
      const V v26 = T(1) / sqrt<T>(v25);
      const V v27 = temp[1] * v26;
      const V v28 = p[10] * v27;
      const V v29 = p[4] + v28;
      const V v30 = v14 + v29;
      const V v31 = sigmoid<T>(v30);
      const V v32 = T(1.0) - v31;
      const V v37 = T(1e-05) + mean[2];
      const V v38 = T(1) / sqrt<T>(v37);
      const V v39 = temp[2] * v38;
      const V v40 = p[8] * v39;
      const V v41 = p[2] + v40;
      const V v46 = T(1e-05) + mean[3];
      const V v47 = T(1) / sqrt<T>(v46);
      const V v48 = temp[3] * v47;
      const V v49 = p[11] * v48;
      const V v50 = p[5] + v49;
      const V v51 = temp[4] * v11;
      const V v52 = p[6] * v51;
      const V v53 = p[0] + v52;
      const V v54 = temp[5] * v26;
      const V v55 = p[9] * v54;
      const V v56 = p[3] + v55;
      const V v57 = v53 + v56;
      const V v58 = sigmoid<T>(v57);
      const V v59 = v50 * v58;
      const V v60 = v41 + v59;
      const V v61 = tanh<T>(v60);
      const V v62 = drop * v61;
      const V v63 = v32 * v62;
      const V v64 = state[0] * v31;
      const V v65 = v63 + v64;
      state[0] = v65;
      saved[1] = v48;
      saved[2] = v31;
      saved[3] = v61;
      saved[4] = v58;
      row[0] = v11;
      row[1] = v38;
      row[2] = v26;
      row[3] = v47;
    }
  }

  template <class Phase>
  static void backward(Phase phase, const V *saved, const V *row, const V *before, const V *after,
                       const V *p, V drop, V *grad, V *dz, V *dp, V *temp, const V *mean, V *sum,
                       V *operand, const V *e) {
    if constexpr (phase == 0) {
      const V v49 = p[11] * saved[1];
      const V v50 = p[5] + v49;
      const V v32 = T(1.0) - saved[2];
      const V v69 = v32 * grad[0];
      const V v71 = drop * v69;
      const V v72 = saved[3] * saved[3];
      const V v73 = T(1.0) - v72;
      const V v74 = v71 * v73;
      const V v76 = v50 * v74;
      const V v77 = T(1.0) - saved[4];
      const V v78 = saved[4] * v77;
      const V v79 = v76 * v78;
      const V v67 = before[0] * grad[0];
      const V v62 = drop * saved[3];
      const V v68 = v62 * grad[0];
      const V v119 = v67 - v68;
      const V v120 = saved[2] * v32;
      const V v121 = v119 * v120;
      const V v75 = saved[4] * v74;
      const V v51 = saved[0] * row[0];
      const V v84 = v51 * v79;
      const V v12 = saved[5] * row[0];
      const V v148 = v12 * v121;
      const V v39 = saved[6] * row[1];
      const V v103 = v39 * v74;
      const V v54 = saved[7] * row[2];
      const V v80 = v54 * v79;
      const V v27 = saved[8] * row[2];
      const V v122 = v27 * v121;
      const V v88 = saved[1] * v75;
      const V v85 = p[6] * v79;
      const V v87 = saved[0] * v85;
      const V v149 = p[7] * v121;
      const V v151 = saved[5] * v149;
      const V v152 = v87 + v151;
      const V v153 = row[0] * row[0];
      const V v154 = row[0] * v153;
      const V v155 = T(-0.5) * v154;
      const V v156 = v152 * v155;
      const V v86 = row[0] * v85;
      const V v150 = row[0] * v149;
      const V v104 = p[8] * v74;
      const V v106 = saved[6] * v104;
      const V v107 = row[1] * row[1];
      const V v108 = row[1] * v107;
      const V v109 = T(-0.5) * v108;
      const V v110 = v106 * v109;
      const V v105 = row[1] * v104;
      const V v81 = p[9] * v79;
      const V v83 = saved[7] * v81;
      const V v123 = p[10] * v121;
      const V v125 = saved[8] * v123;
      const V v126 = v83 + v125;
      const V v127 = row[2] * row[2];
      const V v128 = row[2] * v127;
      const V v129 = T(-0.5) * v128;
      const V v130 = v126 * v129;
      const V v82 = row[2] * v81;
      const V v124 = row[2] * v123;
      const V v89 = p[11] * v75;
      const V v91 = saved[9] * v89;
      const V v92 = row[3] * row[3];
      const V v93 = row[3] * v92;
      const V v94 = T(-0.5) * v93;
      const V v95 = v91 * v94;
      const V v90 = row[3] * v89;
      dp[0] = v79;
      dp[1] = v121;
      dp[2] = v74;
      dp[3] = v79;
      dp[4] = v121;
      dp[5] = v75;
      dp[6] = v84;
      dp[7] = v148;
      dp[8] = v103;
      dp[9] = v80;
      dp[10] = v122;
      dp[11] = v88;
      sum[4] = v156;
      temp[6] = v86;
      temp[7] = v150;
      sum[5] = v110;
      temp[8] = v105;
      sum[6] = v130;
      temp[9] = v82;
      temp[10] = v124;
      sum[7] = v95;
      temp[11] = v90;
    }
    if constexpr (phase == 1) {
      const V v159 = T(0.5) * mean[4];
      const V v163 = saved[0] * v159;
      const V v164 = temp[6] + v163;
      const V v165 = v163 + v164;
      const V v166 = -v165;
      const V v160 = saved[5] * v159;
      const V v161 = temp[7] + v160;
      const V v162 = v160 + v161;
      const V v168 = v166 - v162;
      const V v112 = saved[6] * mean[5];
      const V v113 = temp[8] + v112;
      const V v114 = v112 + v113;
      const V v115 = -v114;
      const V v133 = T(0.5) * mean[6];
      const V v137 = saved[7] * v133;
      const V v138 = temp[9] + v137;
      const V v139 = v137 + v138;
      const V v140 = -v139;
      const V v134 = saved[8] * v133;
      const V v135 = temp[10] + v134;
      const V v136 = v134 + v135;
      const V v142 = v140 - v136;
      const V v97 = saved[9] * mean[7];
      const V v98 = temp[11] + v97;
      const V v99 = v97 + v98;
      const V v100 = -v99;
      temp[0] = v165;
      sum[0] = v168;
      temp[1] = v162;
      temp[2] = v114;
      sum[1] = v115;
      temp[3] = v139;
      sum[2] = v142;
      temp[4] = v136;
      temp[5] = v99;
      sum[3] = v100;
    }
    if constexpr (phase == 2) {
      const V v171 = T(0.5) * mean[0];
      const V v172 = temp[0] + v171;
      const V v173 = temp[1] + v171;
      const V v117 = temp[2] + mean[1];
      const V v145 = T(0.5) * mean[2];
      const V v146 = temp[3] + v145;
      const V v147 = temp[4] + v145;
      const V v102 = temp[5] + mean[3];
      const V v66 = saved[2] * grad[0];
      dz[0] = v172;
      dz[1] = v173;
      dz[2] = v117;
      dz[3] = v146;
      dz[4] = v147;
      dz[5] = v102;
      grad[0] = v66;
    }
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
// v12 = mul d0 v11
// v13 = mul v9 v12
// v14 = add v5 v13
// v15 = mul p2 v14
// v16 = add v0 v15
// v17 = sigmoid v16
// v18 = tanh v14
// v19 = mul v17 v18
// return v19 v14
template <class T>
struct PeepholeLstm : Plain {
  using V = Vec<T>;
  static constexpr int slots = 4;
  static constexpr int input_slots = 4;
  static constexpr int hidden_slots = 4;
  static constexpr int states = 2;
  static constexpr int parameters = 3;
  static constexpr int saved = 5;
  static constexpr int rows = 0;
  static constexpr bool reads_new_hidden = false;
  static constexpr bool takes_drop = true;
  static constexpr int input_gates[] = {0, 1, 2, 3};
  static constexpr int hidden_gates[] = {0, 1, 2, 3};
  static constexpr int saved_states[] = {0};
  static constexpr Slots products[] = {{0, 4}};

  template <class Phase>
  static void forward(Phase phase, const V *z, V *state, const V *p, V drop, V *saved, V *row,
                      V *temp, const V *mean, V *sum, V *operand) {
    const V v2 = state[1] * p[1];
    const V v3 = z[1] + v2;
    const V v4 = sigmoid<T>(v3);
    const V v5 = state[1] * v4;
    const V v7 = state[1] * p[0];
    const V v8 = z[0] + v7;
    const V v9 = sigmoid<T>(v8);
    const V v11 = tanh<T>(z[2]);
    const V v12 = drop * v11;
    const V v13 = v9 * v12;
    const V v14 = v5 + v13;
    const V v15 = p[2] * v14;
    const V v16 = z[3] + v15;
    const V v17 = sigmoid<T>(v16);
    const V v18 = tanh<T>(v14);
    const V v19 = v17 * v18;
    state[0] = v19;
    state[1] = v14;
    saved[0] = v14;
    saved[1] = v11;
    saved[2] = v17;
    saved[3] = v9;
    saved[4] = v4;
  }

  template <class Phase>
  static void backward(Phase phase, const V *saved, const V *row, const V *before, const V *after,
                       const V *p, V drop, V *grad, V *dz, V *dp, V *temp, const V *mean, V *sum,
                       V *operand, const V *e) {
    const V v12 = drop * saved[1];
    const V v21 = saved[2] * grad[0];
    const V v18 = tanh<T>(saved[0]);
    const V v22 = v18 * v18;
    const V v23 = T(1.0) - v22;
    const V v24 = v21 * v23;
    const V v25 = v24 + grad[1];
    const V v20 = v18 * grad[0];
    const V v26 = T(1.0) - saved[2];
    const V v27 = saved[2] * v26;
    const V v28 = v20 * v27;
    const V v30 = p[2] * v28;
    const V v31 = v25 + v30;
    const V v32 = v12 * v31;
    const V v39 = T(1.0) - saved[3];
    const V v40 = saved[3] * v39;
    const V v41 = v32 * v40;
    const V v45 = before[1] * v31;
    const V v47 = T(1.0) - saved[4];
    const V v48 = saved[4] * v47;
    const V v49 = v45 * v48;
    const V v33 = saved[3] * v31;
    const V v35 = drop * v33;
    const V v36 = saved[1] * saved[1];
    const V v37 = T(1.0) - v36;
    const V v38 = v35 * v37;
    const V v43 = before[1] * v41;
    const V v51 = before[1] * v49;
    const V v29 = saved[0] * v28;
    const V v42 = p[0] * v41;
    const V v44 = saved[4] * v31;
    const V v46 = v42 + v44;
    const V v50 = p[1] * v49;
    const V v52 = v46 + v50;
    dz[0] = v41;
    dz[1] = v49;
    dz[2] = v38;
    dz[3] = v28;
    dp[0] = v43;
    dp[1] = v51;
    dp[2] = v29;
    grad[0] = V{};
    grad[1] = v52;
  }
};

// gates 3 hidden 1 states 2 parameters 0
// v0 = add x2 h2
// v1 = sigmoid v0
// v2 = add x0 h0
// v3 = sigmoid v2
// v4 = mul s1 v3
// v5 = sub 1.0 v3
// v6 = add x1 h1
// v7 = tanh v6
// v8 = mul d0 v7
// v9 = mul v5 v8
// v10 = add v4 v9
// v11 = tanh v10
// v12 = mul v1 v11
// return v12 v10
template <class T>
struct CoupledLstm : Plain {
  using V = Vec<T>;
  static constexpr int slots = 3;
  static constexpr int input_slots = 3;
  static constexpr int hidden_slots = 3;
  static constexpr int states = 2;
  static constexpr int parameters = 0;
  static constexpr int saved = 4;
  static constexpr int rows = 0;
  static constexpr bool reads_new_hidden = false;
  static constexpr bool takes_drop = true;
  static constexpr int input_gates[] = {0, 1, 2};
  static constexpr int hidden_gates[] = {0, 1, 2};
  static constexpr int saved_states[] = {0};
  static constexpr Slots products[] = {{0, 3}};

  template <class Phase>
  static void forward(Phase phase, const V *z, V *state, const V *p, V drop, V *saved, V *row,
                      V *temp, const V *mean, V *sum, V *operand) {
    const V v1 = sigmoid<T>(z[2]);
    const V v3 = sigmoid<T>(z[0]);
    const V v4 = state[1] * v3;
    const V v5 = T(1.0) - v3;
    const V v7 = tanh<T>(z[1]);
    const V v8 = drop * v7;
    const V v9 = v5 * v8;
    const V v10 = v4 + v9;
    const V v11 = tanh<T>(v10);
    const V v12 = v1 * v11;
    state[0] = v12;
    state[1] = v10;
    saved[0] = v10;
    saved[1] = v1;
    saved[2] = v7;
    saved[3] = v3;
  }

  template <class Phase>
  static void backward(Phase phase, const V *saved, const V *row, const V *before, const V *after,
                       const V *p, V drop, V *grad, V *dz, V *dp, V *temp, const V *mean, V *sum,
                       V *operand, const V *e) {
    const V v14 = saved[1] * grad[0];
    const V v11 = tanh<T>(saved[0]);
    const V v15 = v11 * v11;
    const V v16 = T(1.0) - v15;
    const V v17 = v14 * v16;
    const V v18 = v17 + grad[1];
    const V v28 = before[1] * v18;
    const V v8 = drop * saved[2];
    const V v19 = v8 * v18;
    const V v29 = v28 - v19;
    const V v5 = T(1.0) - saved[3];
    const V v30 = saved[3] * v5;
    const V v31 = v29 * v30;
    const V v20 = v5 * v18;
    const V v22 = drop * v20;
    const V v23 = saved[2] * saved[2];
    const V v24 = T(1.0) - v23;
    const V v25 = v22 * v24;
    const V v13 = v11 * grad[0];
    const V v32 = T(1.0) - saved[1];
    const V v33 = saved[1] * v32;
    const V v34 = v13 * v33;
    const V v27 = saved[3] * v18;
    dz[0] = v31;
    dz[1] = v25;
    dz[2] = v34;
    grad[0] = V{};
    grad[1] = v27;
  }
};

// gates 2 hidden 1 states 2 parameters 0
// v0 = add x0 h0
// v1 = sigmoid v0
// v2 = mul s1 v1
// v3 = add x1 h1
// v4 = tanh v3
// v5 = mul d0 v4
// v6 = add v2 v5
// v7 = tanh v6
// return v7 v6
template <class T>
struct LightLstm : Plain {
  using V = Vec<T>;
  static constexpr int slots = 2;
  static constexpr int input_slots = 2;
  static constexpr int hidden_slots = 2;
  static constexpr int states = 2;
  static constexpr int parameters = 0;
  static constexpr int saved = 3;
  static constexpr int rows = 0;
  static constexpr bool reads_new_hidden = true;
  static constexpr bool takes_drop = true;
  static constexpr int input_gates[] = {0, 1};
  static constexpr int hidden_gates[] = {0, 1};
  static constexpr int saved_states[] = {0};
  static constexpr Slots products[] = {{0, 2}};

  template <class Phase>
  static void forward(Phase phase, const V *z, V *state, const V *p, V drop, V *saved, V *row,
                      V *temp, const V *mean, V *sum, V *operand) {
    const V v1 = sigmoid<T>(z[0]);
    const V v2 = state[1] * v1;
    const V v4 = tanh<T>(z[1]);
    const V v5 = drop * v4;
    const V v6 = v2 + v5;
    const V v7 = tanh<T>(v6);
    state[0] = v7;
    state[1] = v6;
    saved[0] = v6;
    saved[1] = v1;
    saved[2] = v4;
  }

  template <class Phase>
  static void backward(Phase phase, const V *saved, const V *row, const V *before, const V *after,
                       const V *p, V drop, V *grad, V *dz, V *dp, V *temp, const V *mean, V *sum,
                       V *operand, const V *e) {
    const V v8 = after[0] * after[0];
    const V v9 = T(1.0) - v8;
    const V v10 = v9 * grad[0];
    const V v11 = v10 + grad[1];
    const V v18 = before[1] * v11;
    const V v19 = T(1.0) - saved[1];
    const V v20 = saved[1] * v19;
    const V v21 = v18 * v20;
    const V v13 = drop * v11;
    const V v14 = saved[2] * saved[2];
    const V v15 = T(1.0) - v14;
    const V v16 = v13 * v15;
    const V v17 = saved[1] * v11;
    dz[0] = v21;
    dz[1] = v16;
    grad[0] = V{};
    grad[1] = v17;
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
// v7 = mul d0 v6
// v8 = mul v1 v7
// v9 = add v3 v8
// return v9
template <class T>
struct Mgu : Plain {
  using V = Vec<T>;
  static constexpr int slots = 3;
  static constexpr int input_slots = 2;
  static constexpr int hidden_slots = 2;
  static constexpr int states = 1;
  static constexpr int parameters = 0;
  static constexpr int saved = 3;
  static constexpr int rows = 0;
  static constexpr bool reads_new_hidden = false;
  static constexpr bool takes_drop = true;
  static constexpr int input_gates[] = {1, 0};
  static constexpr int hidden_gates[] = {0, 1};
  static constexpr Slots products[] = {{1, 2}};

  template <class Phase>
  static void forward(Phase phase, const V *z, V *state, const V *p, V drop, V *saved, V *row,
                      V *temp, const V *mean, V *sum, V *operand) {
    const V v1 = sigmoid<T>(z[1]);
    const V v2 = T(1.0) - v1;
    const V v3 = state[0] * v2;
    const V v4 = z[2] * v1;
    const V v5 = z[0] + v4;
    const V v6 = tanh<T>(v5);
    const V v7 = drop * v6;
    const V v8 = v1 * v7;
    const V v9 = v3 + v8;
    state[0] = v9;
    saved[0] = v6;
    saved[1] = z[2];
    saved[2] = v1;
  }

  template <class Phase>
  static void backward(Phase phase, const V *saved, const V *row, const V *before, const V *after,
                       const V *p, V drop, V *grad, V *dz, V *dp, V *temp, const V *mean, V *sum,
                       V *operand, const V *e) {
    const V v11 = saved[2] * grad[0];
    const V v13 = drop * v11;
    const V v14 = saved[0] * saved[0];
    const V v15 = T(1.0) - v14;
    const V v16 = v13 * v15;
    const V v7 = drop * saved[0];
    const V v10 = v7 * grad[0];
    const V v18 = saved[1] * v16;
    const V v19 = v10 + v18;
    const V v21 = before[0] * grad[0];
    const V v23 = v19 - v21;
    const V v2 = T(1.0) - saved[2];
    const V v24 = saved[2] * v2;
    const V v25 = v23 * v24;
    const V v17 = saved[2] * v16;
    const V v20 = v2 * grad[0];
    dz[0] = v16;
    dz[1] = v25;
    dz[2] = v17;
    grad[0] = v20;
  }
};

// gates 2 hidden 1 states 1 parameters 0
// v0 = add x0 h0
// v1 = sigmoid v0
// v2 = sub 1.0 v1
// v3 = mul s0 v2
// v4 = mul s0 v1
// v5 = product h1 v4
// v6 = add x1 v5
// v7 = tanh v6
// v8 = mul d0 v7
// v9 = mul v1 v8
// v10 = add v3 v9
// return v10
template <class T>
struct MguResetBefore : Plain {
  using V = Vec<T>;
  static constexpr int slots = 2;
  static constexpr int input_slots = 2;
  static constexpr int hidden_slots = 2;
  static constexpr int states = 1;
  static constexpr int parameters = 0;
  static constexpr int saved = 2;
  static constexpr int rows = 0;
  static constexpr int stages = 1;
  static constexpr int forward_phases = 2;
  static constexpr int forward_temps = 2;
  static constexpr int forward_means = 0;
  static constexpr int backward_phases = 2;
  static constexpr int backward_temps = 0;
  static constexpr int backward_means = 0;
  static constexpr bool reads_new_hidden = false;
  static constexpr bool takes_drop = true;
  static constexpr int input_gates[] = {0, 1};
  static constexpr int hidden_gates[] = {0, 1};
  static constexpr int forward_part[] = {0, 1};
  static constexpr int backward_part[] = {0, 1};
  static constexpr int forward_operand_phase[] = {0};
  static constexpr int backward_operand_phase[] = {0};
  static constexpr int forward_temp_phase[] = {0, 0};
  static constexpr int forward_mean_phase[] = {0};
  static constexpr int backward_temp_phase[] = {0};
  static constexpr int backward_mean_phase[] = {0};
  static constexpr int saved_phase[] = {1, 0};
  static constexpr int row_phase[] = {0};
  static constexpr int dz_phase[] = {1, 0};
  static constexpr int dp_phase[] = {0};
  static constexpr Slots products[] = {{0, 1}, {1, 1}};

  template <class Phase>
  static void forward(Phase phase, const V *z, V *state, const V *p, V drop, V *saved, V *row,
                      V *temp, const V *mean, V *sum, V *operand) {
    if constexpr (phase == 0) {
      const V v1 = sigmoid<T>(z[0]);
      const V v4 = state[0] * v1;
      const V v2 = T(1.0) - v1;
      const V v3 = state[0] * v2;
      operand[0] = v4;
      saved[1] = v1;
      temp[0] = v3;
      temp[1] = v1;
    }
    if constexpr (phase == 1) {
      const V v7 = tanh<T>(z[1]);
      const V v8 = drop * v7;
      const V v9 = temp[1] * v8;
      const V v10 = temp[0] + v9;
      state[0] = v10;
      saved[0] = v7;
    }
  }

  template <class Phase>
  static void backward(Phase phase, const V *saved, const V *row, const V *before, const V *after,
                       const V *p, V drop, V *grad, V *dz, V *dp, V *temp, const V *mean, V *sum,
                       V *operand, const V *e) {
    if constexpr (phase == 0) {
      const V v12 = saved[1] * grad[0];
      const V v14 = drop * v12;
      const V v15 = saved[0] * saved[0];
      const V v16 = T(1.0) - v15;
      const V v17 = v14 * v16;
      const V v4 = before[0] * saved[1];
      dz[1] = v17;
      operand[0] = v4;
    }
    if constexpr (phase == 1) {
      const V v8 = drop * saved[0];
      const V v11 = v8 * grad[0];
      const V v19 = before[0] * e[0];
      const V v20 = v11 + v19;
      const V v22 = before[0] * grad[0];
      const V v25 = v20 - v22;
      const V v2 = T(1.0) - saved[1];
      const V v26 = saved[1] * v2;
      const V v27 = v25 * v26;
      const V v18 = saved[1] * e[0];
      const V v21 = v2 * grad[0];
      const V v23 = v18 + v21;
      dz[0] = v27;
      grad[0] = v23;
    }
  }
};

// gates 1 hidden 0 states 1 parameters 1
// v0 = mul s0 d0
// v1 = mul p0 v0
// v2 = add x0 v1
// v3 = relu v2
// return v3
template <class T>
struct IndrnnRelu : Plain {
  using V = Vec<T>;
  static constexpr int slots = 1;
  static constexpr int input_slots = 1;
  static constexpr int hidden_slots = 0;
  static constexpr int states = 1;
  static constexpr int parameters = 1;
  static constexpr int saved = 0;
  static constexpr int rows = 0;
  static constexpr bool reads_new_hidden = true;
  static constexpr bool takes_drop = true;
  static constexpr int input_gates[] = {0};
  static constexpr int hidden_gates[] = {0};
  static constexpr Slots products[] = {{0, 0}};

  template <class Phase>
  static void forward(Phase phase, const V *z, V *state, const V *p, V drop, V *saved, V *row,
                      V *temp, const V *mean, V *sum, V *operand) {
    const V v0 = state[0] * drop;
    const V v1 = p[0] * v0;
    const V v2 = z[0] + v1;
    const V v3 = select(v2 < V{}, V{}, v2);
    state[0] = v3;
  }

  template <class Phase>
  static void backward(Phase phase, const V *saved, const V *row, const V *before, const V *after,
                       const V *p, V drop, V *grad, V *dz, V *dp, V *temp, const V *mean, V *sum,
                       V *operand, const V *e) {
    const V v4 = select(after[0] > V{}, grad[0], V{});
    const V v0 = before[0] * drop;
    const V v5 = v0 * v4;
    const V v6 = p[0] * v4;
    const V v7 = drop * v6;
    dz[0] = v4;
    dp[0] = v5;
    grad[0] = v7;
  }
};

// gates 1 hidden 0 states 1 parameters 1
// v0 = mul s0 d0
// v1 = mul p0 v0
// v2 = add x0 v1
// v3 = tanh v2
// return v3
template <class T>
struct IndrnnTanh : Plain {
  using V = Vec<T>;
  static constexpr int slots = 1;
  static constexpr int input_slots = 1;
  static constexpr int hidden_slots = 0;
  static constexpr int states = 1;
  static constexpr int parameters = 1;
  static constexpr int saved = 0;
  static constexpr int rows = 0;
  static constexpr bool reads_new_hidden = true;
  static constexpr bool takes_drop = true;
  static constexpr int input_gates[] = {0};
  static constexpr int hidden_gates[] = {0};
  static constexpr Slots products[] = {{0, 0}};

  template <class Phase>
  static void forward(Phase phase, const V *z, V *state, const V *p, V drop, V *saved, V *row,
                      V *temp, const V *mean, V *sum, V *operand) {
    const V v0 = state[0] * drop;
    const V v1 = p[0] * v0;
    const V v2 = z[0] + v1;
    const V v3 = tanh<T>(v2);
    state[0] = v3;
  }

  template <class Phase>
  static void backward(Phase phase, const V *saved, const V *row, const V *before, const V *after,
                       const V *p, V drop, V *grad, V *dz, V *dp, V *temp, const V *mean, V *sum,
                       V *operand, const V *e) {
    const V v4 = after[0] * after[0];
    const V v5 = T(1.0) - v4;
    const V v6 = v5 * grad[0];
    const V v0 = before[0] * drop;
    const V v7 = v0 * v6;
    const V v8 = p[0] * v6;
    const V v9 = drop * v8;
    dz[0] = v6;
    dp[0] = v7;
    grad[0] = v9;
  }
};

// gates 2 hidden 0 states 1 parameters 0
// v0 = sigmoid x0
// v1 = mul s0 v0
// v2 = sub 1.0 v0
// v3 = mul x1 v2
// v4 = mul d0 v3
// v5 = add v1 v4
// return v5
template <class T>
struct MinGru : Plain {
  using V = Vec<T>;
  static constexpr int slots = 2;
  static constexpr int input_slots = 2;
  static constexpr int hidden_slots = 0;
  static constexpr int states = 1;
  static constexpr int parameters = 0;
  static constexpr int saved = 2;
  static constexpr int rows = 0;
  static constexpr bool reads_new_hidden = false;
  static constexpr bool takes_drop = true;
  static constexpr int input_gates[] = {0, 1};
  static constexpr int hidden_gates[] = {0};
  static constexpr Slots products[] = {{0, 0}};

  template <class Phase>
  static void forward(Phase phase, const V *z, V *state, const V *p, V drop, V *saved, V *row,
                      V *temp, const V *mean, V *sum, V *operand) {
    const V v0 = sigmoid<T>(z[0]);
    const V v1 = state[0] * v0;
    const V v2 = T(1.0) - v0;
    const V v3 = z[1] * v2;
    const V v4 = drop * v3;
    const V v5 = v1 + v4;
    state[0] = v5;
    saved[0] = z[1];
    saved[1] = v0;
  }

  template <class Phase>
  static void backward(Phase phase, const V *saved, const V *row, const V *before, const V *after,
                       const V *p, V drop, V *grad, V *dz, V *dp, V *temp, const V *mean, V *sum,
                       V *operand, const V *e) {
    const V v12 = before[0] * grad[0];
    const V v7 = drop * grad[0];
    const V v9 = saved[0] * v7;
    const V v13 = v12 - v9;
    const V v2 = T(1.0) - saved[1];
    const V v14 = saved[1] * v2;
    const V v15 = v13 * v14;
    const V v8 = v2 * v7;
    const V v11 = saved[1] * grad[0];
    dz[0] = v15;
    dz[1] = v8;
    grad[0] = v11;
  }
};

// gates 3 hidden 0 states 1 parameters 0
// v0 = neg x0
// v1 = softplus v0
// v2 = neg x1
// v3 = softplus v2
// v4 = sub v1 v3
// v5 = sigmoid v4
// v6 = mul s0 v5
// v7 = neg v4
// v8 = sigmoid v7
// v9 = mul x2 v8
// v10 = mul d0 v9
// v11 = add v6 v10
// return v11
template <class T>
struct MinLstm : Plain {
  using V = Vec<T>;
  static constexpr int slots = 3;
  static constexpr int input_slots = 3;
  static constexpr int hidden_slots = 0;
  static constexpr int states = 1;
  static constexpr int parameters = 0;
  static constexpr int saved = 5;
  static constexpr int rows = 0;
  static constexpr bool reads_new_hidden = false;
  static constexpr bool takes_drop = true;
  static constexpr int input_gates[] = {0, 1, 2};
  static constexpr int hidden_gates[] = {0};
  static constexpr Slots products[] = {{0, 0}};

  template <class Phase>
  static void forward(Phase phase, const V *z, V *state, const V *p, V drop, V *saved, V *row,
                      V *temp, const V *mean, V *sum, V *operand) {
    const V v0 = -z[0];
    const V v1 = softplus<T>(v0);
    const V v2 = -z[1];
    const V v3 = softplus<T>(v2);
    const V v4 = v1 - v3;
    const V v5 = sigmoid<T>(v4);
    const V v6 = state[0] * v5;
    const V v7 = -v4;
    const V v8 = sigmoid<T>(v7);
    const V v9 = z[2] * v8;
    const V v10 = drop * v9;
    const V v11 = v6 + v10;
    state[0] = v11;
    saved[0] = v5;
    saved[1] = z[2];
    saved[2] = v8;
    saved[3] = z[0];
    saved[4] = z[1];
  }

  template <class Phase>
  static void backward(Phase phase, const V *saved, const V *row, const V *before, const V *after,
                       const V *p, V drop, V *grad, V *dz, V *dp, V *temp, const V *mean, V *sum,
                       V *operand, const V *e) {
    const V v21 = before[0] * grad[0];
    const V v22 = T(1.0) - saved[0];
    const V v23 = saved[0] * v22;
    const V v24 = v21 * v23;
    const V v13 = drop * grad[0];
    const V v15 = saved[1] * v13;
    const V v16 = T(1.0) - saved[2];
    const V v17 = saved[2] * v16;
    const V v18 = v15 * v17;
    const V v25 = v24 - v18;
    const V v0 = -saved[3];
    const V v30 = sigmoid<T>(v0);
    const V v31 = v25 * v30;
    const V v32 = -v31;
    const V v26 = -v25;
    const V v2 = -saved[4];
    const V v27 = sigmoid<T>(v2);
    const V v28 = v26 * v27;
    const V v29 = -v28;
    const V v14 = saved[2] * v13;
    const V v20 = saved[0] * grad[0];
    dz[0] = v32;
    dz[1] = v29;
    dz[2] = v14;
    grad[0] = v20;
  }
};

// gates 4 hidden 1 states 4 parameters 0
// v0 = add x3 h3
// v1 = sigmoid v0
// v2 = add x1 h1
// v3 = neg v2
// v4 = softplus v3
// v5 = sub s3 v4
// v6 = add x0 h0
// v7 = sub v5 v6
// v8 = neg v7
// v9 = add v6 v5
// v10 = mul 0.5 v9
// v11 = where_positive v8 v6 v10
// v12 = where_positive v7 v5 v11
// v13 = sub v5 v12
// v14 = exp v13
// v15 = mul s1 v14
// v16 = sub v6 v12
// v17 = exp v16
// v18 = add x2 h2
// v19 = tanh v18
// v20 = mul d0 v19
// v21 = mul v17 v20
// v22 = add v15 v21
// v23 = mul v1 v22
// v24 = mul s2 v14
// v25 = add v17 v24
// v26 = div v23 v25
// return v26 v22 v25 v12
template <class T>
struct Slstm : Plain {
  using V = Vec<T>;
  static constexpr int slots = 4;
  static constexpr int input_slots = 4;
  static constexpr int hidden_slots = 4;
  static constexpr int states = 4;
  static constexpr int parameters = 0;
  static constexpr int saved = 9;
  static constexpr int rows = 0;
  static constexpr bool reads_new_hidden = true;
  static constexpr bool takes_drop = true;
  static constexpr int input_gates[] = {0, 1, 2, 3};
  static constexpr int hidden_gates[] = {0, 1, 2, 3};
  static constexpr int saved_states[] = {0, 1, 2};
  static constexpr Slots products[] = {{0, 4}};

  template <class Phase>
  static void forward(Phase phase, const V *z, V *state, const V *p, V drop, V *saved, V *row,
                      V *temp, const V *mean, V *sum, V *operand) {
    const V v1 = sigmoid<T>(z[3]);
    const V v3 = -z[1];
    const V v4 = softplus<T>(v3);
    const V v5 = state[3] - v4;
    const V v7 = v5 - z[0];
    const V v8 = -v7;
    const V v9 = z[0] + v5;
    const V v10 = T(0.5) * v9;
    const V v11 = select(v8 > V{}, z[0], v10);
    const V v12 = select(v7 > V{}, v5, v11);
    const V v13 = v5 - v12;
    const V v14 = exp<T>(v13);
    const V v15 = state[1] * v14;
    const V v16 = z[0] - v12;
    const V v17 = exp<T>(v16);
    const V v19 = tanh<T>(z[2]);
    const V v20 = drop * v19;
    const V v21 = v17 * v20;
    const V v22 = v15 + v21;
    const V v23 = v1 * v22;
    const V v24 = state[2] * v14;
    const V v25 = v17 + v24;
    const V v26 = v23 / v25;
    state[0] = v26;
    state[1] = v22;
    state[2] = v25;
    state[3] = v12;
    saved[0] = v22;
    saved[1] = v25;
    saved[2] = v12;
    saved[3] = v17;
    saved[4] = v19;
    saved[5] = v1;
    saved[6] = v7;
    saved[7] = v14;
    saved[8] = z[1];
  }

  template <class Phase>
  static void backward(Phase phase, const V *saved, const V *row, const V *before, const V *after,
                       const V *p, V drop, V *grad, V *dz, V *dp, V *temp, const V *mean, V *sum,
                       V *operand, const V *e) {
    const V v28 = after[0] * grad[0];
    const V v29 = v28 / saved[1];
    const V v31 = grad[2] - v29;
    const V v20 = drop * saved[4];
    const V v27 = grad[0] / saved[1];
    const V v35 = saved[5] * v27;
    const V v36 = v35 + grad[1];
    const V v37 = v20 * v36;
    const V v39 = v31 + v37;
    const V v45 = saved[3] * v39;
    const V v8 = -saved[6];
    const V v47 = grad[3] - v45;
    const V v33 = before[2] * v31;
    const V v49 = before[1] * v36;
    const V v50 = v33 + v49;
    const V v51 = saved[7] * v50;
    const V v53 = v47 - v51;
    const V v55 = select(saved[6] > V{}, V{}, v53);
    const V v57 = select(v8 > V{}, v55, V{});
    const V v59 = v45 + v57;
    const V v58 = select(v8 > V{}, V{}, v55);
    const V v61 = T(0.5) * v58;
    const V v62 = v59 + v61;
    const V v54 = select(saved[6] > V{}, v53, V{});
    const V v56 = v51 + v54;
    const V v63 = v56 + v61;
    const V v64 = -v63;
    const V v3 = -saved[8];
    const V v65 = sigmoid<T>(v3);
    const V v66 = v64 * v65;
    const V v67 = -v66;
    const V v38 = saved[3] * v36;
    const V v41 = drop * v38;
    const V v42 = saved[4] * saved[4];
    const V v43 = T(1.0) - v42;
    const V v44 = v41 * v43;
    const V v34 = saved[0] * v27;
    const V v68 = T(1.0) - saved[5];
    const V v69 = saved[5] * v68;
    const V v70 = v34 * v69;
    const V v48 = saved[7] * v36;
    const V v32 = saved[7] * v31;
    dz[0] = v62;
    dz[1] = v67;
    dz[2] = v44;
    dz[3] = v70;
    grad[0] = V{};
    grad[1] = v48;
    grad[2] = v32;
    grad[3] = v63;
  }
};

// gates 5 hidden 1 states 2 parameters 0
// v0 = mul x0 h0
// v1 = product h4 v0
// v2 = add x4 v1
// v3 = sigmoid v2
// v4 = product h2 v0
// v5 = add x2 v4
// v6 = sigmoid v5
// v7 = mul s1 v6
// v8 = product h1 v0
// v9 = add x1 v8
// v10 = sigmoid v9
// v11 = product h3 v0
// v12 = add x3 v11
// v13 = tanh v12
// v14 = mul d0 v13
// v15 = mul v10 v14
// v16 = add v7 v15
// v17 = tanh v16
// v18 = mul v3 v17
// return v18 v16
template <class T>
struct MultiplicativeLstm : Plain {
  using V = Vec<T>;
  static constexpr int slots = 6;
  static constexpr int input_slots = 5;
  static constexpr int hidden_slots = 5;
  static constexpr int states = 2;
  static constexpr int parameters = 0;
  static constexpr int saved = 7;
  static constexpr int rows = 0;
  static constexpr int stages = 1;
  static constexpr int forward_phases = 2;
  static constexpr int forward_temps = 0;
  static constexpr int forward_means = 0;
  static constexpr int backward_phases = 2;
  static constexpr int backward_temps = 1;
  static constexpr int backward_means = 0;
  static constexpr bool reads_new_hidden = false;
  static constexpr bool takes_drop = true;
  static constexpr int input_gates[] = {0, 1, 2, 3, 4};
  static constexpr int hidden_gates[] = {1, 2, 3, 4, 0};
  static constexpr int forward_part[] = {0, 1};
  static constexpr int backward_part[] = {0, 1};
  static constexpr int forward_operand_phase[] = {0};
  static constexpr int backward_operand_phase[] = {0};
  static constexpr int saved_states[] = {0};
  static constexpr int forward_temp_phase[] = {0};
  static constexpr int forward_mean_phase[] = {0};
  static constexpr int backward_temp_phase[] = {0};
  static constexpr int backward_mean_phase[] = {0};
  static constexpr int saved_phase[] = {1, 0, 1, 1, 1, 1, 0};
  static constexpr int row_phase[] = {0};
  static constexpr int dz_phase[] = {1, 0, 0, 0, 0, 1};
  static constexpr int dp_phase[] = {0};
  static constexpr Slots products[] = {{5, 1}, {1, 4}};

  template <class Phase>
  static void forward(Phase phase, const V *z, V *state, const V *p, V drop, V *saved, V *row,
                      V *temp, const V *mean, V *sum, V *operand) {
    if constexpr (phase == 0) {
      const V v0 = z[0] * z[5];
      operand[0] = v0;
      saved[1] = z[5];
      saved[6] = z[0];
    }
    if constexpr (phase == 1) {
      const V v3 = sigmoid<T>(z[4]);
      const V v6 = sigmoid<T>(z[2]);
      const V v7 = state[1] * v6;
      const V v10 = sigmoid<T>(z[1]);
      const V v13 = tanh<T>(z[3]);
      const V v14 = drop * v13;
      const V v15 = v10 * v14;
      const V v16 = v7 + v15;
      const V v17 = tanh<T>(v16);
      const V v18 = v3 * v17;
      state[0] = v18;
      state[1] = v16;
      saved[0] = v16;
      saved[2] = v13;
      saved[3] = v3;
      saved[4] = v10;
      saved[5] = v6;
    }
  }

  template <class Phase>
  static void backward(Phase phase, const V *saved, const V *row, const V *before, const V *after,
                       const V *p, V drop, V *grad, V *dz, V *dp, V *temp, const V *mean, V *sum,
                       V *operand, const V *e) {
    if constexpr (phase == 0) {
      const V v14 = drop * saved[2];
      const V v20 = saved[3] * grad[0];
      const V v17 = tanh<T>(saved[0]);
      const V v21 = v17 * v17;
      const V v22 = T(1.0) - v21;
      const V v23 = v20 * v22;
      const V v24 = v23 + grad[1];
      const V v25 = v14 * v24;
      const V v32 = T(1.0) - saved[4];
      const V v33 = saved[4] * v32;
      const V v34 = v25 * v33;
      const V v36 = before[1] * v24;
      const V v37 = T(1.0) - saved[5];
      const V v38 = saved[5] * v37;
      const V v39 = v36 * v38;
      const V v26 = saved[4] * v24;
      const V v28 = drop * v26;
      const V v29 = saved[2] * saved[2];
      const V v30 = T(1.0) - v29;
      const V v31 = v28 * v30;
      const V v19 = v17 * grad[0];
      const V v40 = T(1.0) - saved[3];
      const V v41 = saved[3] * v40;
      const V v42 = v19 * v41;
      const V v0 = saved[6] * saved[1];
      const V v35 = saved[5] * v24;
      dz[1] = v34;
      dz[2] = v39;
      dz[3] = v31;
      dz[4] = v42;
      operand[0] = v0;
      temp[0] = v35;
    }
    if constexpr (phase == 1) {
      const V v43 = saved[1] * e[0];
      const V v44 = saved[6] * e[0];
      dz[0] = v43;
      dz[5] = v44;
      grad[0] = V{};
      grad[1] = temp[0];
    }
  }
};

// gates 6 hidden 1 states 1 parameters 0 inputs 2
// v0 = add x1 h1
// v1 = sigmoid v0
// v2 = add x0 h0
// v3 = tanh v2
// v4 = mul d0 v3
// v5 = mul v1 v4
// v6 = sub 1.0 v1
// v7 = mul s0 v6
// v8 = add v5 v7
// v9 = product h3 v8
// v10 = sigmoid v9
// v11 = product h2 v8
// v12 = tanh v11
// v13 = mul d0 v12
// v14 = mul v10 v13
// v15 = sub 1.0 v10
// v16 = mul v8 v15
// v17 = add v14 v16
// v18 = product h5 v17
// v19 = sigmoid v18
// v20 = product h4 v17
// v21 = tanh v20
// v22 = mul d0 v21
// v23 = mul v19 v22
// v24 = sub 1.0 v19
// v25 = mul v17 v24
// v26 = add v23 v25
// return v26
template <class T>
struct Rhn : Plain {
  using V = Vec<T>;
  static constexpr int slots = 6;
  static constexpr int input_slots = 2;
  static constexpr int hidden_slots = 6;
  static constexpr int states = 1;
  static constexpr int parameters = 0;
  static constexpr int saved = 6;
  static constexpr int rows = 0;
  static constexpr int stages = 2;
  static constexpr int forward_phases = 3;
  static constexpr int forward_temps = 2;
  static constexpr int forward_means = 0;
  static constexpr int backward_phases = 3;
  static constexpr int backward_temps = 2;
  static constexpr int backward_means = 0;
  static constexpr bool reads_new_hidden = false;
  static constexpr bool takes_drop = true;
  static constexpr int input_gates[] = {0, 1};
  static constexpr int hidden_gates[] = {0, 1, 2, 3, 4, 5};
  static constexpr int forward_part[] = {0, 1, 2};
  static constexpr int backward_part[] = {0, 1, 2};
  static constexpr int forward_operand_phase[] = {0, 1};
  static constexpr int backward_operand_phase[] = {0, 0};
  static constexpr int forward_temp_phase[] = {1, 0};
  static constexpr int forward_mean_phase[] = {0};
  static constexpr int backward_temp_phase[] = {1, 0};
  static constexpr int backward_mean_phase[] = {0};
  static constexpr int saved_phase[] = {0, 1, 2, 0, 1, 2};
  static constexpr int row_phase[] = {0};
  static constexpr int dz_phase[] = {2, 2, 1, 1, 0, 0};
  static constexpr int dp_phase[] = {0};
  static constexpr Slots products[] = {{0, 2}, {2, 2}, {4, 2}};

  template <class Phase>
  static void forward(Phase phase, const V *z, V *state, const V *p, V drop, V *saved, V *row,
                      V *temp, const V *mean, V *sum, V *operand) {
    if constexpr (phase == 0) {
      const V v1 = sigmoid<T>(z[1]);
      const V v3 = tanh<T>(z[0]);
      const V v4 = drop * v3;
      const V v5 = v1 * v4;
      const V v6 = T(1.0) - v1;
      const V v7 = state[0] * v6;
      const V v8 = v5 + v7;
      operand[0] = v8;
      saved[0] = v1;
      saved[3] = v3;
      temp[1] = v8;
    }
    if constexpr (phase == 1) {
      const V v10 = sigmoid<T>(z[3]);
      const V v12 = tanh<T>(z[2]);
      const V v13 = drop * v12;
      const V v14 = v10 * v13;
      const V v15 = T(1.0) - v10;
      const V v16 = temp[1] * v15;
      const V v17 = v14 + v16;
      operand[1] = v17;
      saved[1] = v10;
      saved[4] = v12;
      temp[0] = v17;
    }
    if constexpr (phase == 2) {
      const V v19 = sigmoid<T>(z[5]);
      const V v21 = tanh<T>(z[4]);
      const V v22 = drop * v21;
      const V v23 = v19 * v22;
      const V v24 = T(1.0) - v19;
      const V v25 = temp[0] * v24;
      const V v26 = v23 + v25;
      state[0] = v26;
      saved[2] = v19;
      saved[5] = v21;
    }
  }

  template <class Phase>
  static void backward(Phase phase, const V *saved, const V *row, const V *before, const V *after,
                       const V *p, V drop, V *grad, V *dz, V *dp, V *temp, const V *mean, V *sum,
                       V *operand, const V *e) {
    if constexpr (phase == 0) {
      const V v31 = saved[2] * grad[0];
      const V v34 = drop * v31;
      const V v35 = saved[5] * saved[5];
      const V v36 = T(1.0) - v35;
      const V v37 = v34 * v36;
      const V v22 = drop * saved[5];
      const V v30 = v22 * grad[0];
      const V v13 = drop * saved[4];
      const V v14 = saved[1] * v13;
      const V v4 = drop * saved[3];
      const V v5 = saved[0] * v4;
      const V v6 = T(1.0) - saved[0];
      const V v7 = before[0] * v6;
      const V v8 = v5 + v7;
      const V v15 = T(1.0) - saved[1];
      const V v16 = v8 * v15;
      const V v17 = v14 + v16;
      const V v28 = v17 * grad[0];
      const V v32 = v30 - v28;
      const V v24 = T(1.0) - saved[2];
      const V v38 = saved[2] * v24;
      const V v39 = v32 * v38;
      dz[4] = v37;
      dz[5] = v39;
      operand[0] = v8;
      operand[1] = v17;
      temp[1] = v8;
    }
    if constexpr (phase == 1) {
      const V v24 = T(1.0) - saved[2];
      const V v27 = v24 * grad[0];
      const V v40 = v27 + e[1];
      const V v45 = saved[1] * v40;
      const V v48 = drop * v45;
      const V v50 = saved[4] * saved[4];
      const V v51 = T(1.0) - v50;
      const V v52 = v48 * v51;
      const V v13 = drop * saved[4];
      const V v44 = v13 * v40;
      const V v42 = temp[1] * v40;
      const V v46 = v44 - v42;
      const V v15 = T(1.0) - saved[1];
      const V v53 = saved[1] * v15;
      const V v54 = v46 * v53;
      const V v41 = v15 * v40;
      dz[2] = v52;
      dz[3] = v54;
      temp[0] = v41;
    }
    if constexpr (phase == 2) {
      const V v55 = temp[0] + e[0];
      const V v60 = saved[0] * v55;
      const V v63 = drop * v60;
      const V v65 = saved[3] * saved[3];
      const V v66 = T(1.0) - v65;
      const V v67 = v63 * v66;
      const V v4 = drop * saved[3];
      const V v59 = v4 * v55;
      const V v57 = before[0] * v55;
      const V v61 = v59 - v57;
      const V v6 = T(1.0) - saved[0];
      const V v68 = saved[0] * v6;
      const V v69 = v61 * v68;
      const V v56 = v6 * v55;
      dz[0] = v67;
      dz[1] = v69;
      grad[0] = v56;
    }
  }
};

// gates 4 hidden 1 states 2 parameters 0
// v0 = add x1 h1
// v1 = sigmoid v0
// v2 = sub 1.0 v1
// v3 = mul s0 v2
// v4 = add x0 h0
// v5 = sigmoid v4
// v6 = sub 1.0 v5
// v7 = mul s1 v6
// v8 = add x2 h2
// v9 = tanh v8
// v10 = mul d0 v9
// v11 = mul v5 v10
// v12 = add v7 v11
// v13 = product h3 v12
// v14 = add x3 v13
// v15 = tanh v14
// v16 = mul d0 v15
// v17 = mul v1 v16
// v18 = add v3 v17
// return v18 v12
template <class T>
struct Lem : Plain {
  using V = Vec<T>;
  static constexpr int slots = 4;
  static constexpr int input_slots = 4;
  static constexpr int hidden_slots = 4;
  static constexpr int states = 2;
  static constexpr int parameters = 0;
  static constexpr int saved = 5;
  static constexpr int rows = 0;
  static constexpr int stages = 1;
  static constexpr int forward_phases = 2;
  static constexpr int forward_temps = 3;
  static constexpr int forward_means = 0;
  static constexpr int backward_phases = 2;
  static constexpr int backward_temps = 0;
  static constexpr int backward_means = 0;
  static constexpr bool reads_new_hidden = false;
  static constexpr bool takes_drop = true;
  static constexpr int input_gates[] = {0, 1, 2, 3};
  static constexpr int hidden_gates[] = {0, 1, 2, 3};
  static constexpr int forward_part[] = {0, 1};
  static constexpr int backward_part[] = {0, 1};
  static constexpr int forward_operand_phase[] = {0};
  static constexpr int backward_operand_phase[] = {0};
  static constexpr int saved_states[] = {0};
  static constexpr int forward_temp_phase[] = {0, 0, 0};
  static constexpr int forward_mean_phase[] = {0};
  static constexpr int backward_temp_phase[] = {0};
  static constexpr int backward_mean_phase[] = {0};
  static constexpr int saved_phase[] = {0, 0, 0, 1, 0};
  static constexpr int row_phase[] = {0};
  static constexpr int dz_phase[] = {1, 0, 1, 0};
  static constexpr int dp_phase[] = {0};
  static constexpr Slots products[] = {{0, 3}, {3, 1}};

  template <class Phase>
  static void forward(Phase phase, const V *z, V *state, const V *p, V drop, V *saved, V *row,
                      V *temp, const V *mean, V *sum, V *operand) {
    if constexpr (phase == 0) {
      const V v5 = sigmoid<T>(z[0]);
      const V v6 = T(1.0) - v5;
      const V v7 = state[1] * v6;
      const V v9 = tanh<T>(z[2]);
      const V v10 = drop * v9;
      const V v11 = v5 * v10;
      const V v12 = v7 + v11;
      const V v1 = sigmoid<T>(z[1]);
      const V v2 = T(1.0) - v1;
      const V v3 = state[0] * v2;
      operand[0] = v12;
      saved[0] = v12;
      saved[1] = v9;
      saved[2] = v5;
      saved[4] = v1;
      temp[0] = v3;
      temp[1] = v1;
      temp[2] = v12;
    }
    if constexpr (phase == 1) {
      const V v15 = tanh<T>(z[3]);
      const V v16 = drop * v15;
      const V v17 = temp[1] * v16;
      const V v18 = temp[0] + v17;
      state[0] = v18;
      state[1] = temp[2];
      saved[3] = v15;
    }
  }

  template <class Phase>
  static void backward(Phase phase, const V *saved, const V *row, const V *before, const V *after,
                       const V *p, V drop, V *grad, V *dz, V *dp, V *temp, const V *mean, V *sum,
                       V *operand, const V *e) {
    if constexpr (phase == 0) {
      const V v16 = drop * saved[3];
      const V v19 = v16 * grad[0];
      const V v42 = before[0] * grad[0];
      const V v44 = v19 - v42;
      const V v2 = T(1.0) - saved[4];
      const V v45 = saved[4] * v2;
      const V v46 = v44 * v45;
      const V v20 = saved[4] * grad[0];
      const V v22 = drop * v20;
      const V v23 = saved[3] * saved[3];
      const V v24 = T(1.0) - v23;
      const V v25 = v22 * v24;
      dz[1] = v46;
      dz[3] = v25;
      operand[0] = saved[0];
    }
    if constexpr (phase == 1) {
      const V v10 = drop * saved[1];
      const V v26 = grad[1] + e[0];
      const V v27 = v10 * v26;
      const V v36 = before[1] * v26;
      const V v38 = v27 - v36;
      const V v6 = T(1.0) - saved[2];
      const V v39 = saved[2] * v6;
      const V v40 = v38 * v39;
      const V v28 = saved[2] * v26;
      const V v30 = drop * v28;
      const V v32 = saved[1] * saved[1];
      const V v33 = T(1.0) - v32;
      const V v34 = v30 * v33;
      const V v2 = T(1.0) - saved[4];
      const V v41 = v2 * grad[0];
      const V v35 = v6 * v26;
      dz[0] = v40;
      dz[2] = v34;
      grad[0] = v41;
      grad[1] = v35;
    }
  }
};

// gates 2 hidden 1 states 1 parameters 0
// v0 = add x0 h0
// v1 = sigmoid v0
// v2 = mul s0 v1
// v3 = sub 1.0 v1
// v4 = add x1 h1
// v5 = tanh v4
// v6 = mul d0 v5
// v7 = mul v3 v6
// v8 = add v2 v7
// return v8
template <class T>
struct Ugrnn : Plain {
  using V = Vec<T>;
  static constexpr int slots = 2;
  static constexpr int input_slots = 2;
  static constexpr int hidden_slots = 2;
  static constexpr int states = 1;
  static constexpr int parameters = 0;
  static constexpr int saved = 2;
  static constexpr int rows = 0;
  static constexpr bool reads_new_hidden = false;
  static constexpr bool takes_drop = true;
  static constexpr int input_gates[] = {0, 1};
  static constexpr int hidden_gates[] = {0, 1};
  static constexpr Slots products[] = {{0, 2}};

  template <class Phase>
  static void forward(Phase phase, const V *z, V *state, const V *p, V drop, V *saved, V *row,
                      V *temp, const V *mean, V *sum, V *operand) {
    const V v1 = sigmoid<T>(z[0]);
    const V v2 = state[0] * v1;
    const V v3 = T(1.0) - v1;
    const V v5 = tanh<T>(z[1]);
    const V v6 = drop * v5;
    const V v7 = v3 * v6;
    const V v8 = v2 + v7;
    state[0] = v8;
    saved[0] = v5;
    saved[1] = v1;
  }

  template <class Phase>
  static void backward(Phase phase, const V *saved, const V *row, const V *before, const V *after,
                       const V *p, V drop, V *grad, V *dz, V *dp, V *temp, const V *mean, V *sum,
                       V *operand, const V *e) {
    const V v18 = before[0] * grad[0];
    const V v6 = drop * saved[0];
    const V v9 = v6 * grad[0];
    const V v19 = v18 - v9;
    const V v3 = T(1.0) - saved[1];
    const V v20 = saved[1] * v3;
    const V v21 = v19 * v20;
    const V v10 = v3 * grad[0];
    const V v12 = drop * v10;
    const V v13 = saved[0] * saved[0];
    const V v14 = T(1.0) - v13;
    const V v15 = v12 * v14;
    const V v17 = saved[1] * grad[0];
    dz[0] = v21;
    dz[1] = v15;
    grad[0] = v17;
  }
};

}  // namespace SEQCELLS_VARIANT
