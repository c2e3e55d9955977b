def block_1(
    ids,  # [B, T]
    x,  # [vocab, d]
    before,  # [B, n]
    position,
):
    # hope.nl:66  x = embed(ids, [d])
    x_2 = F.embedding(ids, x)
    # hope.nl:73  loss = cross_entropy(model(ids), next(ids))
    loss_1 = newest(ids, before)
    return (x_2, loss_1), (ids[:, -1:],)


def block_2(
    x,  # [B, T, d]
    rmsnorm,  # [d]
    self_modifying_titans_q,  # [head, e, d]
    self_modifying_titans_z,  # [head, e, d]
    self_modifying_titans_q_conv,  # [4, head, e]
    self_modifying_titans_z_conv,  # [4, head, e]
    q_conv_tail,  # [B, 3, head, e]
    z_conv_tail,  # [B, 3, head, e]
    position,
):
    # hope.nl:36  z = conv(linear(x, [head, e]), 4)  # sec. 8.3: the only mixing in a chunk
    rmsnorm_1 = rmsnorm * x / torch.sqrt((x ** 2.0).mean((-1,)) + 1e-06)[:, :, None]
    rows = joined(z_conv_tail, torch.einsum("abc,BTc->BTab", self_modifying_titans_z, rmsnorm_1))
    z = conv(rows, self_modifying_titans_z_conv)
    # hope.nl:42  q = unit(conv(linear(x, [head, e]), 4))  # Eq. 76: the only static projection (..
    rows_2 = joined(q_conv_tail, torch.einsum("abc,BTc->BTab", self_modifying_titans_q, rmsnorm_1))
    q_1 = conv(rows_2, self_modifying_titans_q_conv)
    q = q_1 / torch.sqrt((q_1 * q_1).sum((-1,)) + 1e-06)[:, :, :, None]
    return (z, q), (rows_2[:, rows_2.shape[1] - 3:], rows[:, rows.shape[1] - 3:])


def region_1(state, streams, statics, ends, left):
    (
        M_W1,  # [B, head, 4, e, 4 * e]
        M_W2,  # [B, head, 4, 4 * e, e]
        S_velocity_m_W1,  # [B, head, 4, e, 4 * e]
        S_velocity_m_W2,  # [B, head, 4, 4 * e, e]
        M_W1_near,  # [B, head, 4, e, 4 * e]
        M_W2_near,  # [B, head, 4, 4 * e, e]
    ) = state
    (
        z,  # [B, T, head, e]
        t,  # [1, T] tokens before each
    ) = streams
    (
        a,  # [head, e]
        r,  # [head, e]
    ) = statics
    (near_ends,) = ends  # does its clock tick at the last token?
    # hope.nl:46  a = sum(weight([head, e]) .* M_alpha@near(z), e)  # Eq. 83; the same (hole 9)
    held = M_W1 if M_W1_near is None else M_W1_near
    held_2 = M_W2 if M_W2_near is None else M_W2_near
    # hope.nl:18  return z + W1 * silu(W2 * z)  # Eq. 89
    residual_1 = F.silu(torch.einsum("Banbc,BTac->BTanb", held_2, z))
    # hope.nl:46  a = sum(weight([head, e]) .* M_alpha@near(z), e)  # Eq. 83; the same (hole 9)
    a_1 = residual_1.select(-2, 0)
    a_2 = (torch.einsum("ab,Babc->Bac", a, held.select(-3, 0)).unsqueeze(1) * a_1).sum((-1,))
    a_3 = (a * z).sum((-1,)) + a_2
    # hope.nl:48  keep = sigmoid(a + 6)  # Eq. 83; starts near 1 (hole 4)
    keep = torch.sigmoid(a_3 + 6.0)
    # hope.nl:29  M.W1 <- keep * M.W1 + S.W1  # Eq. 88 without the rank-one term (hole 2)
    kernel, phi = decay_kernel(keep[..., None].movedim(1, -1))
    # hope.nl:18  return z + W1 * silu(W2 * z)  # Eq. 89
    residual_2 = torch.einsum("Babc,BTac->BTab", held.select(-3, 2), residual_1.select(-2, 2))
    residual_3 = z + residual_2
    # hope.nl:43  k = unit(M_k@near(z))  # Eq. 83
    k = residual_3 / torch.sqrt((residual_3 * residual_3).sum((-1,)) + 1e-06)[:, :, :, None]
    # hope.nl:27  S = momentum(grad(M@chunk), rate, beta)  # Eq. 90: gradient at xi; holes 3, 7
    S_1 = k[:, :, :, None, :]
    S_2 = torch.einsum("Banbc,BTac->BTanb", held_2, k)
    S_3 = F.silu(S_2)
    # hope.nl:18  return z + W1 * silu(W2 * z)  # Eq. 89
    residual_4 = torch.einsum("Babc,BTac->BTab", held.select(-3, 3), residual_1.select(-2, 3))
    residual_5 = z + residual_4
    # hope.nl:44  v = unit(M_v@near(z))  # Eq. 83; unit length: not in the paper
    v = residual_5 / torch.sqrt((residual_5 * residual_5).sum((-1,)) + 1e-06)[:, :, :, None]
    # hope.nl:27  S = momentum(grad(M@chunk), rate, beta)  # Eq. 90: gradient at xi; holes 3, 7
    S_4 = S_3 - F.silu(torch.einsum("Banbc,BTac->BTanb", held_2, v))
    S_5 = S_1 + torch.einsum("Banbc,BTanc->BTanb", held, S_4) - v[:, :, :, None, :]
    # hope.nl:45  r = sum(weight([head, e]) .* M_eta@near(z), e)  # Eq. 83; made a number by a he..
    r_1 = residual_1.select(-2, 1)
    r_2 = (torch.einsum("ab,Babc->Bac", r, held.select(-3, 1)).unsqueeze(1) * r_1).sum((-1,))
    r_3 = (r * z).sum((-1,)) + r_2
    # hope.nl:47  rate = sigmoid(r) / span  # Eq. 83; above 1/chunk it diverges (hole 4)
    rate = torch.sigmoid(r_3) / 4.0
    # hope.nl:29  M.W1 <- keep * M.W1 + S.W1  # Eq. 88 without the rank-one term (hole 2)
    m_1 = rate[..., None].movedim(1, -1) * -1.0
    M_W1_1 = kernel * m_1.unsqueeze(-2)
    M_W1_2 = M_W1_1[..., -1, :]
    M_W1_3 = torch.einsum("BJpqu,BJpqv->Bpquv", S_5 * M_W1_2.movedim(-1, 1)[..., None], S_3)
    M_W1_new = phi[..., -1][..., None, None] * M_W1 + M_W1_3
    # hope.nl:27  S = momentum(grad(M@chunk), rate, beta)  # Eq. 90: gradient at xi; holes 3, 7
    S_6 = torch.sigmoid(S_2)
    S_7 = torch.einsum("BTanb,Banbc->BTanc", S_5, held) * (S_6 * (1.0 + S_2 * (1.0 - S_6)))
    # hope.nl:28  M.W2 <- M.W2 * (keep * I - rate * k * k^T) + S.W2  # Eqs. 88, 90: its input is..
    M_W2_1 = torch.einsum("BpqT->BTpq", shift_decay(phi, 1.0))
    M_W2_2 = torch.einsum(
        "BTpqo,BTpq->BTpqo",
        S_2 if M_W2_near is None else torch.einsum("Bpqoi,BTpi->BTpqo", M_W2, k),
        M_W2_1,
    )
    M_W2_3 = wy_inverse(-(torch.einsum("BTpqi,BJpqi->BpqTJ", S_1, S_1) * shift_right(M_W1_1)))
    M_W2_4 = S_1 * M_W1_2.movedim(-1, 1)[..., None]
    M_W2_5 = torch.einsum("BpqTJ,BTpqv->BJpqv", M_W2_3, M_W2_4)
    M_W2_6 = torch.einsum("BJpqu,BJpqv->Bpquv", S_7 + M_W2_2, M_W2_5)
    M_W2_new = phi[..., -1][..., None, None] * M_W2 + M_W2_6
    S_velocity_m_W1_new = (
        torch.einsum("Bpqu,Bpqv->Bpquv", S_5[:, -1], S_3[:, -1]) * m_1[..., -1][..., None, None]
    )
    S_velocity_m_W2_1 = S_1.expand(-1, -1, 2, 4, 2)
    S_velocity_m_W2_new = (
        torch.einsum("Bpqu,Bpqv->Bpquv", S_7[:, -1], S_velocity_m_W2_1[:, -1])
        * m_1[..., -1][..., None, None]
    )
    M_W1_near_new = select(near_ends, M_W1_new, held)
    M_W2_near_new = select(near_ends, M_W2_new, held_2)
    return (
        M_W1_new, M_W2_new, S_velocity_m_W1_new, S_velocity_m_W2_new, M_W1_near_new, M_W2_near_new
    ) if left else (), (keep, rate, k, v)


