def block_1(x1, w1, c1, position, mode):
    v1 = F.embedding(x1, w1)
    v2 = newest(x1, c1)
    return (v1, v2, ), (x1[:, -1:], )


def block_2(x1, w1, w2, w3, w4, w5, c1, c2, position, mode):
    v1 = w1 * x1
    v2 = x1 ** 2.0
    v3 = v2.mean((-1,))
    v4 = v3 + 1e-06
    v5 = torch.sqrt(v4)
    v6 = v1 / v5[:, :, None]
    v7 = torch.einsum("abc,BTc->BTab", w2, v6)
    v8 = torch.einsum("abc,BTc->BTab", w3, v6)
    rows10 = joined(c1, v7)
    v11 = conv(rows10, w4)
    rows13 = joined(c2, v8)
    v14 = conv(rows13, w5)
    v15 = v11 * v11
    v16 = v15.sum((-1,))
    v17 = v16 + 1e-06
    v18 = torch.sqrt(v17)
    v19 = v18[:, :, :, None].expand(-1, -1, 2, 2)
    v20 = v11 / v19
    return (v14, v20, ), (rows10[:, rows10.shape[1] - 3:], rows13[:, rows13.shape[1] - 3:], )


def region_1(state, streams, statics, ends):
    B, T = streams[0].shape[:2]
    v1 = torch.einsum("Babc,BTac->BTab", state[17], streams[0])
    v2 = F.silu(v1)
    v3 = torch.einsum("Babc,BTac->BTab", state[16], v2)
    v4 = streams[0] + v3
    v5 = statics[0] * v4
    v6 = v5.sum((-1,))
    v7 = v6 + 6.0
    v8 = torch.sigmoid(v7)
    v10 = v8.movedim(1, -1)
    v11 = torch.einsum("Babc,BTac->BTab", state[19], streams[0])
    v12 = F.silu(v11)
    v13 = torch.einsum("Babc,BTac->BTab", state[18], v12)
    v14 = streams[0] + v13
    v15 = statics[1] * v14
    v16 = v15.sum((-1,))
    v17 = torch.sigmoid(v16)
    v18 = v17 / 4.0
    v20 = torch.einsum("Babc,BTac->BTab", state[21], streams[0])
    v21 = F.silu(v20)
    v22 = torch.einsum("Babc,BTac->BTab", state[20], v21)
    v23 = streams[0] + v22
    v24 = v23 * v23
    v25 = v24.sum((-1,))
    v26 = v25 + 1e-06
    v27 = torch.sqrt(v26)
    v28 = v27[:, :, :, None].expand(-1, -1, 2, 2)
    v29 = v23 / v28
    v30 = torch.einsum("Babc,BTac->BTab", state[17], v29)
    v31 = F.silu(v30)
    v32 = torch.einsum("Babc,BTac->BTab", state[16], v31)
    v33 = v29 + v32
    v34 = torch.einsum("Babc,BTac->BTab", state[23], streams[0])
    v35 = F.silu(v34)
    v36 = torch.einsum("Babc,BTac->BTab", state[22], v35)
    v37 = streams[0] + v36
    v38 = v37 * v37
    v39 = v38.sum((-1,))
    v40 = v39 + 1e-06
    v41 = torch.sqrt(v40)
    v42 = v41[:, :, :, None].expand(-1, -1, 2, 2)
    v43 = v37 / v42
    v44 = torch.einsum("Babc,BTac->BTab", state[17], v43)
    v45 = F.silu(v44)
    v46 = torch.einsum("Babc,BTac->BTab", state[16], v45)
    v47 = v43 + v46
    v48 = v33 - v47
    v49 = 0.5 * v48
    v50 = v49 + v49
    v51 = v18.movedim(1, -1)
    v52 = v51 * -1.0
    pair53 = decay_kernel(v10)
    kernel54 = pair53[0]
    phi55 = pair53[1]
    v56 = kernel54 * v52.unsqueeze(-2)
    v57 = phi55[..., -1][..., None, None, ] * state[0]
    v58 = v56[..., -1, :]
    v59 = v50 * v58.movedim(-1, 1)[..., None]
    v60 = torch.einsum("BJpu,BJpv->Bpuv", v59, v31)
    v61 = v57 + v60
    v63 = torch.einsum("BTab,Babc->BTac", v50, state[16])
    v64 = torch.sigmoid(v30)
    v65 = 1.0 - v64
    v66 = v30 * v65
    v67 = 1.0 + v66
    v68 = v64 * v67
    v69 = v63 * v68
    v70 = late_prefix(phi55, 1.0)
    v71 = late(v56)
    v72 = torch.einsum("BpT->BTp", v70)
    v73 = torch.einsum("BTpo,BTp->BTpo", torch.einsum("Bpoi,BTpi->BTpo", state[1], v29), v72)
    v74 = torch.einsum("BTpi,BJpi->BpTJ", v29, v29)
    v75 = v74 * v71
    v76 = torch.einsum("BpTJ,BJpo->BTpo", v75, v69)
    v77 = v73 + v76
    v78 = v29 * v52.movedim(-1, 1)[..., None, ]
    v79 = late(kernel54)
    v80 = erased(-(v79 * torch.einsum("BTpi,BJpi->BpTJ", v29, v78)))
    v81 = torch.einsum("BpTJ,BJpo->BTpo", v80, v77)
    v82 = phi55[..., -1][..., None, None, ] * state[1]
    v83 = v69 * v58.movedim(-1, 1)[..., None]
    v84 = torch.einsum("BJpu,BJpv->Bpuv", v83, v29)
    v85 = v82 + v84
    v86 = kernel54[..., -1, :]
    v87 = v81 * v86.movedim(-1, 1)[..., None]
    v88 = torch.einsum("BJpu,BJpv->Bpuv", v87, v78)
    v89 = v85 + v88
    v90 = torch.einsum("Babc,BTac->BTab", state[19], v29)
    v91 = F.silu(v90)
    v92 = torch.einsum("Babc,BTac->BTab", state[18], v91)
    v93 = v29 + v92
    v94 = torch.einsum("Babc,BTac->BTab", state[19], v43)
    v95 = F.silu(v94)
    v96 = torch.einsum("Babc,BTac->BTab", state[18], v95)
    v97 = v43 + v96
    v98 = v93 - v97
    v99 = 0.5 * v98
    v100 = v99 + v99
    v101 = phi55[..., -1][..., None, None, ] * state[2]
    v102 = v100 * v58.movedim(-1, 1)[..., None]
    v103 = torch.einsum("BJpu,BJpv->Bpuv", v102, v91)
    v104 = v101 + v103
    v105 = torch.einsum("BTab,Babc->BTac", v100, state[18])
    v106 = torch.sigmoid(v90)
    v107 = 1.0 - v106
    v108 = v90 * v107
    v109 = 1.0 + v108
    v110 = v106 * v109
    v111 = v105 * v110
    v112 = torch.einsum("BTpo,BTp->BTpo", torch.einsum("Bpoi,BTpi->BTpo", state[3], v29), v72)
    v113 = torch.einsum("BpTJ,BJpo->BTpo", v75, v111)
    v114 = v112 + v113
    v115 = torch.einsum("BpTJ,BJpo->BTpo", v80, v114)
    v116 = phi55[..., -1][..., None, None, ] * state[3]
    v117 = v111 * v58.movedim(-1, 1)[..., None]
    v118 = torch.einsum("BJpu,BJpv->Bpuv", v117, v29)
    v119 = v116 + v118
    v120 = v115 * v86.movedim(-1, 1)[..., None]
    v121 = torch.einsum("BJpu,BJpv->Bpuv", v120, v78)
    v122 = v119 + v121
    v123 = torch.einsum("Babc,BTac->BTab", state[21], v29)
    v124 = F.silu(v123)
    v125 = torch.einsum("Babc,BTac->BTab", state[20], v124)
    v126 = v29 + v125
    v127 = torch.einsum("Babc,BTac->BTab", state[21], v43)
    v128 = F.silu(v127)
    v129 = torch.einsum("Babc,BTac->BTab", state[20], v128)
    v130 = v43 + v129
    v131 = v126 - v130
    v132 = 0.5 * v131
    v133 = v132 + v132
    v134 = phi55[..., -1][..., None, None, ] * state[4]
    v135 = v133 * v58.movedim(-1, 1)[..., None]
    v136 = torch.einsum("BJpu,BJpv->Bpuv", v135, v124)
    v137 = v134 + v136
    v138 = torch.einsum("BTab,Babc->BTac", v133, state[20])
    v139 = torch.sigmoid(v123)
    v140 = 1.0 - v139
    v141 = v123 * v140
    v142 = 1.0 + v141
    v143 = v139 * v142
    v144 = v138 * v143
    v145 = torch.einsum("BTpo,BTp->BTpo", torch.einsum("Bpoi,BTpi->BTpo", state[5], v29), v72)
    v146 = torch.einsum("BpTJ,BJpo->BTpo", v75, v144)
    v147 = v145 + v146
    v148 = torch.einsum("BpTJ,BJpo->BTpo", v80, v147)
    v149 = phi55[..., -1][..., None, None, ] * state[5]
    v150 = v144 * v58.movedim(-1, 1)[..., None]
    v151 = torch.einsum("BJpu,BJpv->Bpuv", v150, v29)
    v152 = v149 + v151
    v153 = v148 * v86.movedim(-1, 1)[..., None]
    v154 = torch.einsum("BJpu,BJpv->Bpuv", v153, v78)
    v155 = v152 + v154
    v156 = torch.einsum("Bpu,Bpv->Bpuv", v50[:, -1], v31[:, -1]) * v52[..., -1][..., None, None, ]
    v157 = torch.einsum("Bpu,Bpv->Bpuv", v69[:, -1], v29[:, -1]) * v52[..., -1][..., None, None, ]
    v158 = torch.einsum("Babc,BTac->BTab", state[23], v29)
    v159 = F.silu(v158)
    v160 = torch.einsum("Babc,BTac->BTab", state[22], v159)
    v161 = v29 + v160
    v162 = torch.einsum("Babc,BTac->BTab", state[23], v43)
    v163 = F.silu(v162)
    v164 = torch.einsum("Babc,BTac->BTab", state[22], v163)
    v165 = v43 + v164
    v166 = v161 - v165
    v167 = 0.5 * v166
    v168 = v167 + v167
    v169 = phi55[..., -1][..., None, None, ] * state[8]
    v170 = v168 * v58.movedim(-1, 1)[..., None]
    v171 = torch.einsum("BJpu,BJpv->Bpuv", v170, v159)
    v172 = v169 + v171
    v173 = torch.einsum("BTab,Babc->BTac", v168, state[22])
    v174 = torch.sigmoid(v158)
    v175 = 1.0 - v174
    v176 = v158 * v175
    v177 = 1.0 + v176
    v178 = v174 * v177
    v179 = v173 * v178
    v180 = torch.einsum("BTpo,BTp->BTpo", torch.einsum("Bpoi,BTpi->BTpo", state[9], v29), v72)
    v181 = torch.einsum("BpTJ,BJpo->BTpo", v75, v179)
    v182 = v180 + v181
    v183 = torch.einsum("BpTJ,BJpo->BTpo", v80, v182)
    v184 = phi55[..., -1][..., None, None, ] * state[9]
    v185 = v179 * v58.movedim(-1, 1)[..., None]
    v186 = torch.einsum("BJpu,BJpv->Bpuv", v185, v29)
    v187 = v184 + v186
    v188 = v183 * v86.movedim(-1, 1)[..., None]
    v189 = torch.einsum("BJpu,BJpv->Bpuv", v188, v78)
    v190 = v187 + v189
    v191 = torch.einsum("Bpu,Bpv->Bpuv", v100[:, -1], v91[:, -1]) * v52[..., -1][..., None, None, ]
    v192 = torch.einsum("Bpu,Bpv->Bpuv", v111[:, -1], v29[:, -1]) * v52[..., -1][..., None, None, ]
    v193 = torch.einsum("Bpu,Bpv->Bpuv", v133[:, -1], v124[:, -1]) * v52[..., -1][..., None, None, ]
    v194 = torch.einsum("Bpu,Bpv->Bpuv", v144[:, -1], v29[:, -1]) * v52[..., -1][..., None, None, ]
    v195 = torch.einsum("Bpu,Bpv->Bpuv", v168[:, -1], v159[:, -1]) * v52[..., -1][..., None, None, ]
    v196 = torch.einsum("Bpu,Bpv->Bpuv", v179[:, -1], v29[:, -1]) * v52[..., -1][..., None, None, ]
    v197 = pick(ends[0], v61, state[16])
    v198 = pick(ends[0], v89, state[17])
    v199 = pick(ends[0], v104, state[18])
    v200 = pick(ends[0], v122, state[19])
    v201 = pick(ends[0], v137, state[20])
    v202 = pick(ends[0], v155, state[21])
    v203 = pick(ends[0], v172, state[22])
    v204 = pick(ends[0], v190, state[23])
    return (v61, v89, v104, v122, v137, v155, v156, v157, v172, v190, v191, v192, v193, v194, v195, v196, v197, v198, v199, v200, v201, v202, v203, v204, ), (v8, v18, v29, v43, )


