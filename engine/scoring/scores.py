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

    All from the distribution q over the *other* tokens and their share P of the whole, so that a sure answer does not drown in
    rounding: nll = softplus(LSE_others - l_y), EL2N² = Σ_{v≠y} p_v² + (1 - p_y)² = P² (Σ q² + 1), and entropy, in nats, as
    p_y nll + P (LSE - Σ q l).
    """
    rows = []
    for logits, targets in zip(logits_MV.split(chunk), targets_M.split(chunk), strict=True):
        logits = logits.float()
        chosen = logits.gather(-1, targets[:, None])[:, 0]
        q = logits.scatter(-1, targets[:, None], -torch.inf)
        top = q.amax(-1)
        q = torch.softmax(q, -1)
        others = top - q.amax(-1).log()
        nll = torch.nn.functional.softplus(others - chosen)
        total, share = chosen + nll, torch.exp(others - chosen - nll)
        el2n = share * (torch.linalg.vector_norm(q, dim=-1).square() + 1).sqrt()
        mean = torch.linalg.vecdot(q, logits)
        rows.append(torch.stack([nll, el2n, torch.exp(-nll) * nll + share * (total - mean)], -1))
    return torch.cat(rows)


def sample_means(values_M: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """Mean over each sample's own tokens, (B,) or (B, k); a sample's tokens are consecutive. NaN where it has none."""
    return torch.stack([part.mean(0) for part in values_M.split(counts)])