def block_3(
    z,  # [B, T, head, e]
    a,  # [head, e]
    r,  # [head, e]
    M_alpha_M_W1,  # [B, head, e, 4 * e]
    M_alpha_M_W2,  # [B, head, 4 * e, e]
    M_eta_M_W1,  # [B, head, e, 4 * e]
    M_eta_M_W2,  # [B, head, 4 * e, e]
    M_k_M_W1,  # [B, head, e, 4 * e]
    M_k_M_W2,  # [B, head, 4 * e, e]
    M_alpha_S_m_W1,  # [B, head, e, 4 * e]
    M_alpha_S_m_W2,  # [B, head, 4 * e, e]
    M_v_M_W1,  # [B, head, e, 4 * e]
    M_v_M_W2,  # [B, head, 4 * e, e]
    M_eta_S_m_W1,  # [B, head, e, 4 * e]
    M_eta_S_m_W2,  # [B, head, 4 * e, e]
    M_k_S_m_W1,  # [B, head, e, 4 * e]
    M_k_S_m_W2,  # [B, head, 4 * e, e]
    M_v_S_m_W1,  # [B, head, e, 4 * e]
    M_v_S_m_W2,  # [B, head, 4 * e, e]
    M_alpha_M_W1_near,  # [B, head, e, 4 * e]
    M_alpha_M_W2_near,  # [B, head, 4 * e, e]
    M_eta_M_W1_near,  # [B, head, e, 4 * e]
    M_eta_M_W2_near,  # [B, head, 4 * e, e]
    M_k_M_W1_near,  # [B, head, e, 4 * e]
    M_k_M_W2_near,  # [B, head, 4 * e, e]
    M_v_M_W1_near,  # [B, head, e, 4 * e]
    M_v_M_W2_near,  # [B, head, 4 * e, e]
    position,
    mode,
):
    (n1, n2, n3, n4, n5, n6), (keep, rate, k, v) = scan_chunks(
        region_1,
        (),
        (
            torch.stack([M_alpha_M_W1, M_eta_M_W1, M_k_M_W1, M_v_M_W1], 2),
            torch.stack([M_alpha_M_W2, M_eta_M_W2, M_k_M_W2, M_v_M_W2], 2),
            torch.stack([M_alpha_S_m_W1, M_eta_S_m_W1, M_k_S_m_W1, M_v_S_m_W1], 2),
            torch.stack([M_alpha_S_m_W2, M_eta_S_m_W2, M_k_S_m_W2, M_v_S_m_W2], 2),
            torch.stack([M_alpha_M_W1_near, M_eta_M_W1_near, M_k_M_W1_near, M_v_M_W1_near], 2),
            torch.stack([M_alpha_M_W2_near, M_eta_M_W2_near, M_k_M_W2_near, M_v_M_W2_near], 2),
        ),
        (z, times(z, position)),
        (a, r),
        position,
        2,
        ((2, 0, 0),),
        ((4, 0), (5, 0)),
        mode,
    )
    M_alpha_M_W1_new, M_eta_M_W1_new, M_k_M_W1_new, M_v_M_W1_new = n1.unbind(2)
    M_alpha_M_W2_new, M_eta_M_W2_new, M_k_M_W2_new, M_v_M_W2_new = n2.unbind(2)
    M_alpha_S_m_W1_new, M_eta_S_m_W1_new, M_k_S_m_W1_new, M_v_S_m_W1_new = n3.unbind(2)
    M_alpha_S_m_W2_new, M_eta_S_m_W2_new, M_k_S_m_W2_new, M_v_S_m_W2_new = n4.unbind(2)
    M_alpha_M_W1_near_new, M_eta_M_W1_near_new, M_k_M_W1_near_new, M_v_M_W1_near_new = n5.unbind(2)
    M_alpha_M_W2_near_new, M_eta_M_W2_near_new, M_k_M_W2_near_new, M_v_M_W2_near_new = n6.unbind(2)
    return (keep, k, rate, v), (
        M_alpha_M_W1_new,
        M_alpha_M_W2_new,
        M_eta_M_W1_new,
        M_eta_M_W2_new,
        M_k_M_W1_new,
        M_k_M_W2_new,
        M_alpha_S_m_W1_new,
        M_alpha_S_m_W2_new,
        M_v_M_W1_new,
        M_v_M_W2_new,
        M_eta_S_m_W1_new,
        M_eta_S_m_W2_new,
        M_k_S_m_W1_new,
        M_k_S_m_W2_new,
        M_v_S_m_W1_new,
        M_v_S_m_W2_new,
        M_alpha_M_W1_near_new,
        M_alpha_M_W2_near_new,
        M_eta_M_W1_near_new,
        M_eta_M_W2_near_new,
        M_k_M_W1_near_new,
        M_k_M_W2_near_new,
        M_v_M_W1_near_new,
        M_v_M_W2_near_new,
    )