def block_3(x1, w1, w2, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15, c16, c17, c18, c19, c20, c21, c22, c23, c24, position, mode):
    rolled1 = roll(region_1, (c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15, c16, c17, c18, c19, c20, c21, c22, c23, c24, ), (x1, times(x1, position), ), (w1, w2, ), position, 2, ((2, 0, 0), ), mode)
    v2 = rolled1[1][0]
    v3 = rolled1[1][1]
    v4 = rolled1[1][2]
    v5 = rolled1[1][3]
    return (v2, v3, v4, v5, ), (rolled1[0][0], rolled1[0][1], rolled1[0][2], rolled1[0][3], rolled1[0][4], rolled1[0][5], rolled1[0][6], rolled1[0][7], rolled1[0][8], rolled1[0][9], rolled1[0][10], rolled1[0][11], rolled1[0][12], rolled1[0][13], rolled1[0][14], rolled1[0][15], rolled1[0][16], rolled1[0][17], rolled1[0][18], rolled1[0][19], rolled1[0][20], rolled1[0][21], rolled1[0][22], rolled1[0][23], )


def region_2(state, streams, statics, ends):
    B, T = streams[0].shape[:2]
    v2 = streams[1].movedim(1, -1)
    v4 = torch.einsum("Babc,BTac->BTab", state[5], streams[3])
    v5 = F.silu(v4)
    v6 = torch.einsum("Babc,BTac->BTab", state[4], v5)
    v7 = streams[3] + v6
    v8 = torch.einsum("Babc,BTac->BTab", state[5], streams[4])
    v9 = F.silu(v8)
    v10 = torch.einsum("Babc,BTac->BTab", state[4], v9)
    v11 = streams[4] + v10
    v12 = v7 - v11
    v13 = 0.5 * v12
    v14 = v13 + v13
    v15 = streams[2].movedim(1, -1)
    v16 = v15 * -1.0
    pair17 = decay_kernel(v2)
    kernel18 = pair17[0]
    phi19 = pair17[1]
    v20 = kernel18 * v16.unsqueeze(-2)
    v21 = phi19[..., -1][..., None, None, ] * state[0]
    v22 = v20[..., -1, :]
    v23 = v14 * v22.movedim(-1, 1)[..., None]
    v24 = torch.einsum("BJpu,BJpv->Bpuv", v23, v5)
    v25 = v21 + v24
    v27 = torch.einsum("BTab,Babc->BTac", v14, state[4])
    v28 = torch.sigmoid(v4)
    v29 = 1.0 - v28
    v30 = v4 * v29
    v31 = 1.0 + v30
    v32 = v28 * v31
    v33 = v27 * v32
    v34 = late_prefix(phi19, 1.0)
    v35 = late(v20)
    v36 = torch.einsum("BpT->BTp", v34)
    v37 = torch.einsum("BTpo,BTp->BTpo", torch.einsum("Bpoi,BTpi->BTpo", state[1], streams[3]), v36)
    v38 = torch.einsum("BTpi,BJpi->BpTJ", streams[3], streams[3])
    v39 = v38 * v35
    v40 = torch.einsum("BpTJ,BJpo->BTpo", v39, v33)
    v41 = v37 + v40
    v42 = streams[3] * v16.movedim(-1, 1)[..., None, ]
    v43 = late(kernel18)
    v44 = erased(-(v43 * torch.einsum("BTpi,BJpi->BpTJ", streams[3], v42)))
    v45 = torch.einsum("BpTJ,BJpo->BTpo", v44, v41)
    v46 = phi19[..., -1][..., None, None, ] * state[1]
    v47 = v33 * v22.movedim(-1, 1)[..., None]
    v48 = torch.einsum("BJpu,BJpv->Bpuv", v47, streams[3])
    v49 = v46 + v48
    v50 = kernel18[..., -1, :]
    v51 = v45 * v50.movedim(-1, 1)[..., None]
    v52 = torch.einsum("BJpu,BJpv->Bpuv", v51, v42)
    v53 = v49 + v52
    v54 = torch.einsum("Bpu,Bpv->Bpuv", v14[:, -1], v5[:, -1]) * v16[..., -1][..., None, None, ]
    v55 = torch.einsum("Bpu,Bpv->Bpuv", v33[:, -1], streams[3][:, -1]) * v16[..., -1][..., None, None, ]
    v56 = torch.einsum("Babc,BTac->BTab", state[5], streams[0])
    v57 = F.silu(v56)
    v58 = torch.einsum("Babc,BTac->BTab", state[4], v57)
    v59 = pick(ends[0], v25, state[4])
    v60 = pick(ends[0], v53, state[5])
    return (v25, v53, v54, v55, v59, v60, ), (v58, )


