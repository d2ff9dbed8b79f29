# Written by cells/write_kernels.py from the cells' equations: `make kernels`.
# ruff: noqa
# fmt: off
import triton
import triton.language as tl

from seqcells.kernels.triton.numerics import full_like, softplus, tanh
from seqcells.kernels.triton.cooperative import means


@triton.jit
def rnn_tanh_forward(z, state, p, drop, units, H: tl.constexpr, group):
    v1 = tanh(z[0])
    return (v1,), (), ()


@triton.jit
def rnn_tanh_backward(saved, row, before, after, grad, p, drop, units, H: tl.constexpr, group):
    v2 = after * after
    v3 = 1.0 - v2
    v4 = v3 * grad[0]
    return (v4,), (), (full_like(0.0, grad[0]),)


@triton.jit
def rnn_relu_forward(z, state, p, drop, units, H: tl.constexpr, group):
    v1 = tl.where(z[0] > 0, z[0], 0.0)
    return (v1,), (), ()


@triton.jit
def rnn_relu_backward(saved, row, before, after, grad, p, drop, units, H: tl.constexpr, group):
    v2 = tl.where(after > 0, grad[0], 0.0)
    return (v2,), (), (full_like(0.0, grad[0]),)


@triton.jit
def gru_forward(z, state, p, drop, units, H: tl.constexpr, group):
    v1 = tl.sigmoid(z[2])
    v2 = 1.0 - v1
    v4 = tl.sigmoid(z[1])
    v5 = z[3] * v4
    v6 = z[0] + v5
    v7 = tanh(v6)
    v8 = drop * v7
    v9 = v2 * v8
    v10 = state[0] * v1
    v11 = v9 + v10
    return (v11,), (z[3], v1, v7, v4), ()


@triton.jit
def gru_backward(saved, row, before, after, grad, p, drop, units, H: tl.constexpr, group):
    v2 = 1.0 - saved[1]
    v15 = v2 * grad[0]
    v17 = drop * v15
    v18 = saved[2] * saved[2]
    v19 = 1.0 - v18
    v20 = v17 * v19
    v22 = saved[0] * v20
    v23 = 1.0 - saved[3]
    v24 = saved[3] * v23
    v25 = v22 * v24
    v13 = before[0] * grad[0]
    v8 = drop * saved[2]
    v14 = v8 * grad[0]
    v27 = v13 - v14
    v28 = saved[1] * v2
    v29 = v27 * v28
    v21 = saved[3] * v20
    v12 = saved[1] * grad[0]
    return (v20, v25, v29, v21), (), (v12,)


@triton.jit
def gru_reset_before_forward(z, state, p, drop, units, H: tl.constexpr, group):
    v4 = tl.sigmoid(z[0])
    v5 = state[0] * v4
    v1 = tl.sigmoid(z[1])
    v2 = 1.0 - v1
    v11 = state[0] * v1
    v8 = tanh(z[2])
    v9 = drop * v8
    v10 = v2 * v9
    v12 = v10 + v11
    return (v12,), (v4, v8, v1), ()


@triton.jit
def gru_reset_before_backward(saved, row, before, after, grad, p, drop, e, units, H: tl.constexpr, group):
    v14 = before[0] * grad[0]
    v9 = drop * saved[1]
    v15 = v9 * grad[0]
    v29 = v14 - v15
    v2 = 1.0 - saved[2]
    v30 = saved[2] * v2
    v31 = v29 * v30
    v16 = v2 * grad[0]
    v18 = drop * v16
    v19 = saved[1] * saved[1]
    v20 = 1.0 - v19
    v21 = v18 * v20
    v5 = before[0] * saved[0]
    v23 = before[0] * e[0]
    v25 = 1.0 - saved[0]
    v26 = saved[0] * v25
    v27 = v23 * v26
    v13 = saved[2] * grad[0]
    v22 = saved[0] * e[0]
    v24 = v13 + v22
    return (v27, v31, v21), (), (v24,), (v5,)


@triton.jit
def gru_reset_before_operand(z, state, p, drop, units, H: tl.constexpr, group, stage: tl.constexpr):
    if stage == 0:
        v4 = tl.sigmoid(z[0])
        v5 = state[0] * v4
        return (v5,)


@triton.jit
def gru_reset_before_late_gradient(saved, row, before, after, grad, p, drop, e, units, H: tl.constexpr, group, stage: tl.constexpr):
    if stage == 0:
        v2 = 1.0 - saved[2]
        v16 = v2 * grad[0]
        v18 = drop * v16
        v19 = saved[1] * saved[1]
        v20 = 1.0 - v19
        v21 = v18 * v20
        return (v21,)


@triton.jit
def lstm_forward(z, state, p, drop, units, H: tl.constexpr, group):
    v1 = tl.sigmoid(z[3])
    v3 = tl.sigmoid(z[1])
    v4 = state[1] * v3
    v6 = tl.sigmoid(z[0])
    v8 = tanh(z[2])
    v9 = drop * v8
    v10 = v6 * v9
    v11 = v4 + v10
    v12 = tanh(v11)
    v13 = v1 * v12
    return (v13, v11), (v11, v8, v1, v6, v3), ()


@triton.jit
def lstm_backward(saved, row, before, after, grad, p, drop, units, H: tl.constexpr, group):
    v9 = drop * saved[1]
    v15 = saved[2] * grad[0]
    v12 = tanh(saved[0])
    v16 = v12 * v12
    v17 = 1.0 - v16
    v18 = v15 * v17
    v19 = v18 + grad[1]
    v20 = v9 * v19
    v27 = 1.0 - saved[3]
    v28 = saved[3] * v27
    v29 = v20 * v28
    v31 = before[1] * v19
    v32 = 1.0 - saved[4]
    v33 = saved[4] * v32
    v34 = v31 * v33
    v21 = saved[3] * v19
    v23 = drop * v21
    v24 = saved[1] * saved[1]
    v25 = 1.0 - v24
    v26 = v23 * v25
    v14 = v12 * grad[0]
    v35 = 1.0 - saved[2]
    v36 = saved[2] * v35
    v37 = v14 * v36
    v30 = saved[4] * v19
    return (v29, v34, v26, v37), (), (full_like(0.0, grad[0]), v30)