def still_1(streams, statics):
    (
        q,  # [B, T, head, e]
        keep,  # [B, T, head]
        k,  # [B, T, head, e]
        rate,  # [B, T, head]
        v,  # [B, T, head, e]
    ) = streams
    # hope.nl:29  M.W1 <- keep * M.W1 + S.W1  # Eq. 88 without the rank-one term (hole 2)
    kernel, phi = decay_kernel(keep.movedim(1, -1))
    M_W1_1 = kernel * (rate.movedim(1, -1) * -1.0).unsqueeze(-2)
    M_W1_2 = M_W1_1[..., -1, :]
    # hope.nl:28  M.W2 <- M.W2 * (keep * I - rate * k * k^T) + S.W2  # Eqs. 88, 90: its input is..
    M_W2_1 = torch.einsum("BpT->BTp", shift_decay(phi, 1.0))
    M_W2_2 = wy_inverse(-(torch.einsum("BTpi,BJpi->BpTJ", k, k) * shift_right(M_W1_1)))
    M_W2_3 = torch.einsum("BpTJ,BTpv->BJpv", M_W2_2, k * M_W1_2.movedim(-1, 1)[..., None])
    return phi.contiguous(), M_W1_2.contiguous(), M_W2_1.contiguous(), M_W2_3.contiguous()


def moving_1(state, streams, statics, ends, left, made):
    (
        M_W1,  # [B, head, e, 4 * e]
        M_W2,  # [B, head, 4 * e, e]
        S_m_W1,  # [B, head, e, 4 * e]
        S_m_W2,  # [B, head, 4 * e, e]
        M_W1_far,  # [B, head, e, 4 * e]
        M_W2_far,  # [B, head, 4 * e, e]
    ) = state
    (
        q,  # [B, T, head, e]
        keep,  # [B, T, head]
        k,  # [B, T, head, e]
        rate,  # [B, T, head]
        v,  # [B, T, head, e]
        t,  # [1, T] tokens before each
    ) = streams
    (far_ends,) = ends  # does its clock tick at the last token?
    (
        phi,
        M_W1_2,
        M_W2_1,
        M_W2_3,
    ) = made
    # hope.nl:49  return linear(rmsnorm(M_mem@far(q)), [d])  # Eqs. 83, 90 (hole 6); meant: N405
    held = M_W1 if M_W1_far is None else M_W1_far
    held_2 = M_W2 if M_W2_far is None else M_W2_far
    # hope.nl:27  S = momentum(grad(M@chunk), rate, beta)  # Eq. 90: gradient at xi; holes 3, 7
    S_1 = torch.einsum("Babc,BTac->BTab", held_2, k)
    S_2 = F.silu(S_1)
    S_3 = S_2 - F.silu(torch.einsum("Babc,BTac->BTab", held_2, v))
    S_4 = k + torch.einsum("Babc,BTac->BTab", held, S_3) - v
    # hope.nl:29  M.W1 <- keep * M.W1 + S.W1  # Eq. 88 without the rank-one term (hole 2)
    M_W1_1 = torch.einsum("BJpu,BJpv->Bpuv", S_4 * M_W1_2.movedim(-1, 1)[..., None], S_2)
    M_W1_new = phi[..., -1][..., None, None] * M_W1 + M_W1_1
    # hope.nl:27  S = momentum(grad(M@chunk), rate, beta)  # Eq. 90: gradient at xi; holes 3, 7
    S_5 = torch.sigmoid(S_1)
    S_6 = torch.einsum("BTab,Babc->BTac", S_4, held) * (S_5 * (1.0 + S_1 * (1.0 - S_5)))
    # hope.nl:28  M.W2 <- M.W2 * (keep * I - rate * k * k^T) + S.W2  # Eqs. 88, 90: its input is..
    M_W2_2 = torch.einsum(
        "BTpo,BTp->BTpo",
        S_1 if M_W2_far is None else torch.einsum("Bpoi,BTpi->BTpo", M_W2, k),
        M_W2_1,
    )
    M_W2_4 = torch.einsum("BJpu,BJpv->Bpuv", S_6 + M_W2_2, M_W2_3)
    M_W2_new = phi[..., -1][..., None, None] * M_W2 + M_W2_4
    m_1 = rate.movedim(1, -1) * -1.0
    S_m_W1_new = (
        torch.einsum("Bpu,Bpv->Bpuv", S_4[:, -1], S_2[:, -1]) * m_1[..., -1][..., None, None]
    )
    S_m_W2_new = torch.einsum("Bpu,Bpv->Bpuv", S_6[:, -1], k[:, -1]) * m_1[..., -1][..., None, None]
    # hope.nl:18  return z + W1 * silu(W2 * z)  # Eq. 89
    M_W1_far_new = select(far_ends, M_W1_new, held)
    M_W2_far_new = select(far_ends, M_W2_new, held_2)
    residual_1 = F.silu(torch.einsum("Babc,BTac->BTab", held_2, q))
    residual_2 = torch.einsum("Babc,BTac->BTab", held, residual_1)
    return (
        M_W1_new, M_W2_new, S_m_W1_new, S_m_W2_new, M_W1_far_new, M_W2_far_new
    ) if left else (), (residual_2,)