def block_4(x1, x2, x3, x4, x5, c1, c2, c3, c4, c5, c6, position, mode):
    rolled1 = roll(region_2, (c1, c2, c3, c4, c5, c6, ), (x1, x2, x3, x4, x5, times(x1, position), ), (), position, 4, ((4, 0, 0), ), mode)
    v2 = rolled1[1][0]
    return (v2, ), (rolled1[0][0], rolled1[0][1], rolled1[0][2], rolled1[0][3], rolled1[0][4], rolled1[0][5], )


def block_5(x1, x2, x3, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, position, mode):
    v1 = x1 + x2
    v2 = w1[None, :].expand(2, 2)
    v3 = v2 * v1
    v4 = v1 ** 2.0
    v5 = v4.mean((-1,))
    v6 = v5 + 1e-06
    v7 = torch.sqrt(v6)
    v8 = v7[:, :, :, None].expand(-1, -1, 2, 2)
    v9 = v3 / v8
    v10 = torch.einsum("abc,BTbc->BTa", w2, v9)
    v11 = x3 + v10
    v12 = w3 * v11
    v13 = v11 ** 2.0
    v14 = v13.mean((-1,))
    v15 = v14 + 1e-06
    v16 = torch.sqrt(v15)
    v17 = v12 / v16[:, :, None]
    v18 = torch.einsum("ab,BTb->BTa", w4, v17)
    v19 = torch.einsum("ab,BTb->BTa", w5, v17)
    v20 = F.silu(v18)
    v21 = v20 * v19
    v22 = torch.einsum("ab,BTb->BTa", w6, v21)
    v23 = v11 + v22
    v24 = w7 * v23
    v25 = v23 ** 2.0
    v26 = v25.mean((-1,))
    v27 = v26 + 1e-06
    v28 = torch.sqrt(v27)
    v29 = v24 / v28[:, :, None]
    v30 = torch.einsum("ab,BTb->BTa", w8, v29)
    v31 = torch.einsum("ab,BTb->BTa", w9, v29)
    v32 = F.silu(v30)
    v33 = v32 * v31
    v34 = torch.einsum("ab,BTb->BTa", w10, v33)
    v35 = v23 + v34
    return (v35, ), ()


