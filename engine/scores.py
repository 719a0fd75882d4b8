"""Scores of a response from its logits, one-hot-free and in float32.

Legend: M response tokens of a batch, V vocabulary, B samples.

Definitions: perplexity Adapt-∞ eq. 1 (in the log domain, mean over response tokens), EL2N Paul et al. 2021, entropy of the
predictive distribution. None of them ever builds a softmax or a one-hot matrix that outlives the line.
"""

import torch

TOKEN_SCORES = ("nll", "el2n", "entropy")


def token_nll(logits_MV: torch.Tensor, targets_M: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of each target token in nats, (M,), differentiable."""
    return torch.nn.functional.cross_entropy(logits_MV.float(), targets_M, reduction="none")


@torch.no_grad()
def token_scores(logits_MV: torch.Tensor, targets_M: torch.Tensor, chunk: int = 4096) -> torch.Tensor:
    """(M, 3): negative log-likelihood, EL2N and entropy of each response token.

    EL2N: ||p - y||² = Σ_{v≠y} p_v² + (1 - p_y)², both from log-sum-exps over the other tokens, so that a sure answer does
    not drown in rounding. Entropy: LSE(l) - Σ p l, in nats.
    """
    rows = []
    for logits, targets in zip(logits_MV.split(chunk), targets_M.split(chunk), strict=True):
        logits = logits.float()
        total = logits.logsumexp(-1)
        chosen = logits.gather(-1, targets[:, None])[:, 0]
        entropy = (total - (torch.softmax(logits, -1) * logits).sum(-1)).clamp_min(0)
        others = logits.scatter(-1, targets[:, None], -torch.inf)
        squares = torch.exp((2 * others).logsumexp(-1) - 2 * total)
        el2n = (squares + torch.exp(others.logsumexp(-1) - total) ** 2).sqrt()
        rows.append(torch.stack([total - chosen, el2n, entropy], -1))
    return torch.cat(rows)


def sample_means(values_M: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """Mean over each sample's own tokens, (B,) or (B, k); a sample's tokens are consecutive. NaN where it has none."""
    return torch.stack([part.mean(0) for part in values_M.split(counts)])
