def block_1(
    ids,  # [B, T]
    x,  # [vocab, d]
    before,  # [B, n]
    position,
):
    # std/layers.nl:31  x = embed(ids, [d])
    x_2 = F.embedding(ids, x)
    # titans.nl:36  loss = cross_entropy(language_model(ids, neural_memory, d, depth, vocab), nex..
    loss_1 = newest(ids, before)
    return (x_2, loss_1), (ids[:, -1:],)


def block_2(
    x,  # [B, T, d]
    rmsnorm,  # [d]
    mixer_q_linear,  # [head, e, d]
    mixer_linear2,  # [head, e, d]
    mixer_forget,  # [head, d]
    mixer_decay,  # [head, d]
    mixer_rate,  # [head, d]
    mixer_k_linear,  # [head, e, d]
    mixer_v_linear,  # [head, e, d]
    mixer_forget_bias,  # [head]
    mixer_decay_bias,  # [head]
    mixer_rate_bias,  # [head]
    mixer_q_conv,  # [4, head, e]
    mixer_k_conv,  # [4, head, e]
    mixer_v_conv,  # [4, head, e]
    q_conv_tail,  # [B, 3, head, e]
    k_conv_tail,  # [B, 3, head, e]
    v_conv_tail,  # [B, 3, head, e]
    position,
):
    # titans.nl:18  q = unit(project(x, [head, e]))  # Eq. 11, sec. 4.4: SiLU, conv 4, unit length
    rmsnorm_1 = rmsnorm * x / torch.sqrt((x ** 2.0).mean((-1,)) + 1e-06)[:, :, None]
    rows = joined(q_conv_tail, F.silu(torch.einsum("abc,BTc->BTab", mixer_q_linear, rmsnorm_1)))
    project_1 = conv(rows, mixer_q_conv)
    q = project_1 / torch.sqrt((project_1 * project_1).sum((-1,)) + 1e-06)[:, :, :, None]
    # titans.nl:23  forget = sigmoid(affine(x, [head]) - 6)  # alpha_t in [0, 1]; starts near 0
    forget_1 = torch.einsum("ab,BTb->BTa", mixer_forget, rmsnorm_1) + mixer_forget_bias - 6.0
    forget = torch.sigmoid(forget_1)
    # titans.nl:30  M <- (1 - forget) * M + S  # Eq. 13
    M_1 = 1.0 - forget
    # titans.nl:21  decay = sigmoid(affine(x, [head]))  # eta_t
    decay = torch.sigmoid(torch.einsum("ab,BTb->BTa", mixer_decay, rmsnorm_1) + mixer_decay_bias)
    # titans.nl:19  k = unit(project(x, [head, e]))  # Eq. 11
    rows_2 = joined(k_conv_tail, F.silu(torch.einsum("abc,BTc->BTab", mixer_k_linear, rmsnorm_1)))
    project_2 = conv(rows_2, mixer_k_conv)
    k = project_2 / torch.sqrt((project_2 * project_2).sum((-1,)) + 1e-06)[:, :, :, None]
    # titans.nl:20  v = project(x, [head, e])  # Eq. 11
    rows_3 = joined(v_conv_tail, F.silu(torch.einsum("abc,BTc->BTab", mixer_v_linear, rmsnorm_1)))
    v = conv(rows_3, mixer_v_conv)
    # titans.nl:22  rate = 0.01 * (1 - decay) .* sigmoid(affine(x, [head]))  # theta_t; range not..
    rate_1 = torch.sigmoid(torch.einsum("ab,BTb->BTa", mixer_rate, rmsnorm_1) + mixer_rate_bias)
    rate = 0.01 * (1.0 - decay) * rate_1
    # titans.nl:34  return linear(rmsnorm(y) .* sigmoid(linear(x, [head, e])), [d])
    neural_memory_1 = torch.sigmoid(torch.einsum("abc,BTc->BTab", mixer_linear2, rmsnorm_1))
    return (q, M_1, decay, k, v, rate, neural_memory_1), (
        rows[:, rows.shape[1] - 3:],
        rows_2[:, rows_2.shape[1] - 3:],
        rows_3[:, rows_3.shape[1] - 3:],
    )