@triton.jit
def layer_norm_lstm_forward(z, state, p, drop, units, H: tl.constexpr, group):
    v0 = z[0] + z[1]
    v1 = z[2] + v0
    v2 = z[3] + v1
    v3 = 0.25 * v2
    v23 = z[4] + z[5]
    v24 = z[6] + v23
    v25 = z[7] + v24
    v26 = 0.25 * v25
    (mean4, mean5) = means((v3, v26), (4, 5), units, H, group, 0)
    v9 = z[0] - mean4
    v7 = z[2] - mean4
    v11 = z[1] - mean4
    v5 = z[3] - mean4
    v32 = z[4] - mean5
    v30 = z[6] - mean5
    v34 = z[5] - mean5
    v28 = z[7] - mean5
    v6 = v5 * v5
    v8 = v7 * v7
    v10 = v9 * v9
    v12 = v11 * v11
    v13 = v10 + v12
    v14 = v8 + v13
    v15 = v6 + v14
    v16 = 0.25 * v15
    v29 = v28 * v28
    v31 = v30 * v30
    v33 = v32 * v32
    v35 = v34 * v34
    v36 = v33 + v35
    v37 = v31 + v36
    v38 = v29 + v37
    v39 = 0.25 * v38
    (mean2, mean3) = means((v16, v39), (2, 3), units, H, group, 1)
    v18 = 1e-05 + mean2
    v19 = 1.0 / tl.sqrt(v18)
    v48 = v11 * v19
    v49 = p[9] * v48
    v50 = p[1] + v49
    v41 = 1e-05 + mean3
    v42 = 1.0 / tl.sqrt(v41)
    v51 = v34 * v42
    v52 = p[13] * v51
    v53 = p[5] + v52
    v54 = v50 + v53
    v55 = tl.sigmoid(v54)
    v56 = state[1] * v55
    v57 = v9 * v19
    v58 = p[8] * v57
    v59 = p[0] + v58
    v60 = v32 * v42
    v61 = p[12] * v60
    v62 = p[4] + v61
    v63 = v59 + v62
    v64 = tl.sigmoid(v63)
    v65 = v7 * v19
    v66 = p[10] * v65
    v67 = p[2] + v66
    v68 = v30 * v42
    v69 = p[14] * v68
    v70 = p[6] + v69
    v71 = v67 + v70
    v72 = tanh(v71)
    v73 = drop * v72
    v74 = v64 * v73
    v75 = v56 + v74
    v20 = v5 * v19
    v21 = p[11] * v20
    v22 = p[3] + v21
    v43 = v28 * v42
    v44 = p[15] * v43
    v45 = p[7] + v44
    v46 = v22 + v45
    v47 = tl.sigmoid(v46)
    (mean1,) = means((v75,), (1,), units, H, group, 2)
    v77 = v75 - mean1
    v78 = v77 * v77
    (mean0,) = means((v78,), (0,), units, H, group, 3)
    v80 = 1e-05 + mean0
    v81 = 1.0 / tl.sqrt(v80)
    v82 = v77 * v81
    v83 = p[16] * v82
    v84 = p[17] + v83
    v85 = tanh(v84)
    v86 = v47 * v85
    return (v86, v75), (v75, v9, v7, v64, v47, v85, v72, v11, v55, v5, v32, v30, v34, v28), (mean1, v81, v19, v42)