def region_2(state, streams, statics, ends, left):
    return moving_1(state, streams, statics, ends, left, still_1(streams[:-1], statics))


def block_4(
    q,  # [B, T, head, e]
    keep,  # [B, T, head]
    k,  # [B, T, head, e]
    rate,  # [B, T, head]
    v,  # [B, T, head, e]
    M_W1,  # [B, head, e, 4 * e]
    M_W2,  # [B, head, 4 * e, e]
    S_m_W1,  # [B, head, e, 4 * e]
    S_m_W2,  # [B, head, 4 * e, e]
    M_W1_far,  # [B, head, e, 4 * e]
    M_W2_far,  # [B, head, 4 * e, e]
    position,
    mode,
):
    (
        M_W1_new, M_W2_new, S_m_W1_new, S_m_W2_new, M_W1_far_new, M_W2_far_new
    ), (v7,) = scan_chunks(
        region_2,
        (still_1, moving_1),
        (M_W1, M_W2, S_m_W1, S_m_W2, M_W1_far, M_W2_far),
        (q, keep, k, rate, v, times(q, position)),
        (),
        position,
        4,
        ((4, 0, 0),),
        ((4, 0), (5, 0)),
        mode,
    )
    return (v7,), (M_W1_new, M_W2_new, S_m_W1_new, S_m_W2_new, M_W1_far_new, M_W2_far_new)


def block_5(
    q,  # [B, T, head, e]
    einsum_1,  # [B, T, head, e]
    x,  # [B, T, d]
    self_modifying_titans_rmsnorm,  # [e]
    self_modifying_titans_linear,  # [d, head, e]
    continuum_p_1__rmsnorm,  # [d]
    continuum_F_gate,  # [4 * d, d]
    continuum_F_up,  # [4 * d, d]
    continuum_F_down,  # [d, 4 * d]
    continuum_p_2__rmsnorm,  # [d]
    continuum_F_gate_2,  # [4 * d, d]
    continuum_F_up_2,  # [4 * d, d]
    continuum_F_down_2,  # [d, 4 * d]
    position,
):
    # hope.nl:18  return z + W1 * silu(W2 * z)  # Eq. 89
    residual_1 = q + einsum_1
    # hope.nl:49  return linear(rmsnorm(M_mem@far(q)), [d])  # Eqs. 83, 90 (hole 6); meant: N405
    rmsnorm_1 = torch.sqrt((residual_1 ** 2.0).mean((-1,)) + 1e-06)[:, :, :, None]
    rmsnorm_2 = self_modifying_titans_rmsnorm[None, :] * residual_1 / rmsnorm_1
    # hope.nl:68  x <- x + self_modifying_titans(rmsnorm(x))  # Eq. 94
    x_2 = x + torch.einsum("abc,BTbc->BTa", self_modifying_titans_linear, rmsnorm_2)
    # hope.nl:61  x <- x + ffn[p].F(rmsnorm(x))  # Eq. 70
    rmsnorm_3 = torch.sqrt((x_2 ** 2.0).mean((-1,)) + 1e-06)
    rmsnorm_4 = continuum_p_1__rmsnorm * x_2 / rmsnorm_3[:, :, None]
    up_1 = torch.einsum("ab,BTb->BTa", continuum_F_up, rmsnorm_4)
    down_1 = F.silu(torch.einsum("ab,BTb->BTa", continuum_F_gate, rmsnorm_4)) * up_1
    x_3 = x_2 + torch.einsum("ab,BTb->BTa", continuum_F_down, down_1)
    rmsnorm_5 = torch.sqrt((x_3 ** 2.0).mean((-1,)) + 1e-06)
    rmsnorm_6 = continuum_p_2__rmsnorm * x_3 / rmsnorm_5[:, :, None]
    up_2 = torch.einsum("ab,BTb->BTa", continuum_F_up_2, rmsnorm_6)
    down_2 = F.silu(torch.einsum("ab,BTb->BTa", continuum_F_gate_2, rmsnorm_6)) * up_2
    x_4 = x_3 + torch.einsum("ab,BTb->BTa", continuum_F_down_2, down_2)
    return (x_4,), ()


