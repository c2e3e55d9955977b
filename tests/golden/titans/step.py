def block_1(x1, w1, c1, position, mode):
    v1 = F.embedding(x1, w1)
    v2 = newest(x1, c1)
    return (v1, v2, ), (x1[:, -1:], )


def block_2(x1, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, c1, c2, c3, position, mode):
    v1 = w1 * x1
    v2 = x1 ** 2.0
    v3 = v2.mean((-1,))
    v4 = v3 + 1e-06
    v5 = torch.sqrt(v4)
    v6 = v1 / v5[:, :, None]
    v7 = torch.einsum("abc,BTc->BTab", w2, v6)
    v8 = torch.einsum("abc,BTc->BTab", w3, v6)
    v9 = torch.einsum("ab,BTb->BTa", w4, v6)
    v10 = torch.einsum("ab,BTb->BTa", w5, v6)
    v11 = torch.einsum("ab,BTb->BTa", w6, v6)
    v12 = torch.einsum("abc,BTc->BTab", w7, v6)
    v13 = torch.einsum("abc,BTc->BTab", w8, v6)
    v14 = F.silu(v7)
    v15 = torch.sigmoid(v8)
    v16 = v9 + w9
    v17 = v10 + w10
    v18 = v11 + w11
    v19 = F.silu(v12)
    v20 = F.silu(v13)
    rows22 = joined(c1, v14)
    v23 = conv(rows22, w12)
    v24 = torch.sigmoid(v16)
    v25 = torch.sigmoid(v17)
    v26 = torch.sigmoid(v18)
    rows28 = joined(c2, v19)
    v29 = conv(rows28, w13)
    rows31 = joined(c3, v20)
    v32 = conv(rows31, w14)
    v33 = v23 * v23
    v34 = 1.0 - v24
    v35 = 0.1 * v26
    v36 = v29 * v29
    v37 = v33.sum((-1,))
    v38 = v36.sum((-1,))
    v39 = v37 + 1e-06
    v40 = v38 + 1e-06
    v41 = torch.sqrt(v39)
    v42 = torch.sqrt(v40)
    v43 = v41[:, :, :, None].expand(-1, -1, 2, 2)
    v44 = v42[:, :, :, None].expand(-1, -1, 2, 2)
    v45 = v23 / v43
    v46 = v29 / v44
    return (v45, v34, v25, v46, v32, v35, v15, ), (rows22[:, rows22.shape[1] - 3:], rows28[:, rows28.shape[1] - 3:], rows31[:, rows31.shape[1] - 3:], )