@triton.jit
def layer_norm_lstm_backward(saved, row, before, after, grad, p, drop, units, H: tl.constexpr, group):
    v87 = saved[5] * grad[0]
    v151 = 1.0 - saved[4]
    v152 = saved[4] * v151
    v153 = v87 * v152
    v20 = saved[9] * row[2]
    v192 = v20 * v153
    v43 = saved[13] * row[3]
    v154 = v43 * v153
    v77 = saved[0] - row[0]
    v82 = v77 * row[1]
    v88 = saved[4] * grad[0]
    v89 = saved[5] * saved[5]
    v90 = 1.0 - v89
    v91 = v88 * v90
    v92 = v82 * v91
    v193 = p[11] * v153
    v194 = row[2] * v193
    v155 = p[15] * v153
    v156 = row[3] * v155
    v195 = saved[9] * v193
    v197 = row[2] * row[2]
    v198 = row[2] * v197
    v199 = -0.5 * v198
    v157 = saved[13] * v155
    v159 = row[3] * row[3]
    v160 = row[3] * v159
    v161 = -0.5 * v160
    v93 = p[16] * v91
    v95 = v77 * v93
    v96 = row[1] * row[1]
    v97 = row[1] * v96
    v98 = -0.5 * v97
    v99 = v95 * v98
    v94 = row[1] * v93
    (mean5,) = means((v99,), (5,), units, H, group, 0)
    v101 = v77 * mean5
    v102 = v94 + v101
    v103 = v101 + v102
    v105 = v103 + grad[1]
    v104 = -v103
    (mean4,) = means((v104,), (4,), units, H, group, 1)
    v73 = drop * saved[6]
    v107 = v105 + mean4
    v108 = v73 * v107
    v123 = 1.0 - saved[3]
    v124 = saved[3] * v123
    v125 = v108 * v124
    v137 = before[1] * v107
    v138 = 1.0 - saved[8]
    v139 = saved[8] * v138
    v140 = v137 * v139
    v109 = saved[3] * v107
    v111 = drop * v109
    v112 = saved[6] * saved[6]
    v113 = 1.0 - v112
    v114 = v111 * v113
    v57 = saved[1] * row[2]
    v131 = v57 * v125
    v48 = saved[7] * row[2]
    v146 = v48 * v140
    v65 = saved[2] * row[2]
    v119 = v65 * v114
    v60 = saved[10] * row[3]
    v126 = v60 * v125
    v51 = saved[12] * row[3]
    v141 = v51 * v140
    v68 = saved[11] * row[3]
    v115 = v68 * v114
    v136 = saved[8] * v107
    v120 = p[10] * v114
    v122 = saved[2] * v120
    v132 = p[8] * v125
    v134 = saved[1] * v132
    v135 = v122 + v134
    v147 = p[9] * v140
    v149 = saved[7] * v147
    v150 = v135 + v149
    v196 = v150 + v195
    v200 = v196 * v199
    v133 = row[2] * v132
    v148 = row[2] * v147
    v121 = row[2] * v120
    v116 = p[14] * v114
    v118 = saved[11] * v116
    v127 = p[12] * v125
    v129 = saved[10] * v127
    v130 = v118 + v129
    v142 = p[13] * v140
    v144 = saved[12] * v142
    v145 = v130 + v144
    v158 = v145 + v157
    v162 = v158 * v161
    v128 = row[3] * v127
    v143 = row[3] * v142
    v117 = row[3] * v116
    (mean2, mean3) = means((v200, v162), (2, 3), units, H, group, 2)
    v203 = 0.25 * mean2
    v208 = saved[1] * v203
    v209 = v133 + v208
    v210 = v208 + v209
    v204 = saved[7] * v203
    v205 = v148 + v204
    v206 = v204 + v205
    v207 = -v206
    v212 = v207 - v210
    v213 = saved[2] * v203
    v214 = v121 + v213
    v215 = v213 + v214
    v217 = v212 - v215
    v218 = saved[9] * v203
    v219 = v194 + v218
    v220 = v218 + v219
    v222 = v217 - v220
    v165 = 0.25 * mean3
    v170 = saved[10] * v165
    v171 = v128 + v170
    v172 = v170 + v171
    v166 = saved[12] * v165
    v167 = v143 + v166
    v168 = v166 + v167
    v169 = -v168
    v174 = v169 - v172
    v175 = saved[11] * v165
    v176 = v117 + v175
    v177 = v175 + v176
    v179 = v174 - v177
    v180 = saved[13] * v165
    v181 = v156 + v180
    v182 = v180 + v181
    v184 = v179 - v182
    (mean0, mean1) = means((v222, v184), (0, 1), units, H, group, 3)
    v225 = 0.25 * mean0
    v228 = v210 + v225
    v229 = v206 + v225
    v227 = v215 + v225
    v226 = v220 + v225
    v187 = 0.25 * mean1
    v190 = v172 + v187
    v191 = v168 + v187
    v189 = v177 + v187
    v188 = v182 + v187
    return (v228, v229, v227, v226, v190, v191, v189, v188), (v125, v140, v114, v153, v125, v140, v114, v153, v131, v146, v119, v192, v126, v141, v115, v154, v92, v91), (full_like(0.0, grad[0]), v136)


@triton.jit
def layer_norm_gru_forward(z, state, p, drop, units, H: tl.constexpr, group):
    v0 = z[0] + z[1]
    v1 = 0.5 * v0
    v15 = z[3] + z[4]
    v16 = 0.5 * v15
    (mean4, mean5, mean6, mean7) = means((v1, z[2], v16, z[5]), (4, 5, 6, 7), units, H, group, 0)
    v4 = z[0] - mean4
    v3 = z[1] - mean4
    v34 = z[2] - mean5
    v19 = z[3] - mean6
    v18 = z[4] - mean6
    v43 = z[5] - mean7
    v5 = v4 * v4
    v6 = v3 * v3
    v7 = v5 + v6
    v8 = 0.5 * v7
    v20 = v19 * v19
    v21 = v18 * v18
    v22 = v20 + v21
    v23 = 0.5 * v22
    v35 = v34 * v34
    v44 = v43 * v43
    (mean0, mean1, mean2, mean3) = means((v8, v23, v35, v44), (0, 1, 2, 3), units, H, group, 1)
    v10 = 1e-05 + mean0
    v11 = 1.0 / tl.sqrt(v10)
    v12 = v3 * v11
    v13 = p[7] * v12
    v14 = p[1] + v13
    v25 = 1e-05 + mean1
    v26 = 1.0 / tl.sqrt(v25)
    v27 = v18 * v26
    v28 = p[10] * v27
    v29 = p[4] + v28
    v30 = v14 + v29
    v31 = tl.sigmoid(v30)
    v32 = 1.0 - v31
    v37 = 1e-05 + mean2
    v38 = 1.0 / tl.sqrt(v37)
    v39 = v34 * v38
    v40 = p[8] * v39
    v41 = p[2] + v40
    v46 = 1e-05 + mean3
    v47 = 1.0 / tl.sqrt(v46)
    v48 = v43 * v47
    v49 = p[11] * v48
    v50 = p[5] + v49
    v51 = v4 * v11
    v52 = p[6] * v51
    v53 = p[0] + v52
    v54 = v19 * v26
    v55 = p[9] * v54
    v56 = p[3] + v55
    v57 = v53 + v56
    v58 = tl.sigmoid(v57)
    v59 = v50 * v58
    v60 = v41 + v59
    v61 = tanh(v60)
    v62 = drop * v61
    v63 = v32 * v62
    v64 = state[0] * v31
    v65 = v63 + v64
    return (v65,), (v4, v48, v31, v61, v58, v3, v34, v19, v18, v43), (v11, v38, v26, v47)