def block_6(
    x,  # [B, T, d]
    ahead_ids,  # [B, T]
    rmsnorm,  # [d]
    linear,  # [vocab, d]
    before,  # [B, n, vocab]
    position,
):
    # hope.nl:71  return linear(rmsnorm(x), [vocab])
    rmsnorm_1 = rmsnorm * x / torch.sqrt((x ** 2.0).mean((-1,)) + 1e-06)[:, :, None]
    model_1 = torch.einsum("ab,BTb->BTa", linear, rmsnorm_1)
    # hope.nl:73  loss = cross_entropy(model(ids), next(ids))
    loss = cross_entropy(behind(model_1, before, 1), ahead_ids)
    return (loss,), (latest(model_1, before, 1),)


def forward(W, inputs, carry, position, mode):
    new = {}
    (x, ahead_ids), (new["ids.before"],) = block_1(
        inputs["ids"], W["loss.x"], carry["ids.before"], position
    )
    (z_0, q_0), (
        new["loss.layer[0].self_modifying_titans.q.conv.tail"],
        new["loss.layer[0].self_modifying_titans.z.conv.tail"],
    ) = block_2(
        x,
        W["loss.layer[0].rmsnorm"],
        W["loss.layer[0].self_modifying_titans.q"],
        W["loss.layer[0].self_modifying_titans.z"],
        W["loss.layer[0].self_modifying_titans.q.conv"],
        W["loss.layer[0].self_modifying_titans.z.conv"],
        carry["loss.layer[0].self_modifying_titans.q.conv.tail"],
        carry["loss.layer[0].self_modifying_titans.z.conv.tail"],
        position,
    )
    (keep_0, k_0, rate_0, v_0), (
        new["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W1"],
        new["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W2"],
        new["loss.layer[0].self_modifying_titans.M_eta.recall.M.W1"],
        new["loss.layer[0].self_modifying_titans.M_eta.recall.M.W2"],
        new["loss.layer[0].self_modifying_titans.M_k.recall.M.W1"],
        new["loss.layer[0].self_modifying_titans.M_k.recall.M.W2"],
        new["loss.layer[0].self_modifying_titans.M_alpha.recall.S.velocity.m.W1"],
        new["loss.layer[0].self_modifying_titans.M_alpha.recall.S.velocity.m.W2"],
        new["loss.layer[0].self_modifying_titans.M_v.recall.M.W1"],
        new["loss.layer[0].self_modifying_titans.M_v.recall.M.W2"],
        new["loss.layer[0].self_modifying_titans.M_eta.recall.S.velocity.m.W1"],
        new["loss.layer[0].self_modifying_titans.M_eta.recall.S.velocity.m.W2"],
        new["loss.layer[0].self_modifying_titans.M_k.recall.S.velocity.m.W1"],
        new["loss.layer[0].self_modifying_titans.M_k.recall.S.velocity.m.W2"],
        new["loss.layer[0].self_modifying_titans.M_v.recall.S.velocity.m.W1"],
        new["loss.layer[0].self_modifying_titans.M_v.recall.S.velocity.m.W2"],
        new["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W1@near"],
        new["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W2@near"],
        new["loss.layer[0].self_modifying_titans.M_eta.recall.M.W1@near"],
        new["loss.layer[0].self_modifying_titans.M_eta.recall.M.W2@near"],
        new["loss.layer[0].self_modifying_titans.M_k.recall.M.W1@near"],
        new["loss.layer[0].self_modifying_titans.M_k.recall.M.W2@near"],
        new["loss.layer[0].self_modifying_titans.M_v.recall.M.W1@near"],
        new["loss.layer[0].self_modifying_titans.M_v.recall.M.W2@near"],
    ) = block_3(
        z_0,
        W["loss.layer[0].self_modifying_titans.a"],
        W["loss.layer[0].self_modifying_titans.r"],
        carry["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W1"],
        carry["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W2"],
        carry["loss.layer[0].self_modifying_titans.M_eta.recall.M.W1"],
        carry["loss.layer[0].self_modifying_titans.M_eta.recall.M.W2"],
        carry["loss.layer[0].self_modifying_titans.M_k.recall.M.W1"],
        carry["loss.layer[0].self_modifying_titans.M_k.recall.M.W2"],
        carry["loss.layer[0].self_modifying_titans.M_alpha.recall.S.velocity.m.W1"],
        carry["loss.layer[0].self_modifying_titans.M_alpha.recall.S.velocity.m.W2"],
        carry["loss.layer[0].self_modifying_titans.M_v.recall.M.W1"],
        carry["loss.layer[0].self_modifying_titans.M_v.recall.M.W2"],
        carry["loss.layer[0].self_modifying_titans.M_eta.recall.S.velocity.m.W1"],
        carry["loss.layer[0].self_modifying_titans.M_eta.recall.S.velocity.m.W2"],
        carry["loss.layer[0].self_modifying_titans.M_k.recall.S.velocity.m.W1"],
        carry["loss.layer[0].self_modifying_titans.M_k.recall.S.velocity.m.W2"],
        carry["loss.layer[0].self_modifying_titans.M_v.recall.S.velocity.m.W1"],
        carry["loss.layer[0].self_modifying_titans.M_v.recall.S.velocity.m.W2"],
        carry["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W1@near"],
        carry["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W2@near"],
        carry["loss.layer[0].self_modifying_titans.M_eta.recall.M.W1@near"],
        carry["loss.layer[0].self_modifying_titans.M_eta.recall.M.W2@near"],
        carry["loss.layer[0].self_modifying_titans.M_k.recall.M.W1@near"],
        carry["loss.layer[0].self_modifying_titans.M_k.recall.M.W2@near"],
        carry["loss.layer[0].self_modifying_titans.M_v.recall.M.W1@near"],
        carry["loss.layer[0].self_modifying_titans.M_v.recall.M.W2@near"],
        position,
        mode,
    )
    (einsum_1_0,), (
        new["loss.layer[0].self_modifying_titans.M_mem.recall.M.W1"],
        new["loss.layer[0].self_modifying_titans.M_mem.recall.M.W2"],
        new["loss.layer[0].self_modifying_titans.M_mem.recall.S.velocity.m.W1"],
        new["loss.layer[0].self_modifying_titans.M_mem.recall.S.velocity.m.W2"],
        new["loss.layer[0].self_modifying_titans.M_mem.recall.M.W1@far"],
        new["loss.layer[0].self_modifying_titans.M_mem.recall.M.W2@far"],
    ) = block_4(
        q_0,
        keep_0,
        k_0,
        rate_0,
        v_0,
        carry["loss.layer[0].self_modifying_titans.M_mem.recall.M.W1"],
        carry["loss.layer[0].self_modifying_titans.M_mem.recall.M.W2"],
        carry["loss.layer[0].self_modifying_titans.M_mem.recall.S.velocity.m.W1"],
        carry["loss.layer[0].self_modifying_titans.M_mem.recall.S.velocity.m.W2"],
        carry["loss.layer[0].self_modifying_titans.M_mem.recall.M.W1@far"],
        carry["loss.layer[0].self_modifying_titans.M_mem.recall.M.W2@far"],
        position,
        mode,
    )
    (x_0,), () = block_5(
        q_0,
        einsum_1_0,
        x,
        W["loss.layer[0].self_modifying_titans.rmsnorm"],
        W["loss.layer[0].self_modifying_titans.linear"],
        W["loss.layer[0].continuum.p[1].rmsnorm"],
        W["loss.layer[0].continuum.ffn[1].F.gate"],
        W["loss.layer[0].continuum.ffn[1].F.up"],
        W["loss.layer[0].continuum.ffn[1].F.down"],
        W["loss.layer[0].continuum.p[2].rmsnorm"],
        W["loss.layer[0].continuum.ffn[2].F.gate"],
        W["loss.layer[0].continuum.ffn[2].F.up"],
        W["loss.layer[0].continuum.ffn[2].F.down"],
        position,
    )
    (loss,), (new["einsum.before"],) = block_6(
        x_0, ahead_ids, W["loss.rmsnorm"], W["loss.linear"], carry["einsum.before"], position
    )
    return {"loss": loss}, new


