def block_1(
    ids,  # [B, T]
    x,  # [vocab, d]
    before,  # [B, n]
    position,
    mode,
):
    # hope.nl:66  x = embed(ids, [d])
    x_2 = F.embedding(ids, x)
    # hope.nl:73  loss = cross_entropy(model(ids), next(ids))
    loss_1 = newest(ids, before)
    return (x_2, loss_1), (ids[:, -1:],)


def block_2(
    x,  # [B, T, d]
    rmsnorm,  # [d]
    self_modifying_titans_q_linear,  # [head, e, d]
    self_modifying_titans_z_linear,  # [head, e, d]
    self_modifying_titans_q_conv,  # [4, head, e]
    self_modifying_titans_z_conv,  # [4, head, e]
    q_conv_tail,  # [B, 3, head, e]
    z_conv_tail,  # [B, 3, head, e]
    position,
    mode,
):
    # hope.nl:36  z = conv(linear(x, [head, e]), 4)  # sec. 8.3: the only mixing in a chunk
    rmsnorm_1 = rmsnorm * x / torch.sqrt((x ** 2.0).mean((-1,)) + 1e-06)[:, :, None]
    z_1 = torch.einsum("abc,BTc->BTab", self_modifying_titans_z_linear, rmsnorm_1)
    rows = joined(z_conv_tail, z_1)
    z = conv(rows, self_modifying_titans_z_conv)
    # hope.nl:42  q = unit(conv(linear(x, [head, e]), 4))  # Eq. 76: the only static projection (..
    q_1 = torch.einsum("abc,BTc->BTab", self_modifying_titans_q_linear, rmsnorm_1)
    rows_2 = joined(q_conv_tail, q_1)
    q_2 = conv(rows_2, self_modifying_titans_q_conv)
    q = q_2 / torch.sqrt((q_2 * q_2).sum((-1,)) + 1e-06)[:, :, :, None]
    return (z, q), (rows_2[:, rows_2.shape[1] - 3:], rows[:, rows.shape[1] - 3:])