def still_1(streams, statics):
    (
        q,  # [B, T, head, e]
        sub_forget,  # [B, T, head]
        decay,  # [B, T, head]
        k,  # [B, T, head, e]
        v,  # [B, T, head, e]
        rate,  # [B, T, head]
    ) = streams
    # std/optimizers.nl:18  m <- decay * m - lr * grad(m)  # Eq. 33
    kernel, phi = decay_kernel(decay.movedim(1, -1))
    # titans.nl:30  M <- (1 - forget) * M + S  # Eq. 13
    kernel_2, phi_2 = decay_kernel(sub_forget.movedim(1, -1))
    M_1 = (kernel_2 @ phi.unsqueeze(-1)).squeeze(-1)
    m_1 = kernel * (rate.movedim(1, -1) * -1.0).unsqueeze(-2)
    M_2 = kernel_2 @ m_1
    M_3 = M_2[..., -1, :]
    M_4 = m_1[..., -1, :]
    # titans.nl:14  return W1 * silu(W2 * z)
    net_1 = torch.einsum("BaT->BTa", phi_2)
    net_2 = torch.einsum("BaT->BTa", M_1)
    net_3 = torch.einsum("BTac,BJac->BaTJ", q, k) * M_2
    return (
        phi.contiguous(),
        phi_2.contiguous(),
        M_1.contiguous(),
        M_2.contiguous(),
        M_3.contiguous(),
        M_4.contiguous(),
        net_1.contiguous(),
        net_2.contiguous(),
        net_3.contiguous(),
    )


def moving_1(state, streams, statics, ends, left, made):
    (
        M_W1,  # [B, head, e, 2 * e]
        M_W2,  # [B, head, 2 * e, e]
        S_m_W1,  # [B, head, e, 2 * e]
        S_m_W2,  # [B, head, 2 * e, e]
        M_W1_chunk,  # [B, head, e, 2 * e]
        M_W2_chunk,  # [B, head, 2 * e, e]
    ) = state
    (
        q,  # [B, T, head, e]
        sub_forget,  # [B, T, head]
        decay,  # [B, T, head]
        k,  # [B, T, head, e]
        v,  # [B, T, head, e]
        rate,  # [B, T, head]
        t,  # [1, T] tokens before each
    ) = streams
    (chunk_ends,) = ends  # does its clock tick at the last token?
    (
        phi,
        phi_2,
        M_1,
        M_2,
        M_3,
        M_4,
        net_1,
        net_2,
        net_3,
    ) = made
    # titans.nl:30  M <- (1 - forget) * M + S  # Eq. 13
    M_5 = M_1[..., -1][..., None, None] * S_m_W1
    # titans.nl:29  S = momentum(grad(M@chunk), rate, decay)  # Eqs. 14, 18: gradient at chunk start
    held = M_W1 if M_W1_chunk is None else M_W1_chunk
    held_2 = M_W2 if M_W2_chunk is None else M_W2_chunk
    S_1 = torch.einsum("Babc,BTac->BTab", held_2, k)
    S_2 = F.silu(S_1)
    S_3 = 2.0 * (torch.einsum("Babc,BTac->BTab", held, S_2) - v)
    # titans.nl:30  M <- (1 - forget) * M + S  # Eq. 13
    M_6 = torch.einsum("BJpu,BJpv->Bpuv", S_3 * M_3.movedim(-1, 1)[..., None], S_2)
    M_W1_new = phi_2[..., -1][..., None, None] * M_W1 + M_5 + M_6
    M_7 = M_1[..., -1][..., None, None] * S_m_W2
    # titans.nl:29  S = momentum(grad(M@chunk), rate, decay)  # Eqs. 14, 18: gradient at chunk start
    S_4 = torch.sigmoid(S_1)
    S_5 = torch.einsum("BTab,Babc->BTac", S_3, held) * (S_4 * (1.0 + S_1 * (1.0 - S_4)))
    # titans.nl:30  M <- (1 - forget) * M + S  # Eq. 13
    M_8 = torch.einsum("BJpu,BJpv->Bpuv", S_5 * M_3.movedim(-1, 1)[..., None], k)
    M_W2_new = phi_2[..., -1][..., None, None] * M_W2 + M_7 + M_8
    M_9 = torch.einsum("BJpu,BJpv->Bpuv", S_3 * M_4.movedim(-1, 1)[..., None], S_2)
    S_m_W1_new = phi[..., -1][..., None, None] * S_m_W1 + M_9
    M_10 = torch.einsum("BJpu,BJpv->Bpuv", S_5 * M_4.movedim(-1, 1)[..., None], k)
    S_m_W2_new = phi[..., -1][..., None, None] * S_m_W2 + M_10
    # titans.nl:14  return W1 * silu(W2 * z)
    M_W1_chunk_new = select(chunk_ends, M_W1_new, held)
    M_W2_chunk_new = select(chunk_ends, M_W2_new, held_2)
    net_4 = torch.einsum("BTab,BTa->BTab", torch.einsum("Babc,BTac->BTab", M_W2, q), net_1)
    net_5 = torch.einsum("BTab,BTa->BTab", torch.einsum("Babc,BTac->BTab", S_m_W2, q), net_2)
    net_6 = F.silu(net_4 + net_5 + torch.einsum("BaTJ,BJab->BTab", net_3, S_5))
    net_7 = torch.einsum("BTab,BTa->BTab", torch.einsum("Babc,BTac->BTab", M_W1, net_6), net_1)
    net_8 = torch.einsum("BTab,BTa->BTab", torch.einsum("Babc,BTac->BTab", S_m_W1, net_6), net_2)
    net_9 = torch.einsum("BTac,BJac->BaTJ", net_6, S_2) * M_2
    # titans.nl:33  y = recall.M@after(q)  # Eq. 15: a token sees what it wrote
    y = net_7 + net_8 + torch.einsum("BaTJ,BJab->BTab", net_9, S_3)
    return (
        M_W1_new, M_W2_new, S_m_W1_new, S_m_W2_new, M_W1_chunk_new, M_W2_chunk_new
    ) if left else (), (y,)