def region_1(state, streams, statics, ends):
    B, T = streams[0].shape[:2]
    v2 = streams[1].movedim(1, -1)
    v4 = streams[2].movedim(1, -1)
    v6 = torch.einsum("Babc,BTac->BTab", state[5], streams[3])
    v7 = F.silu(v6)
    v8 = torch.einsum("Babc,BTac->BTab", state[4], v7)
    v9 = v8 - streams[4]
    v10 = v9 + v9
    v11 = streams[5].movedim(1, -1)
    v12 = v11 * -1.0
    pair13 = decay_kernel(v4)
    kernel14 = pair13[0]
    phi15 = pair13[1]
    v16 = kernel14 * v12.unsqueeze(-2)
    pair17 = decay_kernel(v2)
    kernel18 = pair17[0]
    phi19 = pair17[1]
    v20 = (kernel18 @ phi15.unsqueeze(-1)).squeeze(-1)
    v21 = kernel18 @ v16
    v22 = phi19[..., -1][..., None, None, ] * state[0]
    v23 = v20[..., -1][..., None, None, ] * state[2]
    v24 = v22 + v23
    v25 = v21[..., -1, :]
    v26 = v10 * v25.movedim(-1, 1)[..., None]
    v27 = torch.einsum("BJpu,BJpv->Bpuv", v26, v7)
    v28 = v24 + v27
    v32 = torch.einsum("BTab,Babc->BTac", v10, state[4])
    v33 = torch.sigmoid(v6)
    v34 = 1.0 - v33
    v35 = v6 * v34
    v36 = 1.0 + v35
    v37 = v33 * v36
    v38 = v32 * v37
    v39 = phi19[..., -1][..., None, None, ] * state[1]
    v40 = v20[..., -1][..., None, None, ] * state[3]
    v41 = v39 + v40
    v42 = v38 * v25.movedim(-1, 1)[..., None]
    v43 = torch.einsum("BJpu,BJpv->Bpuv", v42, streams[3])
    v44 = v41 + v43
    v45 = phi15[..., -1][..., None, None, ] * state[2]
    v46 = v16[..., -1, :]
    v47 = v10 * v46.movedim(-1, 1)[..., None]
    v48 = torch.einsum("BJpu,BJpv->Bpuv", v47, v7)
    v49 = v45 + v48
    v50 = phi15[..., -1][..., None, None, ] * state[3]
    v51 = v38 * v46.movedim(-1, 1)[..., None]
    v52 = torch.einsum("BJpu,BJpv->Bpuv", v51, streams[3])
    v53 = v50 + v52
    v54 = torch.einsum("BaT->BTa", phi19)
    v55 = torch.einsum("BTab,BTa->BTab", torch.einsum("Babc,BTac->BTab", state[1], streams[0]), v54)
    v56 = torch.einsum("BaT->BTa", v20)
    v57 = torch.einsum("BTab,BTa->BTab", torch.einsum("Babc,BTac->BTab", state[3], streams[0]), v56)
    v58 = v55 + v57
    v59 = torch.einsum("BTac,BJac->BaTJ", streams[0], streams[3])
    v60 = v59 * v21
    v61 = torch.einsum("BaTJ,BJab->BTab", v60, v38)
    v62 = v58 + v61
    v63 = F.silu(v62)
    v64 = torch.einsum("BTab,BTa->BTab", torch.einsum("Babc,BTac->BTab", state[0], v63), v54)
    v65 = torch.einsum("BTab,BTa->BTab", torch.einsum("Babc,BTac->BTab", state[2], v63), v56)
    v66 = v64 + v65
    v67 = torch.einsum("BTac,BJac->BaTJ", v63, v7)
    v68 = v67 * v21
    v69 = torch.einsum("BaTJ,BJab->BTab", v68, v10)
    v70 = v66 + v69
    v71 = pick(ends[0], v28, state[4])
    v72 = pick(ends[0], v44, state[5])
    return (v28, v44, v49, v53, v71, v72, ), (v70, )


def block_3(x1, x2, x3, x4, x5, x6, c1, c2, c3, c4, c5, c6, position, mode):
    rolled1 = roll(region_1, (c1, c2, c3, c4, c5, c6, ), (x1, x2, x3, x4, x5, x6, times(x1, position), ), (), position, 2, ((2, 0, 0), ), mode)
    v2 = rolled1[1][0]
    return (v2, ), (rolled1[0][0], rolled1[0][1], rolled1[0][2], rolled1[0][3], rolled1[0][4], rolled1[0][5], )


def block_4(x1, x2, x3, w1, w2, w3, w4, w5, w6, position, mode):
    v1 = w1[None, :].expand(2, 2)
    v2 = v1 * x1
    v3 = x1 ** 2.0
    v4 = v3.mean((-1,))
    v5 = v4 + 1e-06
    v6 = torch.sqrt(v5)
    v7 = v6[:, :, :, None].expand(-1, -1, 2, 2)
    v8 = v2 / v7
    v9 = v8 * x2
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
    return (v23, ), ()


