# Written by cells/write_kernels.py from the cells' equations: `make kernels`.
# ruff: noqa
# fmt: off
PROGRAMS = {
    "rnn_tanh": """\
gates 1 hidden 1 states 1 parameters 0
v0 = add x0 h0
v1 = tanh v0
return v1""",
    "rnn_relu": """\
gates 1 hidden 1 states 1 parameters 0
v0 = add x0 h0
v1 = relu v0
return v1""",
    "gru": """\
gates 3 hidden 1 states 1 parameters 0
v0 = add x1 h1
v1 = sigmoid v0
v2 = sub 1.0 v1
v3 = add x0 h0
v4 = sigmoid v3
v5 = mul h2 v4
v6 = add x2 v5
v7 = tanh v6
v8 = mul d0 v7
v9 = mul v2 v8
v10 = mul s0 v1
v11 = add v9 v10
return v11""",
    "gru_reset_before": """\
gates 3 hidden 1 states 1 parameters 0
v0 = add x1 h1
v1 = sigmoid v0
v2 = sub 1.0 v1
v3 = add x0 h0
v4 = sigmoid v3
v5 = mul s0 v4
v6 = product h2 v5
v7 = add x2 v6
v8 = tanh v7
v9 = mul d0 v8
v10 = mul v2 v9
v11 = mul s0 v1
v12 = add v10 v11
return v12""",
    "lstm": """\
gates 4 hidden 1 states 2 parameters 0
v0 = add x3 h3
v1 = sigmoid v0
v2 = add x1 h1
v3 = sigmoid v2
v4 = mul s1 v3
v5 = add x0 h0
v6 = sigmoid v5
v7 = add x2 h2
v8 = tanh v7
v9 = mul d0 v8
v10 = mul v6 v9
v11 = add v4 v10
v12 = tanh v11
v13 = mul v1 v12
return v13 v11""",
    "layer_norm_lstm": """\
gates 4 hidden 1 states 2 parameters 18
v0 = add x0 x1
v1 = add x2 v0
v2 = add x3 v1
v3 = mul 0.25 v2
v4 = mean v3
v5 = sub x3 v4
v6 = mul v5 v5
v7 = sub x2 v4
v8 = mul v7 v7
v9 = sub x0 v4
v10 = mul v9 v9
v11 = sub x1 v4
v12 = mul v11 v11
v13 = add v10 v12
v14 = add v8 v13
v15 = add v6 v14
v16 = mul 0.25 v15
v17 = mean v16
v18 = add 1e-05 v17
v19 = rsqrt v18
v20 = mul v5 v19
v21 = mul p11 v20
v22 = add p3 v21
v23 = add h0 h1
v24 = add h2 v23
v25 = add h3 v24
v26 = mul 0.25 v25
v27 = mean v26
v28 = sub h3 v27
v29 = mul v28 v28
v30 = sub h2 v27
v31 = mul v30 v30
v32 = sub h0 v27
v33 = mul v32 v32
v34 = sub h1 v27
v35 = mul v34 v34
v36 = add v33 v35
v37 = add v31 v36
v38 = add v29 v37
v39 = mul 0.25 v38
v40 = mean v39
v41 = add 1e-05 v40
v42 = rsqrt v41
v43 = mul v28 v42
v44 = mul p15 v43
v45 = add p7 v44
v46 = add v22 v45
v47 = sigmoid v46
v48 = mul v11 v19
v49 = mul p9 v48
v50 = add p1 v49
v51 = mul v34 v42
v52 = mul p13 v51
v53 = add p5 v52
v54 = add v50 v53
v55 = sigmoid v54
v56 = mul s1 v55
v57 = mul v9 v19
v58 = mul p8 v57
v59 = add p0 v58
v60 = mul v32 v42
v61 = mul p12 v60
v62 = add p4 v61
v63 = add v59 v62
v64 = sigmoid v63
v65 = mul v7 v19
v66 = mul p10 v65
v67 = add p2 v66
v68 = mul v30 v42
v69 = mul p14 v68
v70 = add p6 v69
v71 = add v67 v70
v72 = tanh v71
v73 = mul d0 v72
v74 = mul v64 v73
v75 = add v56 v74
v76 = mean v75
v77 = sub v75 v76
v78 = mul v77 v77
v79 = mean v78
v80 = add 1e-05 v79
v81 = rsqrt v80
v82 = mul v77 v81
v83 = mul p16 v82
v84 = add p17 v83
v85 = tanh v84
v86 = mul v47 v85
return v86 v75""",
    "layer_norm_gru": """\
gates 3 hidden 1 states 1 parameters 12
v0 = add x0 x1
v1 = mul 0.5 v0
v2 = mean v1
v3 = sub x1 v2
v4 = sub x0 v2
v5 = mul v4 v4
v6 = mul v3 v3
v7 = add v5 v6
v8 = mul 0.5 v7
v9 = mean v8
v10 = add 1e-05 v9
v11 = rsqrt v10
v12 = mul v3 v11
v13 = mul p7 v12
v14 = add p1 v13
v15 = add h0 h1
v16 = mul 0.5 v15
v17 = mean v16
v18 = sub h1 v17
v19 = sub h0 v17
v20 = mul v19 v19
v21 = mul v18 v18
v22 = add v20 v21
v23 = mul 0.5 v22
v24 = mean v23
v25 = add 1e-05 v24
v26 = rsqrt v25
v27 = mul v18 v26
v28 = mul p10 v27
v29 = add p4 v28
v30 = add v14 v29
v31 = sigmoid v30
v32 = sub 1.0 v31
v33 = mean x2
v34 = sub x2 v33
v35 = mul v34 v34
v36 = mean v35
v37 = add 1e-05 v36
v38 = rsqrt v37
v39 = mul v34 v38
v40 = mul p8 v39
v41 = add p2 v40
v42 = mean h2
v43 = sub h2 v42
v44 = mul v43 v43
v45 = mean v44
v46 = add 1e-05 v45
v47 = rsqrt v46
v48 = mul v43 v47
v49 = mul p11 v48
v50 = add p5 v49
v51 = mul v4 v11
v52 = mul p6 v51
v53 = add p0 v52
v54 = mul v19 v26
v55 = mul p9 v54
v56 = add p3 v55
v57 = add v53 v56
v58 = sigmoid v57
v59 = mul v50 v58
v60 = add v41 v59
v61 = tanh v60
v62 = mul d0 v61
v63 = mul v32 v62
v64 = mul s0 v31
v65 = add v63 v64
return v65""",
    "peephole_lstm": """\
gates 4 hidden 1 states 2 parameters 3
v0 = add x3 h3
v1 = add x1 h1
v2 = mul s1 p1
v3 = add v1 v2
v4 = sigmoid v3
v5 = mul s1 v4
v6 = add x0 h0
v7 = mul s1 p0
v8 = add v6 v7
v9 = sigmoid v8
v10 = add x2 h2
v11 = tanh v10
v12 = mul d0 v11
v13 = mul v9 v12
v14 = add v5 v13
v15 = mul p2 v14
v16 = add v0 v15
v17 = sigmoid v16
v18 = tanh v14
v19 = mul v17 v18
return v19 v14""",
    "coupled_lstm": """\
gates 3 hidden 1 states 2 parameters 0
v0 = add x2 h2
v1 = sigmoid v0
v2 = add x0 h0
v3 = sigmoid v2
v4 = mul s1 v3
v5 = sub 1.0 v3
v6 = add x1 h1
v7 = tanh v6
v8 = mul d0 v7
v9 = mul v5 v8
v10 = add v4 v9
v11 = tanh v10
v12 = mul v1 v11
return v12 v10""",
    "light_lstm": """\
gates 2 hidden 1 states 2 parameters 0
v0 = add x0 h0
v1 = sigmoid v0
v2 = mul s1 v1
v3 = add x1 h1
v4 = tanh v3
v5 = mul d0 v4
v6 = add v2 v5
v7 = tanh v6
return v7 v6""",
    "mgu": """\
gates 2 hidden 1 states 1 parameters 0
v0 = add x0 h0
v1 = sigmoid v0
v2 = sub 1.0 v1
v3 = mul s0 v2
v4 = mul h1 v1
v5 = add x1 v4
v6 = tanh v5
v7 = mul d0 v6
v8 = mul v1 v7
v9 = add v3 v8
return v9""",
    "mgu_reset_before": """\
gates 2 hidden 1 states 1 parameters 0
v0 = add x0 h0
v1 = sigmoid v0
v2 = sub 1.0 v1
v3 = mul s0 v2
v4 = mul s0 v1
v5 = product h1 v4
v6 = add x1 v5
v7 = tanh v6
v8 = mul d0 v7
v9 = mul v1 v8
v10 = add v3 v9
return v10""",
    "indrnn_relu": """\
gates 1 hidden 0 states 1 parameters 1
v0 = mul s0 d0
v1 = mul p0 v0
v2 = add x0 v1
v3 = relu v2
return v3""",
    "indrnn_tanh": """\
gates 1 hidden 0 states 1 parameters 1
v0 = mul s0 d0
v1 = mul p0 v0
v2 = add x0 v1
v3 = tanh v2
return v3""",
    "min_gru": """\
gates 2 hidden 0 states 1 parameters 0
v0 = sigmoid x0
v1 = mul s0 v0
v2 = sub 1.0 v0
v3 = mul x1 v2
v4 = mul d0 v3
v5 = add v1 v4
return v5""",
    "min_lstm": """\
gates 3 hidden 0 states 1 parameters 0
v0 = neg x0
v1 = softplus v0
v2 = neg x1
v3 = softplus v2
v4 = sub v1 v3
v5 = sigmoid v4
v6 = mul s0 v5
v7 = neg v4
v8 = sigmoid v7
v9 = mul x2 v8
v10 = mul d0 v9
v11 = add v6 v10
return v11""",
    "slstm": """\
gates 4 hidden 1 states 4 parameters 0
v0 = add x3 h3
v1 = sigmoid v0
v2 = add x1 h1
v3 = neg v2
v4 = softplus v3
v5 = sub s3 v4
v6 = add x0 h0
v7 = sub v5 v6
v8 = neg v7
v9 = add v6 v5
v10 = mul 0.5 v9
v11 = where_positive v8 v6 v10
v12 = where_positive v7 v5 v11
v13 = sub v5 v12
v14 = exp v13
v15 = mul s1 v14
v16 = sub v6 v12
v17 = exp v16
v18 = add x2 h2
v19 = tanh v18
v20 = mul d0 v19
v21 = mul v17 v20
v22 = add v15 v21
v23 = mul v1 v22
v24 = mul s2 v14
v25 = add v17 v24
v26 = div v23 v25
return v26 v22 v25 v12""",
    "multiplicative_lstm": """\
gates 5 hidden 1 states 2 parameters 0
v0 = mul x0 h0
v1 = product h4 v0
v2 = add x4 v1
v3 = sigmoid v2
v4 = product h2 v0
v5 = add x2 v4
v6 = sigmoid v5
v7 = mul s1 v6
v8 = product h1 v0
v9 = add x1 v8
v10 = sigmoid v9
v11 = product h3 v0
v12 = add x3 v11
v13 = tanh v12
v14 = mul d0 v13
v15 = mul v10 v14
v16 = add v7 v15
v17 = tanh v16
v18 = mul v3 v17
return v18 v16""",
    "rhn": """\
gates 6 hidden 1 states 1 parameters 0 inputs 2
v0 = add x1 h1
v1 = sigmoid v0
v2 = add x0 h0
v3 = tanh v2
v4 = mul d0 v3
v5 = mul v1 v4
v6 = sub 1.0 v1
v7 = mul s0 v6
v8 = add v5 v7
v9 = product h3 v8
v10 = sigmoid v9
v11 = product h2 v8
v12 = tanh v11
v13 = mul d0 v12
v14 = mul v10 v13
v15 = sub 1.0 v10
v16 = mul v8 v15
v17 = add v14 v16
v18 = product h5 v17
v19 = sigmoid v18
v20 = product h4 v17
v21 = tanh v20
v22 = mul d0 v21
v23 = mul v19 v22
v24 = sub 1.0 v19
v25 = mul v17 v24
v26 = add v23 v25
return v26""",
    "lem": """\
gates 4 hidden 1 states 2 parameters 0
v0 = add x1 h1
v1 = sigmoid v0
v2 = sub 1.0 v1
v3 = mul s0 v2
v4 = add x0 h0
v5 = sigmoid v4
v6 = sub 1.0 v5
v7 = mul s1 v6
v8 = add x2 h2
v9 = tanh v8
v10 = mul d0 v9
v11 = mul v5 v10
v12 = add v7 v11
v13 = product h3 v12
v14 = add x3 v13
v15 = tanh v14
v16 = mul d0 v15
v17 = mul v1 v16
v18 = add v3 v17
return v18 v12""",
    "ugrnn": """\
gates 2 hidden 1 states 1 parameters 0
v0 = add x0 h0
v1 = sigmoid v0
v2 = mul s0 v1
v3 = sub 1.0 v1
v4 = add x1 h1
v5 = tanh v4
v6 = mul d0 v5
v7 = mul v3 v6
v8 = add v2 v7
return v8""",
}

# Parameters that a step reads outside the products, each with its numbers per unit.
PARAMETERS: dict[str, tuple[tuple[str, int], ...]] = {
    "layer_norm_lstm": (('bias_ih', 4), ('bias_hh', 4), ('gain_ih', 4), ('gain_hh', 4), ('gain_cell', 1), ('shift_cell', 1)),
    "layer_norm_gru": (('bias_ih', 3), ('bias_hh', 3), ('gain_ih', 3), ('gain_hh', 3)),
    "peephole_lstm": (('weight_peephole', 3),),
    "indrnn_relu": (('weight_hh', 1),),
    "indrnn_tanh": (('weight_hh', 1),),
}