@triton.jit
def layer_norm_gru_backward(saved, row, before, after, grad, p, drop, units, H: tl.constexpr, group):
    v49 = p[11] * saved[1]
    v50 = p[5] + v49
    v32 = 1.0 - saved[2]
    v69 = v32 * grad[0]
    v71 = drop * v69
    v72 = saved[3] * saved[3]
    v73 = 1.0 - v72
    v74 = v71 * v73
    v76 = v50 * v74
    v77 = 1.0 - saved[4]
    v78 = saved[4] * v77
    v79 = v76 * v78
    v67 = before[0] * grad[0]
    v62 = drop * saved[3]
    v68 = v62 * grad[0]
    v119 = v67 - v68
    v120 = saved[2] * v32
    v121 = v119 * v120
    v75 = saved[4] * v74
    v51 = saved[0] * row[0]
    v84 = v51 * v79
    v12 = saved[5] * row[0]
    v148 = v12 * v121
    v39 = saved[6] * row[1]
    v103 = v39 * v74
    v54 = saved[7] * row[2]
    v80 = v54 * v79
    v27 = saved[8] * row[2]
    v122 = v27 * v121
    v88 = saved[1] * v75
    v85 = p[6] * v79
    v87 = saved[0] * v85
    v149 = p[7] * v121
    v151 = saved[5] * v149
    v152 = v87 + v151
    v153 = row[0] * row[0]
    v154 = row[0] * v153
    v155 = -0.5 * v154
    v156 = v152 * v155
    v86 = row[0] * v85
    v150 = row[0] * v149
    v104 = p[8] * v74
    v106 = saved[6] * v104
    v107 = row[1] * row[1]
    v108 = row[1] * v107
    v109 = -0.5 * v108
    v110 = v106 * v109
    v105 = row[1] * v104
    v81 = p[9] * v79
    v83 = saved[7] * v81
    v123 = p[10] * v121
    v125 = saved[8] * v123
    v126 = v83 + v125
    v127 = row[2] * row[2]
    v128 = row[2] * v127
    v129 = -0.5 * v128
    v130 = v126 * v129
    v82 = row[2] * v81
    v124 = row[2] * v123
    v89 = p[11] * v75
    v91 = saved[9] * v89
    v92 = row[3] * row[3]
    v93 = row[3] * v92
    v94 = -0.5 * v93
    v95 = v91 * v94
    v90 = row[3] * v89
    (mean4, mean5, mean6, mean7) = means((v156, v110, v130, v95), (4, 5, 6, 7), units, H, group, 0)
    v159 = 0.5 * mean4
    v163 = saved[0] * v159
    v164 = v86 + v163
    v165 = v163 + v164
    v166 = -v165
    v160 = saved[5] * v159
    v161 = v150 + v160
    v162 = v160 + v161
    v168 = v166 - v162
    v112 = saved[6] * mean5
    v113 = v105 + v112
    v114 = v112 + v113
    v115 = -v114
    v133 = 0.5 * mean6
    v137 = saved[7] * v133
    v138 = v82 + v137
    v139 = v137 + v138
    v140 = -v139
    v134 = saved[8] * v133
    v135 = v124 + v134
    v136 = v134 + v135
    v142 = v140 - v136
    v97 = saved[9] * mean7
    v98 = v90 + v97
    v99 = v97 + v98
    v100 = -v99
    (mean0, mean1, mean2, mean3) = means((v168, v115, v142, v100), (0, 1, 2, 3), units, H, group, 1)
    v171 = 0.5 * mean0
    v172 = v165 + v171
    v173 = v162 + v171
    v117 = v114 + mean1
    v145 = 0.5 * mean2
    v146 = v139 + v145
    v147 = v136 + v145
    v102 = v99 + mean3
    v66 = saved[2] * grad[0]
    return (v172, v173, v117, v146, v147, v102), (v79, v121, v74, v79, v121, v75, v84, v148, v103, v80, v122, v88), (v66,)


@triton.jit
def peephole_lstm_forward(z, state, p, drop, units, H: tl.constexpr, group):
    v2 = state[1] * p[1]
    v3 = z[1] + v2
    v4 = tl.sigmoid(v3)
    v5 = state[1] * v4
    v7 = state[1] * p[0]
    v8 = z[0] + v7
    v9 = tl.sigmoid(v8)
    v11 = tanh(z[2])
    v12 = drop * v11
    v13 = v9 * v12
    v14 = v5 + v13
    v15 = p[2] * v14
    v16 = z[3] + v15
    v17 = tl.sigmoid(v16)
    v18 = tanh(v14)
    v19 = v17 * v18
    return (v19, v14), (v14, v11, v17, v9, v4), ()


@triton.jit
def peephole_lstm_backward(saved, row, before, after, grad, p, drop, units, H: tl.constexpr, group):
    v12 = drop * saved[1]
    v21 = saved[2] * grad[0]
    v18 = tanh(saved[0])
    v22 = v18 * v18
    v23 = 1.0 - v22
    v24 = v21 * v23
    v25 = v24 + grad[1]
    v20 = v18 * grad[0]
    v26 = 1.0 - saved[2]
    v27 = saved[2] * v26
    v28 = v20 * v27
    v30 = p[2] * v28
    v31 = v25 + v30
    v32 = v12 * v31
    v39 = 1.0 - saved[3]
    v40 = saved[3] * v39
    v41 = v32 * v40
    v45 = before[1] * v31
    v47 = 1.0 - saved[4]
    v48 = saved[4] * v47
    v49 = v45 * v48
    v33 = saved[3] * v31
    v35 = drop * v33
    v36 = saved[1] * saved[1]
    v37 = 1.0 - v36
    v38 = v35 * v37
    v43 = before[1] * v41
    v51 = before[1] * v49
    v29 = saved[0] * v28
    v42 = p[0] * v41
    v44 = saved[4] * v31
    v46 = v42 + v44
    v50 = p[1] * v49
    v52 = v46 + v50
    return (v41, v49, v38, v28), (v43, v51, v29), (full_like(0.0, grad[0]), v52)


@triton.jit
def coupled_lstm_forward(z, state, p, drop, units, H: tl.constexpr, group):
    v1 = tl.sigmoid(z[2])
    v3 = tl.sigmoid(z[0])
    v4 = state[1] * v3
    v5 = 1.0 - v3
    v7 = tanh(z[1])
    v8 = drop * v7
    v9 = v5 * v8
    v10 = v4 + v9
    v11 = tanh(v10)
    v12 = v1 * v11
    return (v12, v10), (v10, v1, v7, v3), ()