def start(W, batch, like, lanes=None):
    filled1 = full(
        W["loss.layer[0].self_modifying_titans.M_alpha.recall.M.start.W1"], 0.0, (2, 2, 8, )
    )
    filled2 = full(
        W["loss.layer[0].self_modifying_titans.M_alpha.recall.M.start.W1"], 0.0, (2, 8, 2, )
    )
    carry = {}
    carry["ids.before"] = None
    carry["loss.layer[0].self_modifying_titans.q.conv.tail"] = like.new_zeros((batch, 3, 2, 2))
    carry["loss.layer[0].self_modifying_titans.z.conv.tail"] = like.new_zeros((batch, 3, 2, 2))
    carry["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W1"] = W[
        "loss.layer[0].self_modifying_titans.M_alpha.recall.M.start.W1"
    ].expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W2"] = W[
        "loss.layer[0].self_modifying_titans.M_alpha.recall.M.start.W2"
    ].expand(batch, 2, 8, 2)
    carry["loss.layer[0].self_modifying_titans.M_eta.recall.M.W1"] = W[
        "loss.layer[0].self_modifying_titans.M_eta.recall.M.start.W1"
    ].expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_eta.recall.M.W2"] = W[
        "loss.layer[0].self_modifying_titans.M_eta.recall.M.start.W2"
    ].expand(batch, 2, 8, 2)
    carry["loss.layer[0].self_modifying_titans.M_k.recall.M.W1"] = W[
        "loss.layer[0].self_modifying_titans.M_k.recall.M.start.W1"
    ].expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_k.recall.M.W2"] = W[
        "loss.layer[0].self_modifying_titans.M_k.recall.M.start.W2"
    ].expand(batch, 2, 8, 2)
    carry[
        "loss.layer[0].self_modifying_titans.M_alpha.recall.S.velocity.m.W1"
    ] = filled1.expand(batch, 2, 2, 8)
    carry[
        "loss.layer[0].self_modifying_titans.M_alpha.recall.S.velocity.m.W2"
    ] = filled2.expand(batch, 2, 8, 2)
    carry["loss.layer[0].self_modifying_titans.M_v.recall.M.W1"] = W[
        "loss.layer[0].self_modifying_titans.M_v.recall.M.start.W1"
    ].expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_v.recall.M.W2"] = W[
        "loss.layer[0].self_modifying_titans.M_v.recall.M.start.W2"
    ].expand(batch, 2, 8, 2)
    carry[
        "loss.layer[0].self_modifying_titans.M_eta.recall.S.velocity.m.W1"
    ] = filled1.expand(batch, 2, 2, 8)
    carry[
        "loss.layer[0].self_modifying_titans.M_eta.recall.S.velocity.m.W2"
    ] = filled2.expand(batch, 2, 8, 2)
    carry[
        "loss.layer[0].self_modifying_titans.M_k.recall.S.velocity.m.W1"
    ] = filled1.expand(batch, 2, 2, 8)
    carry[
        "loss.layer[0].self_modifying_titans.M_k.recall.S.velocity.m.W2"
    ] = filled2.expand(batch, 2, 8, 2)
    carry[
        "loss.layer[0].self_modifying_titans.M_v.recall.S.velocity.m.W1"
    ] = filled1.expand(batch, 2, 2, 8)
    carry[
        "loss.layer[0].self_modifying_titans.M_v.recall.S.velocity.m.W2"
    ] = filled2.expand(batch, 2, 8, 2)
    carry["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W1@near"] = W[
        "loss.layer[0].self_modifying_titans.M_alpha.recall.M.start.W1"
    ].expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_alpha.recall.M.W2@near"] = W[
        "loss.layer[0].self_modifying_titans.M_alpha.recall.M.start.W2"
    ].expand(batch, 2, 8, 2)
    carry["loss.layer[0].self_modifying_titans.M_eta.recall.M.W1@near"] = W[
        "loss.layer[0].self_modifying_titans.M_eta.recall.M.start.W1"
    ].expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_eta.recall.M.W2@near"] = W[
        "loss.layer[0].self_modifying_titans.M_eta.recall.M.start.W2"
    ].expand(batch, 2, 8, 2)
    carry["loss.layer[0].self_modifying_titans.M_k.recall.M.W1@near"] = W[
        "loss.layer[0].self_modifying_titans.M_k.recall.M.start.W1"
    ].expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_k.recall.M.W2@near"] = W[
        "loss.layer[0].self_modifying_titans.M_k.recall.M.start.W2"
    ].expand(batch, 2, 8, 2)
    carry["loss.layer[0].self_modifying_titans.M_v.recall.M.W1@near"] = W[
        "loss.layer[0].self_modifying_titans.M_v.recall.M.start.W1"
    ].expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_v.recall.M.W2@near"] = W[
        "loss.layer[0].self_modifying_titans.M_v.recall.M.start.W2"
    ].expand(batch, 2, 8, 2)
    carry["loss.layer[0].self_modifying_titans.M_mem.recall.M.W1"] = W[
        "loss.layer[0].self_modifying_titans.M_mem.recall.M.start.W1"
    ].expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_mem.recall.M.W2"] = W[
        "loss.layer[0].self_modifying_titans.M_mem.recall.M.start.W2"
    ].expand(batch, 2, 8, 2)
    carry[
        "loss.layer[0].self_modifying_titans.M_mem.recall.S.velocity.m.W1"
    ] = filled1.expand(batch, 2, 2, 8)
    carry[
        "loss.layer[0].self_modifying_titans.M_mem.recall.S.velocity.m.W2"
    ] = filled2.expand(batch, 2, 8, 2)
    carry["loss.layer[0].self_modifying_titans.M_mem.recall.M.W1@far"] = W[
        "loss.layer[0].self_modifying_titans.M_mem.recall.M.start.W1"
    ].expand(batch, 2, 2, 8)
    carry["loss.layer[0].self_modifying_titans.M_mem.recall.M.W2@far"] = W[
        "loss.layer[0].self_modifying_titans.M_mem.recall.M.start.W2"
    ].expand(batch, 2, 8, 2)
    carry["einsum.before"] = None
    return carry