def region_1(state, streams, statics, ends, left):
    return moving_1(state, streams, statics, ends, left, still_1(streams[:-1], statics))


def block_3(
    q,  # [B, T, head, e]
    sub_forget,  # [B, T, head]
    decay,  # [B, T, head]
    k,  # [B, T, head, e]
    v,  # [B, T, head, e]
    rate,  # [B, T, head]
    M_W1,  # [B, head, e, 2 * e]
    M_W2,  # [B, head, 2 * e, e]
    S_m_W1,  # [B, head, e, 2 * e]
    S_m_W2,  # [B, head, 2 * e, e]
    M_W1_chunk,  # [B, head, e, 2 * e]
    M_W2_chunk,  # [B, head, 2 * e, e]
    position,
    mode,
):
    (
        M_W1_new, M_W2_new, S_m_W1_new, S_m_W2_new, M_W1_chunk_new, M_W2_chunk_new
    ), (y,) = scan_chunks(
        region_1,
        (still_1, moving_1),
        (M_W1, M_W2, S_m_W1, S_m_W2, M_W1_chunk, M_W2_chunk),
        (q, sub_forget, decay, k, v, rate, times(q, position)),
        (),
        position,
        2,
        ((2, 0, 0),),
        ((4, 0), (5, 0)),
        mode,
    )
    return (y,), (M_W1_new, M_W2_new, S_m_W1_new, S_m_W2_new, M_W1_chunk_new, M_W2_chunk_new)


def block_4(
    y,  # [B, T, head, e]
    sigmoid_1,  # [B, T, head, e]
    x,  # [B, T, d]
    mixer_rmsnorm,  # [e]
    mixer_linear,  # [d, head, e]
    rmsnorm2,  # [d]
    swiglu_gate,  # [4 * d, d]
    swiglu_up,  # [4 * d, d]
    swiglu_down,  # [d, 4 * d]
    position,
):
    # titans.nl:34  return linear(rmsnorm(y) .* sigmoid(linear(x, [head, e])), [d])
    rmsnorm_1 = torch.sqrt((y ** 2.0).mean((-1,)) + 1e-06)[:, :, :, None]
    neural_memory_1 = mixer_rmsnorm[None, :] * y / rmsnorm_1 * sigmoid_1
    # std/layers.nl:33  x <- x + mixer(rmsnorm(x))
    x_2 = x + torch.einsum("abc,BTbc->BTa", mixer_linear, neural_memory_1)
    # std/layers.nl:11  gate = linear(z, [hidden])
    rmsnorm_2 = rmsnorm2 * x_2 / torch.sqrt((x_2 ** 2.0).mean((-1,)) + 1e-06)[:, :, None]
    gate = torch.einsum("ab,BTb->BTa", swiglu_gate, rmsnorm_2)
    # std/layers.nl:12  up = linear(z, [hidden])
    up = torch.einsum("ab,BTb->BTa", swiglu_up, rmsnorm_2)
    # std/layers.nl:13  down = linear(silu(gate) .* up, shape(z))
    down = torch.einsum("ab,BTb->BTa", swiglu_down, F.silu(gate) * up)
    # std/layers.nl:34  x <- x + swiglu(rmsnorm(x), hidden)
    x_3 = x_2 + down
    return (x_3,), ()