def block_6(x1, x2, w1, w2, c1, position, mode):
    v1 = w1 * x1
    v2 = x1 ** 2.0
    v3 = v2.mean((-1,))
    v4 = v3 + 1e-06
    v5 = torch.sqrt(v4)
    v6 = v1 / v5[:, :, None]
    v7 = torch.einsum("ab,BTb->BTa", w2, v6)
    v8 = behind(v7, c1, 1)
    v9 = cross_entropy(v8, x2)
    return (v9, ), (latest(v7, c1, 1), )


def forward(W, inputs, carry, position, mode):
    new = {}
    (s1, s2, ), (new["before.1"], ) = block_1(inputs["ids"], W["loss.x"], carry["before.1"], position, mode)
    (s3, s4, ), (new["tail.1"], new["tail.2"], ) = block_2(s1, W["loss.layer[0].rmsnorm"], W["loss.layer[0].self_modifying_titans.q.linear"], W["loss.layer[0].self_modifying_titans.z.linear"], W["loss.layer[0].self_modifying_titans.q.conv"], W["loss.layer[0].self_modifying_titans.z.conv"], carry["tail.1"], carry["tail.2"], position, mode)
    (s5, s6, s7, s8, ), (new["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W1"], new["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W2"], new["loss.layer[0].self_modifying_titans.M_eta.recall.M.W1"], new["loss.layer[0].self_modifying_titans.M_eta.recall.M.W2"], new["loss.layer[0].self_modifying_titans.M_k.recall.M.W1"], new["loss.layer[0].self_modifying_titans.M_k.recall.M.W2"], new["loss.layer[0].self_modifying_titans.M_alpha.recall.S.velocity.m.W1"], new["loss.layer[0].self_modifying_titans.M_alpha.recall.S.velocity.m.W2"], new["loss.layer[0].self_modifying_titans.M_v.recall.M.W1"], new["loss.layer[0].self_modifying_titans.M_v.recall.M.W2"], new["loss.layer[0].self_modifying_titans.M_eta.recall.S.velocity.m.W1"], new["loss.layer[0].self_modifying_titans.M_eta.recall.S.velocity.m.W2"], new["loss.layer[0].self_modifying_titans.M_k.recall.S.velocity.m.W1"], new["loss.layer[0].self_modifying_titans.M_k.recall.S.velocity.m.W2"], new["loss.layer[0].self_modifying_titans.M_v.recall.S.velocity.m.W1"], new["loss.layer[0].self_modifying_titans.M_v.recall.S.velocity.m.W2"], new["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W1@near"], new["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W2@near"], new["loss.layer[0].self_modifying_titans.M_eta.recall.M.W1@near"], new["loss.layer[0].self_modifying_titans.M_eta.recall.M.W2@near"], new["loss.layer[0].self_modifying_titans.M_k.recall.M.W1@near"], new["loss.layer[0].self_modifying_titans.M_k.recall.M.W2@near"], new["loss.layer[0].self_modifying_titans.M_v.recall.M.W1@near"], new["loss.layer[0].self_modifying_titans.M_v.recall.M.W2@near"], ) = block_3(s3, W["loss.layer[0].self_modifying_titans.a"], W["loss.layer[0].self_modifying_titans.r"], carry["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W1"], carry["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W2"], carry["loss.layer[0].self_modifying_titans.M_eta.recall.M.W1"], carry["loss.layer[0].self_modifying_titans.M_eta.recall.M.W2"], carry["loss.layer[0].self_modifying_titans.M_k.recall.M.W1"], carry["loss.layer[0].self_modifying_titans.M_k.recall.M.W2"], carry["loss.layer[0].self_modifying_titans.M_alpha.recall.S.velocity.m.W1"], carry["loss.layer[0].self_modifying_titans.M_alpha.recall.S.velocity.m.W2"], carry["loss.layer[0].self_modifying_titans.M_v.recall.M.W1"], carry["loss.layer[0].self_modifying_titans.M_v.recall.M.W2"], carry["loss.layer[0].self_modifying_titans.M_eta.recall.S.velocity.m.W1"], carry["loss.layer[0].self_modifying_titans.M_eta.recall.S.velocity.m.W2"], carry["loss.layer[0].self_modifying_titans.M_k.recall.S.velocity.m.W1"], carry["loss.layer[0].self_modifying_titans.M_k.recall.S.velocity.m.W2"], carry["loss.layer[0].self_modifying_titans.M_v.recall.S.velocity.m.W1"], carry["loss.layer[0].self_modifying_titans.M_v.recall.S.velocity.m.W2"], carry["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W1@near"], carry["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W2@near"], carry["loss.layer[0].self_modifying_titans.M_eta.recall.M.W1@near"], carry["loss.layer[0].self_modifying_titans.M_eta.recall.M.W2@near"], carry["loss.layer[0].self_modifying_titans.M_k.recall.M.W1@near"], carry["loss.layer[0].self_modifying_titans.M_k.recall.M.W2@near"], carry["loss.layer[0].self_modifying_titans.M_v.recall.M.W1@near"], carry["loss.layer[0].self_modifying_titans.M_v.recall.M.W2@near"], position, mode)
    (s9, ), (new["loss.layer[0].self_modifying_titans.M_mem.recall.M.W1"], new["loss.layer[0].self_modifying_titans.M_mem.recall.M.W2"], new["loss.layer[0].self_modifying_titans.M_mem.recall.S.velocity.m.W1"], new["loss.layer[0].self_modifying_titans.M_mem.recall.S.velocity.m.W2"], new["loss.layer[0].self_modifying_titans.M_mem.recall.M.W1@far"], new["loss.layer[0].self_modifying_titans.M_mem.recall.M.W2@far"], ) = block_4(s4, s5, s6, s7, s8, carry["loss.layer[0].self_modifying_titans.M_mem.recall.M.W1"], carry["loss.layer[0].self_modifying_titans.M_mem.recall.M.W2"], carry["loss.layer[0].self_modifying_titans.M_mem.recall.S.velocity.m.W1"], carry["loss.layer[0].self_modifying_titans.M_mem.recall.S.velocity.m.W2"], carry["loss.layer[0].self_modifying_titans.M_mem.recall.M.W1@far"], carry["loss.layer[0].self_modifying_titans.M_mem.recall.M.W2@far"], position, mode)
    (s10, ), () = block_5(s4, s9, s1, W["loss.layer[0].self_modifying_titans.rmsnorm"], W["loss.layer[0].self_modifying_titans.linear"], W["loss.layer[0].continuum.p[1].rmsnorm"], W["loss.layer[0].continuum.ffn[1].F.gate"], W["loss.layer[0].continuum.ffn[1].F.up"], W["loss.layer[0].continuum.ffn[1].F.down"], W["loss.layer[0].continuum.p[2].rmsnorm"], W["loss.layer[0].continuum.ffn[2].F.gate"], W["loss.layer[0].continuum.ffn[2].F.up"], W["loss.layer[0].continuum.ffn[2].F.down"], position, mode)
    (s11, ), (new["before.2"], ) = block_6(s10, s2, W["loss.rmsnorm"], W["loss.linear"], carry["before.2"], position, mode)
    return {"loss": s11, }, new