def update_1(
    m,  # [466] all its arrays
    terms_loss,  # []
    grad_W,  # [466] all its arrays
    s,  # [466] all its arrays
    W,  # [466] all its arrays
    tick,  # []
    ticks,  # []
):
    # hope.nl:78  W <- W + adamw(W, clip(grad(W), 1), lr = cosine(3e-3, 0.02), decay = 0.1)  # Eq..
    W_1 = 1.0 / terms_loss * grad_W
    # std/optimizers.nl:30  m <- m - (1 - beta1) * grad(m)
    clip_1 = W_1 * (1.0 / (torch.sqrt((W_1 * W_1).sum()) + 1e-06)).clamp(max=1.0)
    m_new = m - 0.09999999999999998 * (m - clip_1)
    # std/optimizers.nl:31  s <- s - (1 - beta2) * grad(s)
    s_new = s - 0.0010000000000000009 * (s - clip_1 ** 2.0)
    # std/optimizers.nl:8  s = tick / ticks  # ticks so far, and in the whole run
    s_2 = tick / ticks
    # hope.nl:78  W <- W + adamw(W, clip(grad(W), 1), lr = cosine(3e-3, 0.02), decay = 0.1)  # Eq..
    cosine_1 = (1.0 + torch.cos(3.141592653589793 * (s_2 - 0.02) / 0.98)) / 2.0
    cosine_2 = torch.where(s_2 <= 0.02, s_2 / 0.02, cosine_1)
    # std/optimizers.nl:33  mean_g = moments.m@after / (1 - beta1 ^ tick)  # bias corrections: ab..
    mean_g = m_new / (1.0 - 0.9 ** tick)
    # hope.nl:78  W <- W + adamw(W, clip(grad(W), 1), lr = cosine(3e-3, 0.02), decay = 0.1)  # Eq..
    adam_1 = -mean_g / (torch.sqrt(s_new / (1.0 - 0.999 ** tick)) + 1e-08)
    W_new = W + (0.003 * cosine_2 * adam_1 - 0.00030000000000000003 * cosine_2 * W)
    return m_new, s_new, W_new


