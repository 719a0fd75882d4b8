"""Token scores equal the formulas written with softmax and one-hot."""

import math

import torch

from liit.engine.scoring.scores import sample_means, token_scores


def test_token_scores_equal_the_naive_formulas_whatever_the_chunk() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(40, 17, generator=generator)
    targets = torch.randint(17, (40,), generator=generator)
    p, y = logits.double().softmax(-1), torch.nn.functional.one_hot(targets, 17)
    naive = torch.stack([-(p * y).sum(-1).log(), (p - y).norm(dim=-1), -(p * p.log()).sum(-1)], -1).float()
    for chunk in (1, 7, 100):
        torch.testing.assert_close(token_scores(logits, targets, chunk), naive, rtol=1e-4, atol=1e-5)


def test_uniform_logits_have_the_entropy_of_the_vocabulary_and_certainty_has_none() -> None:
    uniform = token_scores(torch.zeros(1, 8), torch.tensor([0]))[0]
    assert math.isclose(float(uniform[2]), math.log(8), rel_tol=1e-6)
    sure = token_scores(torch.tensor([[200.0, 0, 0], [0, 200.0, 0]]), torch.tensor([0, 0]))
    assert sure[0].tolist() == [0, 0, 0]
    assert math.isclose(float(sure[1, 1]), math.sqrt(2), rel_tol=1e-6)  # certainly wrong: the largest EL2N there is


def test_means_are_over_a_samples_own_tokens() -> None:
    values = torch.tensor([1.0, 3.0, 10.0])
    assert sample_means(values, [2, 1]).tolist() == [2.0, 10.0]