@triton.jit
def coupled_lstm_backward(saved, row, before, after, grad, p, drop, units, H: tl.constexpr, group):
    v14 = saved[1] * grad[0]
    v11 = tanh(saved[0])
    v15 = v11 * v11
    v16 = 1.0 - v15
    v17 = v14 * v16
    v18 = v17 + grad[1]
    v28 = before[1] * v18
    v8 = drop * saved[2]
    v19 = v8 * v18
    v29 = v28 - v19
    v5 = 1.0 - saved[3]
    v30 = saved[3] * v5
    v31 = v29 * v30
    v20 = v5 * v18
    v22 = drop * v20
    v23 = saved[2] * saved[2]
    v24 = 1.0 - v23
    v25 = v22 * v24
    v13 = v11 * grad[0]
    v32 = 1.0 - saved[1]
    v33 = saved[1] * v32
    v34 = v13 * v33
    v27 = saved[3] * v18
    return (v31, v25, v34), (), (full_like(0.0, grad[0]), v27)


@triton.jit
def light_lstm_forward(z, state, p, drop, units, H: tl.constexpr, group):
    v1 = tl.sigmoid(z[0])
    v2 = state[1] * v1
    v4 = tanh(z[1])
    v5 = drop * v4
    v6 = v2 + v5
    v7 = tanh(v6)
    return (v7, v6), (v6, v1, v4), ()


@triton.jit
def light_lstm_backward(saved, row, before, after, grad, p, drop, units, H: tl.constexpr, group):
    v8 = after * after
    v9 = 1.0 - v8
    v10 = v9 * grad[0]
    v11 = v10 + grad[1]
    v18 = before[1] * v11
    v19 = 1.0 - saved[1]
    v20 = saved[1] * v19
    v21 = v18 * v20
    v13 = drop * v11
    v14 = saved[2] * saved[2]
    v15 = 1.0 - v14
    v16 = v13 * v15
    v17 = saved[1] * v11
    return (v21, v16), (), (full_like(0.0, grad[0]), v17)


@triton.jit
def mgu_forward(z, state, p, drop, units, H: tl.constexpr, group):
    v1 = tl.sigmoid(z[1])
    v2 = 1.0 - v1
    v3 = state[0] * v2
    v4 = z[2] * v1
    v5 = z[0] + v4
    v6 = tanh(v5)
    v7 = drop * v6
    v8 = v1 * v7
    v9 = v3 + v8
    return (v9,), (v6, z[2], v1), ()


@triton.jit
def mgu_backward(saved, row, before, after, grad, p, drop, units, H: tl.constexpr, group):
    v11 = saved[2] * grad[0]
    v13 = drop * v11
    v14 = saved[0] * saved[0]
    v15 = 1.0 - v14
    v16 = v13 * v15
    v7 = drop * saved[0]
    v10 = v7 * grad[0]
    v18 = saved[1] * v16
    v19 = v10 + v18
    v21 = before[0] * grad[0]
    v23 = v19 - v21
    v2 = 1.0 - saved[2]
    v24 = saved[2] * v2
    v25 = v23 * v24
    v17 = saved[2] * v16
    v20 = v2 * grad[0]
    return (v16, v25, v17), (), (v20,)


@triton.jit
def mgu_reset_before_forward(z, state, p, drop, units, H: tl.constexpr, group):
    v1 = tl.sigmoid(z[0])
    v4 = state[0] * v1
    v2 = 1.0 - v1
    v3 = state[0] * v2
    v7 = tanh(z[1])
    v8 = drop * v7
    v9 = v1 * v8
    v10 = v3 + v9
    return (v10,), (v7, v1), ()


@triton.jit
def mgu_reset_before_backward(saved, row, before, after, grad, p, drop, e, units, H: tl.constexpr, group):
    v12 = saved[1] * grad[0]
    v14 = drop * v12
    v15 = saved[0] * saved[0]
    v16 = 1.0 - v15
    v17 = v14 * v16
    v4 = before[0] * saved[1]
    v8 = drop * saved[0]
    v11 = v8 * grad[0]
    v19 = before[0] * e[0]
    v20 = v11 + v19
    v22 = before[0] * grad[0]
    v25 = v20 - v22
    v2 = 1.0 - saved[1]
    v26 = saved[1] * v2
    v27 = v25 * v26
    v18 = saved[1] * e[0]
    v21 = v2 * grad[0]
    v23 = v18 + v21
    return (v27, v17), (), (v23,), (v4,)


@triton.jit
def mgu_reset_before_operand(z, state, p, drop, units, H: tl.constexpr, group, stage: tl.constexpr):
    if stage == 0:
        v1 = tl.sigmoid(z[0])
        v4 = state[0] * v1
        return (v4,)


@triton.jit
def mgu_reset_before_late_gradient(saved, row, before, after, grad, p, drop, e, units, H: tl.constexpr, group, stage: tl.constexpr):
    if stage == 0:
        v12 = saved[1] * grad[0]
        v14 = drop * v12
        v15 = saved[0] * saved[0]
        v16 = 1.0 - v15
        v17 = v14 * v16
        return (v17,)


@triton.jit
def indrnn_relu_forward(z, state, p, drop, units, H: tl.constexpr, group):
    v0 = state[0] * drop
    v1 = p[0] * v0
    v2 = z[0] + v1
    v3 = tl.where(v2 > 0, v2, 0.0)
    return (v3,), (), ()


@triton.jit
def indrnn_relu_backward(saved, row, before, after, grad, p, drop, units, H: tl.constexpr, group):
    v4 = tl.where(after > 0, grad[0], 0.0)
    v0 = before[0] * drop
    v5 = v0 * v4
    v6 = p[0] * v4
    v7 = drop * v6
    return (v4,), (v5,), (v7,)