def start(W, batch, like, lanes=None):
    carry = {}
    carry["before.1"] = None
    carry["tail.1"] = like.new_zeros((batch, 3, 2, 2))
    carry["tail.2"] = like.new_zeros((batch, 3, 2, 2))
    carry["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W1"] = W["loss.layer[0].self_modifying_titans.M_alpha.recall.M.start.W1"].expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W2"] = W["loss.layer[0].self_modifying_titans.M_alpha.recall.M.start.W2"].expand(batch, 2, 8, 2)
    carry["loss.layer[0].self_modifying_titans.M_eta.recall.M.W1"] = W["loss.layer[0].self_modifying_titans.M_eta.recall.M.start.W1"].expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_eta.recall.M.W2"] = W["loss.layer[0].self_modifying_titans.M_eta.recall.M.start.W2"].expand(batch, 2, 8, 2)
    carry["loss.layer[0].self_modifying_titans.M_k.recall.M.W1"] = W["loss.layer[0].self_modifying_titans.M_k.recall.M.start.W1"].expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_k.recall.M.W2"] = W["loss.layer[0].self_modifying_titans.M_k.recall.M.start.W2"].expand(batch, 2, 8, 2)
    k1 = full(W["loss.layer[0].self_modifying_titans.M_alpha.recall.M.start.W1"], 0.0, (2, 2, 8, ))
    carry["loss.layer[0].self_modifying_titans.M_alpha.recall.S.velocity.m.W1"] = k1.expand(batch, 2, 2, 8)
    k2 = full(W["loss.layer[0].self_modifying_titans.M_alpha.recall.M.start.W1"], 0.0, (2, 8, 2, ))
    carry["loss.layer[0].self_modifying_titans.M_alpha.recall.S.velocity.m.W2"] = k2.expand(batch, 2, 8, 2)
    carry["loss.layer[0].self_modifying_titans.M_v.recall.M.W1"] = W["loss.layer[0].self_modifying_titans.M_v.recall.M.start.W1"].expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_v.recall.M.W2"] = W["loss.layer[0].self_modifying_titans.M_v.recall.M.start.W2"].expand(batch, 2, 8, 2)
    carry["loss.layer[0].self_modifying_titans.M_eta.recall.S.velocity.m.W1"] = k1.expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_eta.recall.S.velocity.m.W2"] = k2.expand(batch, 2, 8, 2)
    carry["loss.layer[0].self_modifying_titans.M_k.recall.S.velocity.m.W1"] = k1.expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_k.recall.S.velocity.m.W2"] = k2.expand(batch, 2, 8, 2)
    carry["loss.layer[0].self_modifying_titans.M_v.recall.S.velocity.m.W1"] = k1.expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_v.recall.S.velocity.m.W2"] = k2.expand(batch, 2, 8, 2)
    carry["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W1@near"] = W["loss.layer[0].self_modifying_titans.M_alpha.recall.M.start.W1"].expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W2@near"] = W["loss.layer[0].self_modifying_titans.M_alpha.recall.M.start.W2"].expand(batch, 2, 8, 2)
    carry["loss.layer[0].self_modifying_titans.M_eta.recall.M.W1@near"] = W["loss.layer[0].self_modifying_titans.M_eta.recall.M.start.W1"].expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_eta.recall.M.W2@near"] = W["loss.layer[0].self_modifying_titans.M_eta.recall.M.start.W2"].expand(batch, 2, 8, 2)
    carry["loss.layer[0].self_modifying_titans.M_k.recall.M.W1@near"] = W["loss.layer[0].self_modifying_titans.M_k.recall.M.start.W1"].expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_k.recall.M.W2@near"] = W["loss.layer[0].self_modifying_titans.M_k.recall.M.start.W2"].expand(batch, 2, 8, 2)
    carry["loss.layer[0].self_modifying_titans.M_v.recall.M.W1@near"] = W["loss.layer[0].self_modifying_titans.M_v.recall.M.start.W1"].expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_v.recall.M.W2@near"] = W["loss.layer[0].self_modifying_titans.M_v.recall.M.start.W2"].expand(batch, 2, 8, 2)
    carry["loss.layer[0].self_modifying_titans.M_mem.recall.M.W1"] = W["loss.layer[0].self_modifying_titans.M_mem.recall.M.start.W1"].expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_mem.recall.M.W2"] = W["loss.layer[0].self_modifying_titans.M_mem.recall.M.start.W2"].expand(batch, 2, 8, 2)
    carry["loss.layer[0].self_modifying_titans.M_mem.recall.S.velocity.m.W1"] = k1.expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_mem.recall.S.velocity.m.W2"] = k2.expand(batch, 2, 8, 2)
    carry["loss.layer[0].self_modifying_titans.M_mem.recall.M.W1@far"] = W["loss.layer[0].self_modifying_titans.M_mem.recall.M.start.W1"].expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_mem.recall.M.W2@far"] = W["loss.layer[0].self_modifying_titans.M_mem.recall.M.start.W2"].expand(batch, 2, 8, 2)
    carry["before.2"] = None
    return carry