def region_1(state, streams, statics, ends):
    (
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
    # hope.nl:18  return z + W1 * silu(W2 * z)  # Eq. 89
    residual_1 = F.silu(torch.einsum("Babc,BTac->BTab", M_alpha_M_W2_near, z))
    # hope.nl:46  a = sum(weight([head, e]) .* M_alpha@near(z), e)  # Eq. 83; the same (hole 9)
    a_2 = (a * (z + torch.einsum("Babc,BTac->BTab", M_alpha_M_W1_near, residual_1))).sum((-1,))
    # hope.nl:48  keep = sigmoid(a + 6)  # Eq. 83; starts near 1 (hole 4)
    keep = torch.sigmoid(a_2 + 6.0)
    # hope.nl:29  M.W1 <- keep * M.W1 + S.W1  # Eq. 88 without the rank-one term (hole 2)
    kernel, phi = decay_kernel(keep.movedim(1, -1))
    # hope.nl:18  return z + W1 * silu(W2 * z)  # Eq. 89
    residual_2 = F.silu(torch.einsum("Babc,BTac->BTab", M_k_M_W2_near, z))
    residual_3 = z + torch.einsum("Babc,BTac->BTab", M_k_M_W1_near, residual_2)
    # hope.nl:43  k = unit(M_k@near(z))  # Eq. 83
    k = residual_3 / torch.sqrt((residual_3 * residual_3).sum((-1,)) + 1e-06)[:, :, :, None]
    # hope.nl:27  S = momentum(grad(M@chunk), rate, beta)  # Eq. 90: gradient at xi; holes 3, 7
    S_1 = torch.einsum("Babc,BTac->BTab", M_alpha_M_W2_near, k)
    S_2 = F.silu(S_1)
    # hope.nl:18  return z + W1 * silu(W2 * z)  # Eq. 89
    residual_4 = F.silu(torch.einsum("Babc,BTac->BTab", M_v_M_W2_near, z))
    residual_5 = z + torch.einsum("Babc,BTac->BTab", M_v_M_W1_near, residual_4)
    # hope.nl:44  v = unit(M_v@near(z))  # Eq. 83; unit length: not in the paper
    v = residual_5 / torch.sqrt((residual_5 * residual_5).sum((-1,)) + 1e-06)[:, :, :, None]
    # hope.nl:18  return z + W1 * silu(W2 * z)  # Eq. 89
    residual_6 = F.silu(torch.einsum("Babc,BTac->BTab", M_alpha_M_W2_near, v))
    # hope.nl:25  target = M@chunk(v)  # Eq. 84, at xi (Eq. 90 slips)
    target = v + torch.einsum("Babc,BTac->BTab", M_alpha_M_W1_near, residual_6)
    # hope.nl:27  S = momentum(grad(M@chunk), rate, beta)  # Eq. 90: gradient at xi; holes 3, 7
    S_3 = k + torch.einsum("Babc,BTac->BTab", M_alpha_M_W1_near, S_2) - target
    # hope.nl:18  return z + W1 * silu(W2 * z)  # Eq. 89
    residual_7 = F.silu(torch.einsum("Babc,BTac->BTab", M_eta_M_W2_near, z))
    # hope.nl:45  r = sum(weight([head, e]) .* M_eta@near(z), e)  # Eq. 83; made a number by a he..
    r_2 = (r * (z + torch.einsum("Babc,BTac->BTab", M_eta_M_W1_near, residual_7))).sum((-1,))
    # hope.nl:47  rate = sigmoid(r) / span  # Eq. 83; above 1/chunk it diverges (hole 4)
    rate = torch.sigmoid(r_2) / 4.0
    # hope.nl:29  M.W1 <- keep * M.W1 + S.W1  # Eq. 88 without the rank-one term (hole 2)
    m_1 = rate.movedim(1, -1) * -1.0
    M_W1_1 = kernel * m_1.unsqueeze(-2)
    M_W1_2 = M_W1_1[..., -1, :]
    M_W1_3 = torch.einsum("BJpu,BJpv->Bpuv", S_3 * M_W1_2.movedim(-1, 1)[..., None], S_2)
    M_alpha_M_W1_new = phi[..., -1][..., None, None] * M_alpha_M_W1 + M_W1_3
    # hope.nl:27  S = momentum(grad(M@chunk), rate, beta)  # Eq. 90: gradient at xi; holes 3, 7
    S_4 = torch.sigmoid(S_1)
    S_5 = S_4 * (1.0 + S_1 * (1.0 - S_4))
    S_6 = torch.einsum("BTab,Babc->BTac", S_3, M_alpha_M_W1_near) * S_5
    # hope.nl:28  M.W2 <- M.W2 * (keep * I - rate * k * k^T) + S.W2  # Eqs. 88, 90: its input is..
    M_W2_1 = torch.einsum("BJpu,BJpv->Bpuv", S_6 * M_W1_2.movedim(-1, 1)[..., None], k)
    M_W2_2 = k * m_1.movedim(-1, 1)[..., None]
    M_W2_3 = wy_inverse(-(shift_right(kernel) * torch.einsum("BTpi,BJpi->BpTJ", k, M_W2_2)))
    M_W2_4 = torch.einsum("BpT->BTp", shift_decay(phi, 1.0))
    M_W2_5 = torch.einsum(
        "BTpo,BTp->BTpo", torch.einsum("Bpoi,BTpi->BTpo", M_alpha_M_W2, k), M_W2_4
    )
    M_W2_6 = torch.einsum("BTpi,BJpi->BpTJ", k, k) * shift_right(M_W1_1)
    M_W2_7 = M_W2_5 + torch.einsum("BpTJ,BJpo->BTpo", M_W2_6, S_6)
    M_W2_8 = torch.einsum("BpTJ,BJpo->BTpo", M_W2_3, M_W2_7)
    M_W2_9 = kernel[..., -1, :]
    M_W2_10 = M_W2_8 * M_W2_9.movedim(-1, 1)[..., None]
    M_W2_11 = torch.einsum("BJpu,BJpv->Bpuv", M_W2_10, M_W2_2)
    M_alpha_M_W2_new = phi[..., -1][..., None, None] * M_alpha_M_W2 + M_W2_1 + M_W2_11
    # hope.nl:27  S = momentum(grad(M@chunk), rate, beta)  # Eq. 90: gradient at xi; holes 3, 7
    S_7 = torch.einsum("Babc,BTac->BTab", M_eta_M_W2_near, k)
    S_8 = F.silu(S_7)
    # hope.nl:18  return z + W1 * silu(W2 * z)  # Eq. 89
    residual_8 = F.silu(torch.einsum("Babc,BTac->BTab", M_eta_M_W2_near, v))
    # hope.nl:25  target = M@chunk(v)  # Eq. 84, at xi (Eq. 90 slips)
    target_2 = v + torch.einsum("Babc,BTac->BTab", M_eta_M_W1_near, residual_8)
    # hope.nl:27  S = momentum(grad(M@chunk), rate, beta)  # Eq. 90: gradient at xi; holes 3, 7
    S_9 = k + torch.einsum("Babc,BTac->BTab", M_eta_M_W1_near, S_8) - target_2
    # hope.nl:29  M.W1 <- keep * M.W1 + S.W1  # Eq. 88 without the rank-one term (hole 2)
    M_W1_4 = torch.einsum("BJpu,BJpv->Bpuv", S_9 * M_W1_2.movedim(-1, 1)[..., None], S_8)
    M_eta_M_W1_new = phi[..., -1][..., None, None] * M_eta_M_W1 + M_W1_4
    # hope.nl:27  S = momentum(grad(M@chunk), rate, beta)  # Eq. 90: gradient at xi; holes 3, 7
    S_10 = torch.sigmoid(S_7)
    S_11 = S_10 * (1.0 + S_7 * (1.0 - S_10))
    S_12 = torch.einsum("BTab,Babc->BTac", S_9, M_eta_M_W1_near) * S_11
    # hope.nl:28  M.W2 <- M.W2 * (keep * I - rate * k * k^T) + S.W2  # Eqs. 88, 90: its input is..
    M_W2_12 = torch.einsum("BJpu,BJpv->Bpuv", S_12 * M_W1_2.movedim(-1, 1)[..., None], k)
    M_W2_13 = torch.einsum("BTpo,BTp->BTpo", torch.einsum("Bpoi,BTpi->BTpo", M_eta_M_W2, k), M_W2_4)
    M_W2_14 = M_W2_13 + torch.einsum("BpTJ,BJpo->BTpo", M_W2_6, S_12)
    M_W2_15 = torch.einsum("BpTJ,BJpo->BTpo", M_W2_3, M_W2_14)
    M_W2_16 = M_W2_15 * M_W2_9.movedim(-1, 1)[..., None]
    M_W2_17 = torch.einsum("BJpu,BJpv->Bpuv", M_W2_16, M_W2_2)
    M_eta_M_W2_new = phi[..., -1][..., None, None] * M_eta_M_W2 + M_W2_12 + M_W2_17
    # hope.nl:27  S = momentum(grad(M@chunk), rate, beta)  # Eq. 90: gradient at xi; holes 3, 7
    S_13 = torch.einsum("Babc,BTac->BTab", M_k_M_W2_near, k)
    S_14 = F.silu(S_13)
    # hope.nl:18  return z + W1 * silu(W2 * z)  # Eq. 89
    residual_9 = F.silu(torch.einsum("Babc,BTac->BTab", M_k_M_W2_near, v))
    # hope.nl:25  target = M@chunk(v)  # Eq. 84, at xi (Eq. 90 slips)
    target_3 = v + torch.einsum("Babc,BTac->BTab", M_k_M_W1_near, residual_9)
    # hope.nl:27  S = momentum(grad(M@chunk), rate, beta)  # Eq. 90: gradient at xi; holes 3, 7
    S_15 = k + torch.einsum("Babc,BTac->BTab", M_k_M_W1_near, S_14) - target_3
    # hope.nl:29  M.W1 <- keep * M.W1 + S.W1  # Eq. 88 without the rank-one term (hole 2)
    M_W1_5 = torch.einsum("BJpu,BJpv->Bpuv", S_15 * M_W1_2.movedim(-1, 1)[..., None], S_14)
    M_k_M_W1_new = phi[..., -1][..., None, None] * M_k_M_W1 + M_W1_5
    # hope.nl:27  S = momentum(grad(M@chunk), rate, beta)  # Eq. 90: gradient at xi; holes 3, 7
    S_16 = torch.sigmoid(S_13)
    S_17 = S_16 * (1.0 + S_13 * (1.0 - S_16))
    S_18 = torch.einsum("BTab,Babc->BTac", S_15, M_k_M_W1_near) * S_17
    # hope.nl:28  M.W2 <- M.W2 * (keep * I - rate * k * k^T) + S.W2  # Eqs. 88, 90: its input is..
    M_W2_18 = torch.einsum("BJpu,BJpv->Bpuv", S_18 * M_W1_2.movedim(-1, 1)[..., None], k)
    M_W2_19 = torch.einsum("BTpo,BTp->BTpo", torch.einsum("Bpoi,BTpi->BTpo", M_k_M_W2, k), M_W2_4)
    M_W2_20 = M_W2_19 + torch.einsum("BpTJ,BJpo->BTpo", M_W2_6, S_18)
    M_W2_21 = torch.einsum("BpTJ,BJpo->BTpo", M_W2_3, M_W2_20)
    M_W2_22 = M_W2_21 * M_W2_9.movedim(-1, 1)[..., None]
    M_W2_23 = torch.einsum("BJpu,BJpv->Bpuv", M_W2_22, M_W2_2)
    M_k_M_W2_new = phi[..., -1][..., None, None] * M_k_M_W2 + M_W2_18 + M_W2_23
    M_alpha_S_m_W1_new = (
        torch.einsum("Bpu,Bpv->Bpuv", S_3[:, -1], S_2[:, -1]) * m_1[..., -1][..., None, None]
    )
    M_alpha_S_m_W2_new = (
        torch.einsum("Bpu,Bpv->Bpuv", S_6[:, -1], k[:, -1]) * m_1[..., -1][..., None, None]
    )
    # hope.nl:27  S = momentum(grad(M@chunk), rate, beta)  # Eq. 90: gradient at xi; holes 3, 7
    S_19 = torch.einsum("Babc,BTac->BTab", M_v_M_W2_near, k)
    S_20 = F.silu(S_19)
    # hope.nl:18  return z + W1 * silu(W2 * z)  # Eq. 89
    residual_10 = F.silu(torch.einsum("Babc,BTac->BTab", M_v_M_W2_near, v))
    # hope.nl:25  target = M@chunk(v)  # Eq. 84, at xi (Eq. 90 slips)
    target_4 = v + torch.einsum("Babc,BTac->BTab", M_v_M_W1_near, residual_10)
    # hope.nl:27  S = momentum(grad(M@chunk), rate, beta)  # Eq. 90: gradient at xi; holes 3, 7
    S_21 = k + torch.einsum("Babc,BTac->BTab", M_v_M_W1_near, S_20) - target_4
    # hope.nl:29  M.W1 <- keep * M.W1 + S.W1  # Eq. 88 without the rank-one term (hole 2)
    M_W1_6 = torch.einsum("BJpu,BJpv->Bpuv", S_21 * M_W1_2.movedim(-1, 1)[..., None], S_20)
    M_v_M_W1_new = phi[..., -1][..., None, None] * M_v_M_W1 + M_W1_6
    # hope.nl:27  S = momentum(grad(M@chunk), rate, beta)  # Eq. 90: gradient at xi; holes 3, 7
    S_22 = torch.sigmoid(S_19)
    S_23 = S_22 * (1.0 + S_19 * (1.0 - S_22))
    S_24 = torch.einsum("BTab,Babc->BTac", S_21, M_v_M_W1_near) * S_23
    # hope.nl:28  M.W2 <- M.W2 * (keep * I - rate * k * k^T) + S.W2  # Eqs. 88, 90: its input is..
    M_W2_24 = torch.einsum("BJpu,BJpv->Bpuv", S_24 * M_W1_2.movedim(-1, 1)[..., None], k)
    M_W2_25 = torch.einsum("BTpo,BTp->BTpo", torch.einsum("Bpoi,BTpi->BTpo", M_v_M_W2, k), M_W2_4)
    M_W2_26 = M_W2_25 + torch.einsum("BpTJ,BJpo->BTpo", M_W2_6, S_24)
    M_W2_27 = torch.einsum("BpTJ,BJpo->BTpo", M_W2_3, M_W2_26)
    M_W2_28 = M_W2_27 * M_W2_9.movedim(-1, 1)[..., None]
    M_W2_29 = torch.einsum("BJpu,BJpv->Bpuv", M_W2_28, M_W2_2)
    M_v_M_W2_new = phi[..., -1][..., None, None] * M_v_M_W2 + M_W2_24 + M_W2_29
    M_eta_S_m_W1_new = (
        torch.einsum("Bpu,Bpv->Bpuv", S_9[:, -1], S_8[:, -1]) * m_1[..., -1][..., None, None]
    )
    M_eta_S_m_W2_new = (
        torch.einsum("Bpu,Bpv->Bpuv", S_12[:, -1], k[:, -1]) * m_1[..., -1][..., None, None]
    )
    M_k_S_m_W1_new = (
        torch.einsum("Bpu,Bpv->Bpuv", S_15[:, -1], S_14[:, -1]) * m_1[..., -1][..., None, None]
    )
    M_k_S_m_W2_new = (
        torch.einsum("Bpu,Bpv->Bpuv", S_18[:, -1], k[:, -1]) * m_1[..., -1][..., None, None]
    )
    M_v_S_m_W1_new = (
        torch.einsum("Bpu,Bpv->Bpuv", S_21[:, -1], S_20[:, -1]) * m_1[..., -1][..., None, None]
    )
    M_v_S_m_W2_new = (
        torch.einsum("Bpu,Bpv->Bpuv", S_24[:, -1], k[:, -1]) * m_1[..., -1][..., None, None]
    )
    M_alpha_M_W1_near_new = select(near_ends, M_alpha_M_W1_new, M_alpha_M_W1_near)
    M_alpha_M_W2_near_new = select(near_ends, M_alpha_M_W2_new, M_alpha_M_W2_near)
    M_eta_M_W1_near_new = select(near_ends, M_eta_M_W1_new, M_eta_M_W1_near)
    M_eta_M_W2_near_new = select(near_ends, M_eta_M_W2_new, M_eta_M_W2_near)
    M_k_M_W1_near_new = select(near_ends, M_k_M_W1_new, M_k_M_W1_near)
    M_k_M_W2_near_new = select(near_ends, M_k_M_W2_new, M_k_M_W2_near)
    M_v_M_W1_near_new = select(near_ends, M_v_M_W1_new, M_v_M_W1_near)
    M_v_M_W2_near_new = select(near_ends, M_v_M_W2_new, M_v_M_W2_near)
    return (
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
    ), (keep, rate, k, v)


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
    (
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
    ), (keep, rate, k, v) = scan_chunks(
        region_1,
        (
            M_alpha_M_W1,
            M_alpha_M_W2,
            M_eta_M_W1,
            M_eta_M_W2,
            M_k_M_W1,
            M_k_M_W2,
            M_alpha_S_m_W1,
            M_alpha_S_m_W2,
            M_v_M_W1,
            M_v_M_W2,
            M_eta_S_m_W1,
            M_eta_S_m_W2,
            M_k_S_m_W1,
            M_k_S_m_W2,
            M_v_S_m_W1,
            M_v_S_m_W2,
            M_alpha_M_W1_near,
            M_alpha_M_W2_near,
            M_eta_M_W1_near,
            M_eta_M_W2_near,
            M_k_M_W1_near,
            M_k_M_W2_near,
            M_v_M_W1_near,
            M_v_M_W2_near,
        ),
        (z, times(z, position)),
        (a, r),
        position,
        2,
        ((2, 0, 0),),
        mode,
    )
    return (keep, rate, k, v), (
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


def region_2(state, streams, statics, ends):
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
        rate,  # [B, T, head]
        k,  # [B, T, head, e]
        v,  # [B, T, head, e]
        t,  # [1, T] tokens before each
    ) = streams
    (far_ends,) = ends  # does its clock tick at the last token?
    # hope.nl:29  M.W1 <- keep * M.W1 + S.W1  # Eq. 88 without the rank-one term (hole 2)
    kernel, phi = decay_kernel(keep.movedim(1, -1))
    # hope.nl:27  S = momentum(grad(M@chunk), rate, beta)  # Eq. 90: gradient at xi; holes 3, 7
    S_1 = torch.einsum("Babc,BTac->BTab", M_W2_far, k)
    S_2 = F.silu(S_1)
    # hope.nl:18  return z + W1 * silu(W2 * z)  # Eq. 89
    residual_1 = F.silu(torch.einsum("Babc,BTac->BTab", M_W2_far, v))
    # hope.nl:25  target = M@chunk(v)  # Eq. 84, at xi (Eq. 90 slips)
    target = v + torch.einsum("Babc,BTac->BTab", M_W1_far, residual_1)
    # hope.nl:27  S = momentum(grad(M@chunk), rate, beta)  # Eq. 90: gradient at xi; holes 3, 7
    S_3 = k + torch.einsum("Babc,BTac->BTab", M_W1_far, S_2) - target
    # hope.nl:29  M.W1 <- keep * M.W1 + S.W1  # Eq. 88 without the rank-one term (hole 2)
    m_1 = rate.movedim(1, -1) * -1.0
    M_W1_1 = kernel * m_1.unsqueeze(-2)
    M_W1_2 = M_W1_1[..., -1, :]
    M_W1_3 = torch.einsum("BJpu,BJpv->Bpuv", S_3 * M_W1_2.movedim(-1, 1)[..., None], S_2)
    M_W1_new = phi[..., -1][..., None, None] * M_W1 + M_W1_3
    # hope.nl:27  S = momentum(grad(M@chunk), rate, beta)  # Eq. 90: gradient at xi; holes 3, 7
    S_4 = torch.sigmoid(S_1)
    S_5 = torch.einsum("BTab,Babc->BTac", S_3, M_W1_far) * (S_4 * (1.0 + S_1 * (1.0 - S_4)))
    # hope.nl:28  M.W2 <- M.W2 * (keep * I - rate * k * k^T) + S.W2  # Eqs. 88, 90: its input is..
    M_W2_1 = torch.einsum("BJpu,BJpv->Bpuv", S_5 * M_W1_2.movedim(-1, 1)[..., None], k)
    M_W2_2 = k * m_1.movedim(-1, 1)[..., None]
    M_W2_3 = wy_inverse(-(shift_right(kernel) * torch.einsum("BTpi,BJpi->BpTJ", k, M_W2_2)))
    M_W2_4 = torch.einsum("BpT->BTp", shift_decay(phi, 1.0))
    M_W2_5 = torch.einsum("BTpo,BTp->BTpo", torch.einsum("Bpoi,BTpi->BTpo", M_W2, k), M_W2_4)
    M_W2_6 = torch.einsum("BTpi,BJpi->BpTJ", k, k) * shift_right(M_W1_1)
    M_W2_7 = M_W2_5 + torch.einsum("BpTJ,BJpo->BTpo", M_W2_6, S_5)
    M_W2_8 = torch.einsum("BpTJ,BJpo->BTpo", M_W2_3, M_W2_7)
    M_W2_9 = M_W2_8 * kernel[..., -1, :].movedim(-1, 1)[..., None]
    M_W2_10 = torch.einsum("BJpu,BJpv->Bpuv", M_W2_9, M_W2_2)
    M_W2_new = phi[..., -1][..., None, None] * M_W2 + M_W2_1 + M_W2_10
    S_m_W1_new = (
        torch.einsum("Bpu,Bpv->Bpuv", S_3[:, -1], S_2[:, -1]) * m_1[..., -1][..., None, None]
    )
    S_m_W2_new = torch.einsum("Bpu,Bpv->Bpuv", S_5[:, -1], k[:, -1]) * m_1[..., -1][..., None, None]
    # hope.nl:18  return z + W1 * silu(W2 * z)  # Eq. 89
    M_W1_far_new = select(far_ends, M_W1_new, M_W1_far)
    M_W2_far_new = select(far_ends, M_W2_new, M_W2_far)
    residual_2 = F.silu(torch.einsum("Babc,BTac->BTab", M_W2_far, q))
    residual_3 = torch.einsum("Babc,BTac->BTab", M_W1_far, residual_2)
    return (M_W1_new, M_W2_new, S_m_W1_new, S_m_W2_new, M_W1_far_new, M_W2_far_new), (residual_3,)


def block_4(
    q,  # [B, T, head, e]
    keep,  # [B, T, head]
    rate,  # [B, T, head]
    k,  # [B, T, head, e]
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
        (M_W1, M_W2, S_m_W1, S_m_W2, M_W1_far, M_W2_far),
        (q, keep, rate, k, v, times(q, position)),
        (),
        position,
        4,
        ((4, 0, 0),),
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
    mode,
):
    # hope.nl:18  return z + W1 * silu(W2 * z)  # Eq. 89
    residual_1 = q + einsum_1
    # hope.nl:49  return linear(rmsnorm(M_mem@far(q)), [d])  # Eqs. 83, 90: stale read (hole 6)
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
    mode,
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
        inputs["ids"], W["loss.x"], carry["ids.before"], position, mode
    )
    (z_0, q_0), (
        new["loss.layer[0].self_modifying_titans.q.conv.tail"],
        new["loss.layer[0].self_modifying_titans.z.conv.tail"],
    ) = block_2(
        x,
        W["loss.layer[0].rmsnorm"],
        W["loss.layer[0].self_modifying_titans.q.linear"],
        W["loss.layer[0].self_modifying_titans.z.linear"],
        W["loss.layer[0].self_modifying_titans.q.conv"],
        W["loss.layer[0].self_modifying_titans.z.conv"],
        carry["loss.layer[0].self_modifying_titans.q.conv.tail"],
        carry["loss.layer[0].self_modifying_titans.z.conv.tail"],
        position,
        mode,
    )
    (keep_0, rate_0, k_0, v_0), (
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
        rate_0,
        k_0,
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
        mode,
    )
    (loss,), (new["einsum.before"],) = block_6(
        x_0, ahead_ids, W["loss.rmsnorm"], W["loss.linear"], carry["einsum.before"], position, mode
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