@triton.jit
def indrnn_tanh_forward(z, state, p, drop, units, H: tl.constexpr, group):
    v0 = state[0] * drop
    v1 = p[0] * v0
    v2 = z[0] + v1
    v3 = tanh(v2)
    return (v3,), (), ()


@triton.jit
def indrnn_tanh_backward(saved, row, before, after, grad, p, drop, units, H: tl.constexpr, group):
    v4 = after * after
    v5 = 1.0 - v4
    v6 = v5 * grad[0]
    v0 = before[0] * drop
    v7 = v0 * v6
    v8 = p[0] * v6
    v9 = drop * v8
    return (v6,), (v7,), (v9,)


@triton.jit
def min_gru_forward(z, state, p, drop, units, H: tl.constexpr, group):
    v0 = tl.sigmoid(z[0])
    v1 = state[0] * v0
    v2 = 1.0 - v0
    v3 = z[1] * v2
    v4 = drop * v3
    v5 = v1 + v4
    return (v5,), (z[1], v0), ()


@triton.jit
def min_gru_backward(saved, row, before, after, grad, p, drop, units, H: tl.constexpr, group):
    v12 = before[0] * grad[0]
    v7 = drop * grad[0]
    v9 = saved[0] * v7
    v13 = v12 - v9
    v2 = 1.0 - saved[1]
    v14 = saved[1] * v2
    v15 = v13 * v14
    v8 = v2 * v7
    v11 = saved[1] * grad[0]
    return (v15, v8), (), (v11,)


@triton.jit
def min_lstm_forward(z, state, p, drop, units, H: tl.constexpr, group):
    v0 = -z[0]
    v1 = softplus(v0)
    v2 = -z[1]
    v3 = softplus(v2)
    v4 = v1 - v3
    v5 = tl.sigmoid(v4)
    v6 = state[0] * v5
    v7 = -v4
    v8 = tl.sigmoid(v7)
    v9 = z[2] * v8
    v10 = drop * v9
    v11 = v6 + v10
    return (v11,), (v5, z[2], v8, z[0], z[1]), ()


@triton.jit
def min_lstm_backward(saved, row, before, after, grad, p, drop, units, H: tl.constexpr, group):
    v21 = before[0] * grad[0]
    v22 = 1.0 - saved[0]
    v23 = saved[0] * v22
    v24 = v21 * v23
    v13 = drop * grad[0]
    v15 = saved[1] * v13
    v16 = 1.0 - saved[2]
    v17 = saved[2] * v16
    v18 = v15 * v17
    v25 = v24 - v18
    v0 = -saved[3]
    v30 = tl.sigmoid(v0)
    v31 = v25 * v30
    v32 = -v31
    v26 = -v25
    v2 = -saved[4]
    v27 = tl.sigmoid(v2)
    v28 = v26 * v27
    v29 = -v28
    v14 = saved[2] * v13
    v20 = saved[0] * grad[0]
    return (v32, v29, v14), (), (v20,)


@triton.jit
def slstm_forward(z, state, p, drop, units, H: tl.constexpr, group):
    v1 = tl.sigmoid(z[3])
    v3 = -z[1]
    v4 = softplus(v3)
    v5 = state[3] - v4
    v7 = v5 - z[0]
    v8 = -v7
    v9 = z[0] + v5
    v10 = 0.5 * v9
    v11 = tl.where(v8 > 0, z[0], v10)
    v12 = tl.where(v7 > 0, v5, v11)
    v13 = v5 - v12
    v14 = tl.exp(v13)
    v15 = state[1] * v14
    v16 = z[0] - v12
    v17 = tl.exp(v16)
    v19 = tanh(z[2])
    v20 = drop * v19
    v21 = v17 * v20
    v22 = v15 + v21
    v23 = v1 * v22
    v24 = state[2] * v14
    v25 = v17 + v24
    v26 = v23 / v25
    return (v26, v22, v25, v12), (v22, v25, v12, v17, v19, v1, v7, v14, z[1]), ()


@triton.jit
def slstm_backward(saved, row, before, after, grad, p, drop, units, H: tl.constexpr, group):
    v28 = after * grad[0]
    v29 = v28 / saved[1]
    v31 = grad[2] - v29
    v20 = drop * saved[4]
    v27 = grad[0] / saved[1]
    v35 = saved[5] * v27
    v36 = v35 + grad[1]
    v37 = v20 * v36
    v39 = v31 + v37
    v45 = saved[3] * v39
    v8 = -saved[6]
    v47 = grad[3] - v45
    v33 = before[2] * v31
    v49 = before[1] * v36
    v50 = v33 + v49
    v51 = saved[7] * v50
    v53 = v47 - v51
    v55 = tl.where(saved[6] > 0, 0.0, v53)
    v57 = tl.where(v8 > 0, v55, 0.0)
    v59 = v45 + v57
    v58 = tl.where(v8 > 0, 0.0, v55)
    v61 = 0.5 * v58
    v62 = v59 + v61
    v54 = tl.where(saved[6] > 0, v53, 0.0)
    v56 = v51 + v54
    v63 = v56 + v61
    v64 = -v63
    v3 = -saved[8]
    v65 = tl.sigmoid(v3)
    v66 = v64 * v65
    v67 = -v66
    v38 = saved[3] * v36
    v41 = drop * v38
    v42 = saved[4] * saved[4]
    v43 = 1.0 - v42
    v44 = v41 * v43
    v34 = saved[0] * v27
    v68 = 1.0 - saved[5]
    v69 = saved[5] * v68
    v70 = v34 * v69
    v48 = saved[7] * v36
    v32 = saved[7] * v31
    return (v62, v67, v44, v70), (), (full_like(0.0, grad[0]), v48, v32, v63)