def update_1(a1, a2, a3, a4, a5, a6, a7):
    v1 = 1.0 / a2
    v2 = v1 * a3
    v3 = v2 * v2
    v4 = v3.sum()
    v5 = torch.sqrt(v4)
    v6 = v5 + 1e-06
    v7 = 1.0 / v6
    v8 = v7.clamp(max=1.0)
    v9 = v2 * v8
    v10 = a1 - v9
    v11 = 0.5 * v10
    v12 = v11 + v11
    v13 = 0.09999999999999998 * v12
    v14 = a1 - v13
    v15 = v9 ** 2.0
    v16 = a4 - v15
    v17 = 0.5 * v16
    v18 = v17 + v17
    v19 = 0.0010000000000000009 * v18
    v20 = a4 - v19
    v21 = a6 / a7
    v22 = v21 <= 0.02
    v23 = truth(v22, a1)
    v24 = v21 / 0.02
    v25 = v21 - 0.02
    v26 = 3.141592653589793 * v25
    v27 = v26 / 0.98
    v28 = torch.cos(v27)
    v29 = 1.0 + v28
    v30 = v29 / 2.0
    v31 = torch.where(v22, v24, v30)
    v32 = 0.003 * v31
    v33 = 0.9 ** a6
    v34 = 1.0 - v33
    v35 = v14 / v34
    v36 = -v35
    v37 = 0.999 ** a6
    v38 = 1.0 - v37
    v39 = v20 / v38
    v40 = torch.sqrt(v39)
    v41 = v40 + 1e-08
    v42 = v36 / v41
    v43 = v32 * v42
    v44 = v32 * 0.1
    v45 = v44 * a5
    v46 = v43 - v45
    v47 = a5 + v46
    return v14, v20, v47,


