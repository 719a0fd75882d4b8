"""Routing to experts: closed-form keys against gradient descent, batches against single samples, and the edges."""

import numpy as np
import pytest
import torch

from liit.selectors.routing import route, sums

DIMENSIONS = {"image": 6, "instruction": 4}


def clouds(seed: int, n: int = 40) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(seed)
    return {name: chance.normal(size=size) + 0.5 * chance.normal(size=(n, size)) for name, size in DIMENSIONS.items()}


def keys_of(*tasks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.stack([sums(task)[name] for task in tasks]) for name in DIMENSIONS}


def test_the_closed_form_is_what_gradient_descent_finds() -> None:
    queries = torch.tensor(clouds(0)["image"])
    key = torch.rand(6, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam([key], lr=1e-2)
    for _ in range(2000):
        optimizer.zero_grad()
        loss = (1 - torch.cosine_similarity(queries, key[None])).sum()
        loss.backward()
        optimizer.step()
    closed = sums(clouds(0))["image"]
    cosine = key.detach().numpy() @ closed / np.linalg.norm(key.detach().numpy()) / np.linalg.norm(closed)
    assert cosine > 1 - 1e-6


def test_a_batch_goes_where_each_of_its_samples_goes_alone_and_mostly_home() -> None:
    tasks = [clouds(seed) for seed in range(3)]
    keys = keys_of(*tasks)
    mixed = {name: np.concatenate([task[name] for task in tasks]) for name in DIMENSIONS}
    together = route(mixed, keys)
    alone = [route({name: rows[at : at + 1] for name, rows in mixed.items()}, keys)[0] for at in range(len(together))]
    assert together.tolist() == alone
    assert (together == np.repeat(range(3), 40)).mean() > 0.9


def test_sums_of_parts_add_up_so_that_an_expert_can_be_reused() -> None:
    whole = clouds(1)
    parts = [{name: rows[rows_of] for name, rows in whole.items()} for rows_of in (slice(0, 13), slice(13, None))]
    for name in DIMENSIONS:
        np.testing.assert_allclose(sums(parts[0])[name] + sums(parts[1])[name], sums(whole)[name])


def test_samples_without_images_go_to_an_expert_without_images() -> None:
    seen, read = clouds(0), clouds(1)
    read["image"] = np.zeros_like(read["image"])
    read["instruction"] = seen["instruction"]  # nothing but the missing image tells them apart
    keys = keys_of(seen, read)
    assert set(route(read, keys)) == {1}
    assert set(route(seen, keys)) == {0}


def test_no_expert_or_another_modality_is_refused() -> None:
    with pytest.raises(ValueError, match="an expert"):
        route(clouds(0), {name: np.empty((0, size)) for name, size in DIMENSIONS.items()})
    with pytest.raises(ValueError, match="answer"):
        route({"answer": np.ones((1, 2))}, keys_of(clouds(0)))