def update_2(
    m,  # [192] all its arrays
    terms_loss,  # []
    grad_F,  # [192] all its arrays
    s,  # [192] all its arrays
    F_2,  # [192] all its arrays
    tick,  # []
):
    # hope.nl:58  F <- F + adamw(F, clip(grad(F), 1), lr = 1e-3, decay = 0.1)  # Eq. 71: err of A..
    F_1 = 1.0 / terms_loss * grad_F
    # std/optimizers.nl:30  m <- m - (1 - beta1) * grad(m)
    clip_1 = F_1 * (1.0 / (torch.sqrt((F_1 * F_1).sum()) + 1e-06)).clamp(max=1.0)
    m_new = m - 0.09999999999999998 * (m - clip_1)
    # std/optimizers.nl:31  s <- s - (1 - beta2) * grad(s)
    s_new = s - 0.0010000000000000009 * (s - clip_1 ** 2.0)
    # std/optimizers.nl:33  mean_g = moments.m@after / (1 - beta1 ^ tick)  # bias corrections: ab..
    mean_g = m_new / (1.0 - 0.9 ** tick)
    # hope.nl:58  F <- F + adamw(F, clip(grad(F), 1), lr = 1e-3, decay = 0.1)  # Eq. 71: err of A..
    adamw_1 = 0.001 * (-mean_g / (torch.sqrt(s_new / (1.0 - 0.999 ** tick)) + 1e-08))
    F_new = F_2 + (adamw_1 - 0.0001 * F_2)
    return m_new, s_new, F_new


def tick_1(S, G, V, N, D, planned):
    S[
        "grad loss.layer[0].continuum.ffn[2].F|loss|loss.layer[0].continuum.ffn[2]"
    ].add_(G["loss.layer[0].continuum.ffn[2].F|loss"])
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
    # loss.layer[0].continuum.ffn[1] every 1 step
    (
        new["loss.layer[0].continuum.ffn[1].adamw.adam.moments.m"],
        new["loss.layer[0].continuum.ffn[1].adamw.adam.moments.s"],
        new["loss.layer[0].continuum.ffn[1].F"],
    ) = update_2(
        S["loss.layer[0].continuum.ffn[1].adamw.adam.moments.m"],
        N["loss"],
        G["loss.layer[0].continuum.ffn[1].F|loss"],
        S["loss.layer[0].continuum.ffn[1].adamw.adam.moments.s"],
        S["loss.layer[0].continuum.ffn[1].F"],
        S["loss.layer[0].continuum.ffn[1].tick"] + 1,
    )
    S["training.W"].copy_(new["training.W"])
    S["training.adamw.adam.moments.m"].copy_(new["training.adamw.adam.moments.m"])
    S["training.adamw.adam.moments.s"].copy_(new["training.adamw.adam.moments.s"])
    S["loss.layer[0].continuum.ffn[1].F"].copy_(new["loss.layer[0].continuum.ffn[1].F"])
    S["loss.layer[0].continuum.ffn[1].adamw.adam.moments.m"].copy_(
        new["loss.layer[0].continuum.ffn[1].adamw.adam.moments.m"]
    )
    S["loss.layer[0].continuum.ffn[1].adamw.adam.moments.s"].copy_(
        new["loss.layer[0].continuum.ffn[1].adamw.adam.moments.s"]
    )


def tick_2(S, G, V, N, D, planned):
    S[
        "grad loss.layer[0].continuum.ffn[2].F|loss|loss.layer[0].continuum.ffn[2]"
    ].add_(G["loss.layer[0].continuum.ffn[2].F|loss"])
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
    # loss.layer[0].continuum.ffn[1] every 1 step
    (
        new["loss.layer[0].continuum.ffn[1].adamw.adam.moments.m"],
        new["loss.layer[0].continuum.ffn[1].adamw.adam.moments.s"],
        new["loss.layer[0].continuum.ffn[1].F"],
    ) = update_2(
        S["loss.layer[0].continuum.ffn[1].adamw.adam.moments.m"],
        N["loss"],
        G["loss.layer[0].continuum.ffn[1].F|loss"],
        S["loss.layer[0].continuum.ffn[1].adamw.adam.moments.s"],
        S["loss.layer[0].continuum.ffn[1].F"],
        S["loss.layer[0].continuum.ffn[1].tick"] + 1,
    )
    # loss.layer[0].continuum.ffn[2] every 2 step
    (
        new["loss.layer[0].continuum.ffn[2].adamw.adam.moments.m"],
        new["loss.layer[0].continuum.ffn[2].adamw.adam.moments.s"],
        new["loss.layer[0].continuum.ffn[2].F"],
    ) = update_2(
        S["loss.layer[0].continuum.ffn[2].adamw.adam.moments.m"],
        S["terms loss|loss.layer[0].continuum.ffn[2]"],
        S["grad loss.layer[0].continuum.ffn[2].F|loss|loss.layer[0].continuum.ffn[2]"],
        S["loss.layer[0].continuum.ffn[2].adamw.adam.moments.s"],
        S["loss.layer[0].continuum.ffn[2].F"],
        S["loss.layer[0].continuum.ffn[2].tick"] + 1,
    )
    S["training.W"].copy_(new["training.W"])
    S["training.adamw.adam.moments.m"].copy_(new["training.adamw.adam.moments.m"])
    S["training.adamw.adam.moments.s"].copy_(new["training.adamw.adam.moments.s"])
    S["loss.layer[0].continuum.ffn[1].F"].copy_(new["loss.layer[0].continuum.ffn[1].F"])
    S["loss.layer[0].continuum.ffn[1].adamw.adam.moments.m"].copy_(
        new["loss.layer[0].continuum.ffn[1].adamw.adam.moments.m"]
    )
    S["loss.layer[0].continuum.ffn[1].adamw.adam.moments.s"].copy_(
        new["loss.layer[0].continuum.ffn[1].adamw.adam.moments.s"]
    )
    S["loss.layer[0].continuum.ffn[2].F"].copy_(new["loss.layer[0].continuum.ffn[2].F"])
    S["loss.layer[0].continuum.ffn[2].adamw.adam.moments.m"].copy_(
        new["loss.layer[0].continuum.ffn[2].adamw.adam.moments.m"]
    )
    S["loss.layer[0].continuum.ffn[2].adamw.adam.moments.s"].copy_(
        new["loss.layer[0].continuum.ffn[2].adamw.adam.moments.s"]
    )
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