def update_2(a1, a2, a3, a4, a5, a6):
    v1 = 1.0 / a2
    v2 = v1 * a3
    v3 = v2 * v2
    v4 = v3.sum()
    v5 = torch.sqrt(v4)
    v6 = v5 + 1e-06
    v7 = 1.0 / v6
    v8 = v7.clamp(max=1.0)
    v9 = v2 * v8
    v10 = a1 - v9
    v11 = 0.5 * v10
    v12 = v11 + v11
    v13 = 0.09999999999999998 * v12
    v14 = a1 - v13
    v15 = v9 ** 2.0
    v16 = a4 - v15
    v17 = 0.5 * v16
    v18 = v17 + v17
    v19 = 0.0010000000000000009 * v18
    v20 = a4 - v19
    v21 = 0.9 ** a6
    v22 = 1.0 - v21
    v23 = v14 / v22
    v24 = -v23
    v25 = 0.999 ** a6
    v26 = 1.0 - v25
    v27 = v20 / v26
    v28 = torch.sqrt(v27)
    v29 = v28 + 1e-08
    v30 = v24 / v29
    v31 = 0.001 * v30
    v32 = 0.0001 * a5
    v33 = v31 - v32
    v34 = a5 + v33
    return v14, v20, v34,


def tick_1(S, G, V, N, D, planned):
    S["grad loss.layer[0].continuum.ffn[2].F|loss|loss.layer[0].continuum.ffn[2]"].add_(G["loss.layer[0].continuum.ffn[2].F|loss"])
    new = {}
    new["training.adamw.adam.moments.m"], new["training.adamw.adam.moments.s"], new["training.W"], = update_1(S["training.adamw.adam.moments.m"], N["loss"], G["training.W|loss"], S["training.adamw.adam.moments.s"], S["training.W"], S["training.tick"] + 1, planned["training"])
    new["loss.layer[0].continuum.ffn[1].adamw.adam.moments.m"], new["loss.layer[0].continuum.ffn[1].adamw.adam.moments.s"], new["loss.layer[0].continuum.ffn[1].F"], = update_2(S["loss.layer[0].continuum.ffn[1].adamw.adam.moments.m"], N["loss"], G["loss.layer[0].continuum.ffn[1].F|loss"], S["loss.layer[0].continuum.ffn[1].adamw.adam.moments.s"], S["loss.layer[0].continuum.ffn[1].F"], S["loss.layer[0].continuum.ffn[1].tick"] + 1)
    S["training.W"].copy_(new["training.W"])
    S["training.adamw.adam.moments.m"].copy_(new["training.adamw.adam.moments.m"])
    S["training.adamw.adam.moments.s"].copy_(new["training.adamw.adam.moments.s"])
    S["loss.layer[0].continuum.ffn[1].F"].copy_(new["loss.layer[0].continuum.ffn[1].F"])
    S["loss.layer[0].continuum.ffn[1].adamw.adam.moments.m"].copy_(new["loss.layer[0].continuum.ffn[1].adamw.adam.moments.m"])
    S["loss.layer[0].continuum.ffn[1].adamw.adam.moments.s"].copy_(new["loss.layer[0].continuum.ffn[1].adamw.adam.moments.s"])