@triton.jit
def multiplicative_lstm_forward(z, state, p, drop, units, H: tl.constexpr, group):
    v0 = z[0] * z[5]
    v3 = tl.sigmoid(z[4])
    v6 = tl.sigmoid(z[2])
    v7 = state[1] * v6
    v10 = tl.sigmoid(z[1])
    v13 = tanh(z[3])
    v14 = drop * v13
    v15 = v10 * v14
    v16 = v7 + v15
    v17 = tanh(v16)
    v18 = v3 * v17
    return (v18, v16), (v16, z[5], v13, v3, v10, v6, z[0]), ()


@triton.jit
def multiplicative_lstm_backward(saved, row, before, after, grad, p, drop, e, units, H: tl.constexpr, group):
    v14 = drop * saved[2]
    v20 = saved[3] * grad[0]
    v17 = tanh(saved[0])
    v21 = v17 * v17
    v22 = 1.0 - v21
    v23 = v20 * v22
    v24 = v23 + grad[1]
    v25 = v14 * v24
    v32 = 1.0 - saved[4]
    v33 = saved[4] * v32
    v34 = v25 * v33
    v36 = before[1] * v24
    v37 = 1.0 - saved[5]
    v38 = saved[5] * v37
    v39 = v36 * v38
    v26 = saved[4] * v24
    v28 = drop * v26
    v29 = saved[2] * saved[2]
    v30 = 1.0 - v29
    v31 = v28 * v30
    v19 = v17 * grad[0]
    v40 = 1.0 - saved[3]
    v41 = saved[3] * v40
    v42 = v19 * v41
    v0 = saved[6] * saved[1]
    v35 = saved[5] * v24
    v43 = saved[1] * e[0]
    v44 = saved[6] * e[0]
    return (v43, v34, v39, v31, v42, v44), (), (full_like(0.0, grad[0]), v35), (v0,)


@triton.jit
def multiplicative_lstm_operand(z, state, p, drop, units, H: tl.constexpr, group, stage: tl.constexpr):
    if stage == 0:
        v0 = z[0] * z[5]
        return (v0,)


@triton.jit
def multiplicative_lstm_late_gradient(saved, row, before, after, grad, p, drop, e, units, H: tl.constexpr, group, stage: tl.constexpr):
    if stage == 0:
        v17 = tanh(saved[0])
        v19 = v17 * grad[0]
        v40 = 1.0 - saved[3]
        v41 = saved[3] * v40
        v42 = v19 * v41
        v20 = saved[3] * grad[0]
        v21 = v17 * v17
        v22 = 1.0 - v21
        v23 = v20 * v22
        v24 = v23 + grad[1]
        v36 = before[1] * v24
        v37 = 1.0 - saved[5]
        v38 = saved[5] * v37
        v39 = v36 * v38
        v14 = drop * saved[2]
        v25 = v14 * v24
        v32 = 1.0 - saved[4]
        v33 = saved[4] * v32
        v34 = v25 * v33
        v26 = saved[4] * v24
        v28 = drop * v26
        v29 = saved[2] * saved[2]
        v30 = 1.0 - v29
        v31 = v28 * v30
        return (v34, v39, v31, v42)


@triton.jit
def rhn_forward(z, state, p, drop, units, H: tl.constexpr, group):
    v1 = tl.sigmoid(z[1])
    v3 = tanh(z[0])
    v4 = drop * v3
    v5 = v1 * v4
    v6 = 1.0 - v1
    v7 = state[0] * v6
    v8 = v5 + v7
    v10 = tl.sigmoid(z[3])
    v12 = tanh(z[2])
    v13 = drop * v12
    v14 = v10 * v13
    v15 = 1.0 - v10
    v16 = v8 * v15
    v17 = v14 + v16
    v19 = tl.sigmoid(z[5])
    v21 = tanh(z[4])
    v22 = drop * v21
    v23 = v19 * v22
    v24 = 1.0 - v19
    v25 = v17 * v24
    v26 = v23 + v25
    return (v26,), (v1, v10, v19, v3, v12, v21), ()


@triton.jit
def rhn_backward(saved, row, before, after, grad, p, drop, e, units, H: tl.constexpr, group):
    v31 = saved[2] * grad[0]
    v34 = drop * v31
    v35 = saved[5] * saved[5]
    v36 = 1.0 - v35
    v37 = v34 * v36
    v22 = drop * saved[5]
    v30 = v22 * grad[0]
    v13 = drop * saved[4]
    v14 = saved[1] * v13
    v4 = drop * saved[3]
    v5 = saved[0] * v4
    v6 = 1.0 - saved[0]
    v7 = before[0] * v6
    v8 = v5 + v7
    v15 = 1.0 - saved[1]
    v16 = v8 * v15
    v17 = v14 + v16
    v28 = v17 * grad[0]
    v32 = v30 - v28
    v24 = 1.0 - saved[2]
    v38 = saved[2] * v24
    v39 = v32 * v38
    v27 = v24 * grad[0]
    v40 = v27 + e[1]
    v45 = saved[1] * v40
    v48 = drop * v45
    v50 = saved[4] * saved[4]
    v51 = 1.0 - v50
    v52 = v48 * v51
    v44 = v13 * v40
    v42 = v8 * v40
    v46 = v44 - v42
    v53 = saved[1] * v15
    v54 = v46 * v53
    v41 = v15 * v40
    v55 = v41 + e[0]
    v60 = saved[0] * v55
    v63 = drop * v60
    v65 = saved[3] * saved[3]
    v66 = 1.0 - v65
    v67 = v63 * v66
    v59 = v4 * v55
    v57 = before[0] * v55
    v61 = v59 - v57
    v68 = saved[0] * v6
    v69 = v61 * v68
    v56 = v6 * v55
    return (v67, v69, v52, v54, v37, v39), (), (v56,), (v8, v17)