def block_5(
    x,  # [B, T, d]
    ahead_ids,  # [B, T]
    rmsnorm,  # [d]
    linear,  # [vocab, d]
    before,  # [B, n, vocab]
    position,
):
    # titans.nl:36  loss = cross_entropy(language_model(ids, neural_memory, d, depth, vocab), nex..
    rmsnorm_1 = rmsnorm * x / torch.sqrt((x ** 2.0).mean((-1,)) + 1e-06)[:, :, None]
    language_model_1 = torch.einsum("ab,BTb->BTa", linear, rmsnorm_1)
    loss = cross_entropy(behind(language_model_1, before, 1), ahead_ids)
    return (loss,), (latest(language_model_1, before, 1),)


def forward(W, inputs, carry, position, mode):
    new = {}
    (x, ahead_ids), (new["ids.before"],) = block_1(
        inputs["ids"], W["loss.x"], carry["ids.before"], position
    )
    (q_0, sub_forget_0, decay_0, k_0, v_0, rate_0, sigmoid_1_0), (
        new["loss.layer[0].mixer.q.conv.tail"],
        new["loss.layer[0].mixer.k.conv.tail"],
        new["loss.layer[0].mixer.v.conv.tail"],
    ) = block_2(
        x,
        W["loss.layer[0].rmsnorm"],
        W["loss.layer[0].mixer.q.linear"],
        W["loss.layer[0].mixer.linear2"],
        W["loss.layer[0].mixer.forget"],
        W["loss.layer[0].mixer.decay"],
        W["loss.layer[0].mixer.rate"],
        W["loss.layer[0].mixer.k.linear"],
        W["loss.layer[0].mixer.v.linear"],
        W["loss.layer[0].mixer.forget.bias"],
        W["loss.layer[0].mixer.decay.bias"],
        W["loss.layer[0].mixer.rate.bias"],
        W["loss.layer[0].mixer.q.conv"],
        W["loss.layer[0].mixer.k.conv"],
        W["loss.layer[0].mixer.v.conv"],
        carry["loss.layer[0].mixer.q.conv.tail"],
        carry["loss.layer[0].mixer.k.conv.tail"],
        carry["loss.layer[0].mixer.v.conv.tail"],
        position,
    )
    (y_0,), (
        new["loss.layer[0].mixer.recall.M.W1"],
        new["loss.layer[0].mixer.recall.M.W2"],
        new["loss.layer[0].mixer.recall.S.velocity.m.W1"],
        new["loss.layer[0].mixer.recall.S.velocity.m.W2"],
        new["loss.layer[0].mixer.recall.M.W1@chunk"],
        new["loss.layer[0].mixer.recall.M.W2@chunk"],
    ) = block_3(
        q_0,
        sub_forget_0,
        decay_0,
        k_0,
        v_0,
        rate_0,
        carry["loss.layer[0].mixer.recall.M.W1"],
        carry["loss.layer[0].mixer.recall.M.W2"],
        carry["loss.layer[0].mixer.recall.S.velocity.m.W1"],
        carry["loss.layer[0].mixer.recall.S.velocity.m.W2"],
        carry["loss.layer[0].mixer.recall.M.W1@chunk"],
        carry["loss.layer[0].mixer.recall.M.W2@chunk"],
        position,
        mode,
    )
    (x_0,), () = block_4(
        y_0,
        sigmoid_1_0,
        x,
        W["loss.layer[0].mixer.rmsnorm"],
        W["loss.layer[0].mixer.linear"],
        W["loss.layer[0].rmsnorm2"],
        W["loss.layer[0].swiglu.gate"],
        W["loss.layer[0].swiglu.up"],
        W["loss.layer[0].swiglu.down"],
        position,
    )
    (loss,), (new["einsum.before"],) = block_5(
        x_0, ahead_ids, W["loss.rmsnorm"], W["loss.linear"], carry["einsum.before"], position
    )
    return {"loss": loss}, new