def tick_2(S, G, V, N, D, planned):
    S["grad loss.layer[0].continuum.ffn[2].F|loss|loss.layer[0].continuum.ffn[2]"].add_(G["loss.layer[0].continuum.ffn[2].F|loss"])
    new = {}
    new["training.adamw.adam.moments.m"], new["training.adamw.adam.moments.s"], new["training.W"], = update_1(S["training.adamw.adam.moments.m"], N["loss"], G["training.W|loss"], S["training.adamw.adam.moments.s"], S["training.W"], S["training.tick"] + 1, planned["training"])
    new["loss.layer[0].continuum.ffn[1].adamw.adam.moments.m"], new["loss.layer[0].continuum.ffn[1].adamw.adam.moments.s"], new["loss.layer[0].continuum.ffn[1].F"], = update_2(S["loss.layer[0].continuum.ffn[1].adamw.adam.moments.m"], N["loss"], G["loss.layer[0].continuum.ffn[1].F|loss"], S["loss.layer[0].continuum.ffn[1].adamw.adam.moments.s"], S["loss.layer[0].continuum.ffn[1].F"], S["loss.layer[0].continuum.ffn[1].tick"] + 1)
    new["loss.layer[0].continuum.ffn[2].adamw.adam.moments.m"], new["loss.layer[0].continuum.ffn[2].adamw.adam.moments.s"], new["loss.layer[0].continuum.ffn[2].F"], = update_2(S["loss.layer[0].continuum.ffn[2].adamw.adam.moments.m"], S["terms loss|loss.layer[0].continuum.ffn[2]"], S["grad loss.layer[0].continuum.ffn[2].F|loss|loss.layer[0].continuum.ffn[2]"], S["loss.layer[0].continuum.ffn[2].adamw.adam.moments.s"], S["loss.layer[0].continuum.ffn[2].F"], S["loss.layer[0].continuum.ffn[2].tick"] + 1)
    S["training.W"].copy_(new["training.W"])
    S["training.adamw.adam.moments.m"].copy_(new["training.adamw.adam.moments.m"])
    S["training.adamw.adam.moments.s"].copy_(new["training.adamw.adam.moments.s"])
    S["loss.layer[0].continuum.ffn[1].F"].copy_(new["loss.layer[0].continuum.ffn[1].F"])
    S["loss.layer[0].continuum.ffn[1].adamw.adam.moments.m"].copy_(new["loss.layer[0].continuum.ffn[1].adamw.adam.moments.m"])
    S["loss.layer[0].continuum.ffn[1].adamw.adam.moments.s"].copy_(new["loss.layer[0].continuum.ffn[1].adamw.adam.moments.s"])
    S["loss.layer[0].continuum.ffn[2].F"].copy_(new["loss.layer[0].continuum.ffn[2].F"])
    S["loss.layer[0].continuum.ffn[2].adamw.adam.moments.m"].copy_(new["loss.layer[0].continuum.ffn[2].adamw.adam.moments.m"])
    S["loss.layer[0].continuum.ffn[2].adamw.adam.moments.s"].copy_(new["loss.layer[0].continuum.ffn[2].adamw.adam.moments.s"])
    S["grad loss.layer[0].continuum.ffn[2].F|loss|loss.layer[0].continuum.ffn[2]"].zero_()


def step_1(S, inputs, D, planned, mode, lanes):
    W = weights(S)
    sums, terms, lasting = fresh(W, inputs, mode, lanes)
    G = gradients(W, sums)
    V = {name: s.detach() for name, s in sums.items()}
    with torch.no_grad():
        tick_1(S, G, V, terms, D, planned)
    return V, terms, lasting


def step_2(S, inputs, D, planned, mode, lanes):
    W = weights(S)
    sums, terms, lasting = fresh(W, inputs, mode, lanes)
    G = gradients(W, sums)
    V = {name: s.detach() for name, s in sums.items()}
    with torch.no_grad():
        tick_2(S, G, V, terms, D, planned)
    return V, terms, lasting