@triton.jit
def rhn_operand(z, state, p, drop, units, H: tl.constexpr, group, stage: tl.constexpr):
    if stage == 0:
        v1 = tl.sigmoid(z[1])
        v3 = tanh(z[0])
        v4 = drop * v3
        v5 = v1 * v4
        v6 = 1.0 - v1
        v7 = state[0] * v6
        v8 = v5 + v7
        return (v8,)
    elif stage == 1:
        v10 = tl.sigmoid(z[3])
        v12 = tanh(z[2])
        v13 = drop * v12
        v14 = v10 * v13
        v1 = tl.sigmoid(z[1])
        v3 = tanh(z[0])
        v4 = drop * v3
        v5 = v1 * v4
        v6 = 1.0 - v1
        v7 = state[0] * v6
        v8 = v5 + v7
        v15 = 1.0 - v10
        v16 = v8 * v15
        v17 = v14 + v16
        return (v17,)


@triton.jit
def rhn_late_gradient(saved, row, before, after, grad, p, drop, e, units, H: tl.constexpr, group, stage: tl.constexpr):
    if stage == 0:
        v13 = drop * saved[4]
        v24 = 1.0 - saved[2]
        v27 = v24 * grad[0]
        v40 = v27 + e[1]
        v44 = v13 * v40
        v4 = drop * saved[3]
        v5 = saved[0] * v4
        v6 = 1.0 - saved[0]
        v7 = before[0] * v6
        v8 = v5 + v7
        v42 = v8 * v40
        v46 = v44 - v42
        v15 = 1.0 - saved[1]
        v53 = saved[1] * v15
        v54 = v46 * v53
        v45 = saved[1] * v40
        v48 = drop * v45
        v50 = saved[4] * saved[4]
        v51 = 1.0 - v50
        v52 = v48 * v51
        return (v52, v54)
    elif stage == 1:
        v22 = drop * saved[5]
        v30 = v22 * grad[0]
        v13 = drop * saved[4]
        v14 = saved[1] * v13
        v4 = drop * saved[3]
        v5 = saved[0] * v4
        v6 = 1.0 - saved[0]
        v7 = before[0] * v6
        v8 = v5 + v7
        v15 = 1.0 - saved[1]
        v16 = v8 * v15
        v17 = v14 + v16
        v28 = v17 * grad[0]
        v32 = v30 - v28
        v24 = 1.0 - saved[2]
        v38 = saved[2] * v24
        v39 = v32 * v38
        v31 = saved[2] * grad[0]
        v34 = drop * v31
        v35 = saved[5] * saved[5]
        v36 = 1.0 - v35
        v37 = v34 * v36
        return (v37, v39)


@triton.jit
def lem_forward(z, state, p, drop, units, H: tl.constexpr, group):
    v5 = tl.sigmoid(z[0])
    v6 = 1.0 - v5
    v7 = state[1] * v6
    v9 = tanh(z[2])
    v10 = drop * v9
    v11 = v5 * v10
    v12 = v7 + v11
    v1 = tl.sigmoid(z[1])
    v2 = 1.0 - v1
    v3 = state[0] * v2
    v15 = tanh(z[3])
    v16 = drop * v15
    v17 = v1 * v16
    v18 = v3 + v17
    return (v18, v12), (v12, v9, v5, v15, v1), ()


@triton.jit
def lem_backward(saved, row, before, after, grad, p, drop, e, units, H: tl.constexpr, group):
    v16 = drop * saved[3]
    v19 = v16 * grad[0]
    v42 = before[0] * grad[0]
    v44 = v19 - v42
    v2 = 1.0 - saved[4]
    v45 = saved[4] * v2
    v46 = v44 * v45
    v20 = saved[4] * grad[0]
    v22 = drop * v20
    v23 = saved[3] * saved[3]
    v24 = 1.0 - v23
    v25 = v22 * v24
    v10 = drop * saved[1]
    v26 = grad[1] + e[0]
    v27 = v10 * v26
    v36 = before[1] * v26
    v38 = v27 - v36
    v6 = 1.0 - saved[2]
    v39 = saved[2] * v6
    v40 = v38 * v39
    v28 = saved[2] * v26
    v30 = drop * v28
    v32 = saved[1] * saved[1]
    v33 = 1.0 - v32
    v34 = v30 * v33
    v41 = v2 * grad[0]
    v35 = v6 * v26
    return (v40, v46, v34, v25), (), (v41, v35), (saved[0],)


@triton.jit
def lem_operand(z, state, p, drop, units, H: tl.constexpr, group, stage: tl.constexpr):
    if stage == 0:
        v5 = tl.sigmoid(z[0])
        v6 = 1.0 - v5
        v7 = state[1] * v6
        v9 = tanh(z[2])
        v10 = drop * v9
        v11 = v5 * v10
        v12 = v7 + v11
        return (v12,)


@triton.jit
def lem_late_gradient(saved, row, before, after, grad, p, drop, e, units, H: tl.constexpr, group, stage: tl.constexpr):
    if stage == 0:
        v20 = saved[4] * grad[0]
        v22 = drop * v20
        v23 = saved[3] * saved[3]
        v24 = 1.0 - v23
        v25 = v22 * v24
        return (v25,)


@triton.jit
def ugrnn_forward(z, state, p, drop, units, H: tl.constexpr, group):
    v1 = tl.sigmoid(z[0])
    v2 = state[0] * v1
    v3 = 1.0 - v1
    v5 = tanh(z[1])
    v6 = drop * v5
    v7 = v3 * v6
    v8 = v2 + v7
    return (v8,), (v5, v1), ()


@triton.jit
def ugrnn_backward(saved, row, before, after, grad, p, drop, units, H: tl.constexpr, group):
    v18 = before[0] * grad[0]
    v6 = drop * saved[0]
    v9 = v6 * grad[0]
    v19 = v18 - v9
    v3 = 1.0 - saved[1]
    v20 = saved[1] * v3
    v21 = v19 * v20
    v10 = v3 * grad[0]
    v12 = drop * v10
    v13 = saved[0] * saved[0]
    v14 = 1.0 - v13
    v15 = v12 * v14
    v17 = saved[1] * grad[0]
    return (v21, v15), (), (v17,)
