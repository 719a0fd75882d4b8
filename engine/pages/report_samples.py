"""The part of a run's report that shows samples: maps of their vectors, the chosen ones, and what is near to a few of them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.manifold import TSNE

from liit.engine.pages import figures
from liit.engine.pages.page import Example, Section
from liit.engine.pages.report_data import GROUPS, RunFolder

MAPPED = 600
"""Samples of a map."""
EACH = 3
"""Samples of a pseudo-task."""
NEAR = 4
"""Neighbours of a sample."""
VECTORS = {"sketch": "Gradients", "embedding": "Hidden states"}
SEARCHED = 2000
"""Samples that neighbours are looked for among."""


def in_the_plane(run: RunFolder, results: dict[str, Any]) -> Iterator[Section]:
    """t-SNE of gradients and of hidden states."""
    newest = run.newest
    if newest is None or len(newest) < 50:
        return
    positions = run.sampled(MAPPED)
    shown = newest.iloc[positions]
    colourings = {"task": shown["task"].astype(str).tolist(), "release": shown["arrival"].astype(str).tolist()}
    if "cluster" in shown:
        colourings = {"pseudo-task": shown["cluster"].astype(str).tolist(), **colourings}
    pictures = []
    for name, title in _titles(run).items():
        rows = run.vectors(name, positions)
        if rows is not None:
            pictures.append(figures.maps(_plane(rows), colourings, title))
    if pictures:
        yield Section("Maps", "Samples that lie together are alike; t-SNE of unit vectors.", pictures)


def _titles(run: RunFolder) -> dict[str, str]:
    """What is shown: the main sketch, else the first there is, and hidden states."""
    if "sketch" in run.gradients or not run.gradients:
        return VECTORS
    first = next(iter(run.gradients))
    return {first: f"Gradients, {first}", **VECTORS}


def at_depths(run: RunFolder, results: dict[str, Any]) -> Iterator[Section]:
    """Adapt-∞'s Fig. 5B: t-SNE of the gradients of several layers, where `scoring.sketches` has them."""
    newest = run.newest
    if newest is None or len(newest) < 50 or len(run.gradients) < 2:
        return
    positions = run.sampled(MAPPED)
    tasks = newest.iloc[positions]["task"].astype(str).tolist()
    pictures = []
    for name, layers in run.gradients.items():
        rows = run.vectors(name, positions)
        assert rows is not None
        pictures.append(figures.maps(_plane(rows), {"task": tasks}, f"Gradients, {name}: layer {layers}"))
    yield Section("Maps by depth", "The same samples by the gradients of other layers.", pictures)


def looked_at(run: RunFolder, results: dict[str, Any]) -> Iterator[Section]:
    """Chosen samples by pseudo-task and by the score that chose them."""
    newest, chosen = run.newest, run.chosen
    if newest is None or "cluster" not in newest or chosen is None:
        return
    sizes = run.sizes.nlargest(GROUPS).sort_index()
    by_cluster = {
        f"pseudo-task {cluster}: {size:,} samples": _spread(chosen[chosen["cluster"] == cluster], EACH)
        for cluster, size in sizes.items()
    }
    by_reason = {
        f"{scorer}: chose {len(own):,} samples": _spread(own.sort_values("score"), 2 * EACH)
        for scorer, own in chosen.groupby(chosen["scorer"].fillna("chance"))
    }
    shown = pd.concat([*by_cluster.values(), *by_reason.values()])
    reasons = zip(shown.index, shown["scorer"], shown["score"], strict=True)
    found = run.examples({int(key): _why(scorer, score) for key, scorer, score in reasons})
    note = f"Up to {EACH} of each pseudo-task, with the score that chose them."
    yield Section("Chosen samples by pseudo-task", note, examples=_of_keys(by_cluster, found))
    note = "Spread from the lowest to the highest value that was chosen by it."
    yield Section("Chosen samples by reason", note, examples=_of_keys(by_reason, found))


def _spread(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """Up to `count` of the rows, spread over their order."""
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, count).astype(int))] if len(rows) else rows


def _of_keys(groups: dict[str, pd.DataFrame], found: dict[int, Example]) -> dict[str, list[Example]]:
    return {title: [found[key] for key in rows.index if key in found] for title, rows in groups.items()}


def _why(scorer: str | None, score: float) -> str:
    if pd.isna(scorer):
        return "chance"
    return str(scorer) if pd.isna(score) else f"{scorer} {score:.3g}"  # what is always chosen has no score


def neighbours(run: RunFolder, results: dict[str, Any]) -> Iterator[Section]:
    """Adapt-∞'s Fig. 4: a few samples and what is nearest to each, by gradient and by hidden state."""
    if run.newest is None:
        return
    positions = run.sampled(min(SEARCHED, len(run.newest)))
    keys = run.newest.index[positions].tolist()
    groups: dict[tuple[str, int], dict[int, str]] = {}
    for name, title in _titles(run).items():
        rows = run.vectors(name, positions)
        if rows is None:
            continue
        for asked in np.linspace(0, len(rows) - 1, 4).astype(int):
            cosine = rows @ rows[asked]
            near = [at for at in np.argsort(-cosine) if at != asked][:NEAR]
            groups[title, keys[asked]] = {keys[asked]: "asked"} | {keys[at]: f"cosine {cosine[at]:.2f}" for at in near}
    if groups:
        found = run.examples({key: "" for notes in groups.values() for key in notes})
        examples = {
            f"{title}: like {found[asked].id}": [replace(found[key], note=notes[key]) for key in notes if key in found]
            for (title, asked), notes in groups.items()
            if asked in found
        }
        note = "The same samples and what is nearest to them, by gradient and by hidden state."
        yield Section("Neighbours", note, examples=examples)


def _plane(rows: np.ndarray) -> np.ndarray:
    """(n, 2): t-SNE (scikit-learn's, from the two main components)."""
    plane: np.ndarray = TSNE(init="pca", random_state=0, max_iter=500, perplexity=min(30, len(rows) / 4)).fit_transform(
        rows
    )
    return plane