def block_5(x1, x2, w1, w2, c1, position, mode):
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
    (s3, s4, s5, s6, s7, s8, s9, ), (new["tail.1"], new["tail.2"], new["tail.3"], ) = block_2(s1, W["loss.layer[0].rmsnorm"], W["loss.layer[0].mixer.q.linear"], W["loss.layer[0].mixer.linear2"], W["loss.layer[0].mixer.forget"], W["loss.layer[0].mixer.decay"], W["loss.layer[0].mixer.rate"], W["loss.layer[0].mixer.k.linear"], W["loss.layer[0].mixer.v.linear"], W["loss.layer[0].mixer.forget.bias"], W["loss.layer[0].mixer.decay.bias"], W["loss.layer[0].mixer.rate.bias"], W["loss.layer[0].mixer.q.conv"], W["loss.layer[0].mixer.k.conv"], W["loss.layer[0].mixer.v.conv"], carry["tail.1"], carry["tail.2"], carry["tail.3"], position, mode)
    (s10, ), (new["loss.layer[0].mixer.recall.M.W1"], new["loss.layer[0].mixer.recall.M.W2"], new["loss.layer[0].mixer.recall.S.velocity.m.W1"], new["loss.layer[0].mixer.recall.S.velocity.m.W2"], new["loss.layer[0].mixer.recall.M.W1@chunk"], new["loss.layer[0].mixer.recall.M.W2@chunk"], ) = block_3(s3, s4, s5, s6, s7, s8, carry["loss.layer[0].mixer.recall.M.W1"], carry["loss.layer[0].mixer.recall.M.W2"], carry["loss.layer[0].mixer.recall.S.velocity.m.W1"], carry["loss.layer[0].mixer.recall.S.velocity.m.W2"], carry["loss.layer[0].mixer.recall.M.W1@chunk"], carry["loss.layer[0].mixer.recall.M.W2@chunk"], position, mode)
    (s11, ), () = block_4(s10, s9, s1, W["loss.layer[0].mixer.rmsnorm"], W["loss.layer[0].mixer.linear"], W["loss.layer[0].rmsnorm2"], W["loss.layer[0].swiglu.gate"], W["loss.layer[0].swiglu.up"], W["loss.layer[0].swiglu.down"], position, mode)
    (s12, ), (new["before.2"], ) = block_5(s11, s2, W["loss.rmsnorm"], W["loss.linear"], carry["before.2"], position, mode)
    return {"loss": s12, }, new


def start(W, batch, like, lanes=None):
    carry = {}
    carry["before.1"] = None
    carry["tail.1"] = like.new_zeros((batch, 3, 2, 2))
    carry["tail.2"] = like.new_zeros((batch, 3, 2, 2))
    carry["tail.3"] = like.new_zeros((batch, 3, 2, 2))
    carry["loss.layer[0].mixer.recall.M.W1"] = W["loss.layer[0].mixer.recall.M.start.W1"].expand(batch, 2, 2, 4)
    carry["loss.layer[0].mixer.recall.M.W2"] = W["loss.layer[0].mixer.recall.M.start.W2"].expand(batch, 2, 4, 2)
    k1 = full(W["loss.layer[0].mixer.recall.M.start.W1"], 0.0, (2, 2, 4, ))
    carry["loss.layer[0].mixer.recall.S.velocity.m.W1"] = k1.expand(batch, 2, 2, 4)
    k2 = full(W["loss.layer[0].mixer.recall.M.start.W1"], 0.0, (2, 4, 2, ))
    carry["loss.layer[0].mixer.recall.S.velocity.m.W2"] = k2.expand(batch, 2, 4, 2)
    carry["loss.layer[0].mixer.recall.M.W1@chunk"] = W["loss.layer[0].mixer.recall.M.start.W1"].expand(batch, 2, 2, 4)
    carry["loss.layer[0].mixer.recall.M.W2@chunk"] = W["loss.layer[0].mixer.recall.M.start.W2"].expand(batch, 2, 4, 2)
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


def tick_1(S, G, V, N, D, planned):
    new = {}
    new["training.adamw.adam.moments.m"], new["training.adamw.adam.moments.s"], new["training.W"], = update_1(S["training.adamw.adam.moments.m"], N["loss"], G["training.W|loss"], S["training.adamw.adam.moments.s"], S["training.W"], S["training.tick"] + 1, planned["training"])
    S["training.W"].copy_(new["training.W"])
    S["training.adamw.adam.moments.m"].copy_(new["training.adamw.adam.moments.m"])
    S["training.adamw.adam.moments.s"].copy_(new["training.adamw.adam.moments.s"])


def step_1(S, inputs, D, planned, mode, lanes):
    W = weights(S)
    sums, terms, lasting = fresh(W, inputs, mode, lanes)
    G = gradients(W, sums)
    V = {name: s.detach() for name, s in sums.items()}
    with torch.no_grad():
        tick_1(S, G, V, terms, D, planned)
    return V, terms, lasting
