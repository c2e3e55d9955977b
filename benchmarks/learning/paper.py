"""What the papers print, as they print it. NL is arXiv 2512.24695 (v1), Titans 2501.00663, Atlas
2505.23735. Figures that are plots without numbers are not read off.
"""

from __future__ import annotations

# Perplexity of Wikitext with 760M and 1.3B parameters: NL Table 2; Titans Table 1; Atlas Table 2.
PERPLEXITY = {
    "transformer": "24.18 / 17.92",
    "gated_deltanet": "21.18 / -",
    "ttt_linear": "24.17 / 18.42",
    "titans": "20.08 / 15.60",
    "atlas": "18.92 / 14.97",
    "hope": "18.68 / 14.39",
}
# NL Table 4 (MAD): recall in context, and of fuzzy keys.
RECALL = {"transformer": "100 / 47.9", "titans": "100 / 50.0", "hope": "100 / 52.1"}
# NL Table 1: S-NIAH-3 and MK-NIAH-1, each with 4K / 8K / 16K tokens.
NEEDLE = {
    "transformer": "78.0 / 69.2 / 40.8; 79.4 / 83.0 / 61.4",
    "titans": "74.2 / 42.8 / 21.2; 26.4 / 23.6 / 8.2",
    "hope_attention": "76.8 / 68.8 / 42.4; 80.2 / 84.8 / 60.8",
    "hope": "73.2 / 46.2 / 24.8; 29.4 / 24.8 / 14.8",
}
# NL Table 5: accuracy in Bin 0 / Bin 1. Both have all of the three counters.
REGULAR = {
    "parity": {"transformer": "46.4 / 0.0", "hope": "100 / 100"},
    "(aa)*": {"transformer": "0 / 0", "hope": "100 / 100"},
    "(abab)*": {"transformer": "0 / 0", "hope": "100 / 100"},
}
COUNTERS = {"transformer": "100 / 100", "hope": "100 / 100"}
FORMAL = REGULAR | dict.fromkeys(("a^n b^n", "a^n b^n c^n", "Shuffle-2"), COUNTERS)
# NL Table 6, with 1.3B: perplexity / accuracy of reasoning. It has no row for the inner rate.
ABLATION = {
    "hope_full": "12.24 / 58.1",
    "hope_no_dgd": "13.41 / 56.5",
    "hope_no_momentum": "13.58 / 56.9",
    "hope_no_decay": "13.71 / 57.2",
    "hope_no_cms": "13.04 / 57.3",
    "hope_static_k": "13.77 / 56.9",
    "hope_static_v": "13.90 / 55.1",
    "hope_static_q": "12.19 / 57.4",
}
# What no task here can tell: the claim, where it stands, what it would take.
ELSEWHERE = (
    ("Hope reasons better than Titans: 52.28 to 51.68 %", "NL Table 2", "760M parameters"),
    ("Hope learns two new languages one after the other", "NL Fig. 8", "a trained Llama-3"),
    ("Hope alone still answers at 10M tokens", "NL Fig. 9", "texts of 10M tokens"),
    ("M3 ends at a lower loss than AdamW and Muon", "NL Fig. 11", "ImageNet-21K"),
)