def start(W, batch, like, lanes=None):
    filled1 = full(W["loss.layer[0].mixer.recall.M.start.W1"], 0.0, (2, 2, 4, ))
    filled2 = full(W["loss.layer[0].mixer.recall.M.start.W1"], 0.0, (2, 4, 2, ))
    carry = {}
    carry["ids.before"] = None
    carry["loss.layer[0].mixer.q.conv.tail"] = like.new_zeros((batch, 3, 2, 2))
    carry["loss.layer[0].mixer.k.conv.tail"] = like.new_zeros((batch, 3, 2, 2))
    carry["loss.layer[0].mixer.v.conv.tail"] = like.new_zeros((batch, 3, 2, 2))
    carry["loss.layer[0].mixer.recall.M.W1"] = W[
        "loss.layer[0].mixer.recall.M.start.W1"
    ].expand(batch, 2, 2, 4)
    carry["loss.layer[0].mixer.recall.M.W2"] = W[
        "loss.layer[0].mixer.recall.M.start.W2"
    ].expand(batch, 2, 4, 2)
    carry["loss.layer[0].mixer.recall.S.velocity.m.W1"] = filled1.expand(batch, 2, 2, 4)
    carry["loss.layer[0].mixer.recall.S.velocity.m.W2"] = filled2.expand(batch, 2, 4, 2)
    carry[
        "loss.layer[0].mixer.recall.M.W1@chunk"
    ] = W["loss.layer[0].mixer.recall.M.start.W1"].expand(batch, 2, 2, 4)
    carry[
        "loss.layer[0].mixer.recall.M.W2@chunk"
    ] = W["loss.layer[0].mixer.recall.M.start.W2"].expand(batch, 2, 4, 2)
    carry["einsum.before"] = None
    return carry


def update_1(
    m,  # [436] all its arrays
    terms_loss,  # []
    grad_W,  # [436] all its arrays
    s,  # [436] all its arrays
    W,  # [436] all its arrays
    tick,  # []
    ticks,  # []
):
    # titans.nl:42  W <- W + adamw(W, clip(grad(W), 1), lr = cosine(3e-3, 0.02), decay = 0.1)  #..
    W_1 = 1.0 / terms_loss * grad_W
    # std/optimizers.nl:30  m <- m - (1 - beta1) * grad(m)
    clip_1 = W_1 * (1.0 / (torch.sqrt((W_1 * W_1).sum()) + 1e-06)).clamp(max=1.0)
    m_new = m - 0.09999999999999998 * (m - clip_1)
    # std/optimizers.nl:31  s <- s - (1 - beta2) * grad(s)
    s_new = s - 0.0010000000000000009 * (s - clip_1 ** 2.0)
    # std/optimizers.nl:8  s = tick / ticks  # ticks so far, and in the whole run
    s_2 = tick / ticks
    # titans.nl:42  W <- W + adamw(W, clip(grad(W), 1), lr = cosine(3e-3, 0.02), decay = 0.1)  #..
    cosine_1 = (1.0 + torch.cos(3.141592653589793 * (s_2 - 0.02) / 0.98)) / 2.0
    cosine_2 = torch.where(s_2 <= 0.02, s_2 / 0.02, cosine_1)
    # std/optimizers.nl:33  mean_g = moments.m@after / (1 - beta1 ^ tick)  # bias corrections: ab..
    mean_g = m_new / (1.0 - 0.9 ** tick)
    # titans.nl:42  W <- W + adamw(W, clip(grad(W), 1), lr = cosine(3e-3, 0.02), decay = 0.1)  #..
    adam_1 = -mean_g / (torch.sqrt(s_new / (1.0 - 0.999 ** tick)) + 1e-08)
    W_new = W + (0.003 * cosine_2 * adam_1 - 0.00030000000000000003 * cosine_2 * W)
    return m_new, s_new, W_new


def tick_1(S, G, V, N, D, planned):
    new = {}
    # training every 1 step
    (
        new["training.adamw.adam.moments.m"],
        new["training.adamw.adam.moments.s"],
        new["training.W"],
    ) = update_1(
        S["training.adamw.adam.moments.m"],
        N["loss"],
        G["training.W|loss"],
        S["training.adamw.adam.moments.s"],
        S["training.W"],
        S["training.tick"] + 1,
        planned["training"],
    )
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
