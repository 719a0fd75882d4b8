"""What a task looks like: unit vectors of image, instruction and answer for some of its samples (He et al., 2311.16206).

By the model as it was before any timestep, so that vectors of all timesteps can be compared: mean hidden states of the image's
tokens after the first layer, and of the instruction's and the answer's tokens in the middle one. Or by encoders of the user's.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from liit.engine.data.readers.images import open_image
from liit.engine.fleet import planned
from liit.engine.fleet.fitting import fitting
from liit.engine.fleet.parts import Batches, tasks_of
from liit.engine.models.encoders import ImageEncoder, TextEncoder
from liit.engine.models.encoding import PLACEHOLDER
from liit.engine.run.files import read_table, remove, write_json, write_table
from liit.engine.run.profiles import packed, unpacked
from liit.engine.run.progress import log
from liit.engine.run.store import Clock
from liit.engine.scoring.profile_spec import ProfilerSpec
from liit.engine.scoring.profiler import Prepared, Profiler, Row
from liit.engine.scoring.scoring import too_large, width
from liit.engine.scoring.specification import plain_spec
from liit.engine.settings.config import Config
from liit.engine.settings.training import Tasks
from liit.selectors.likeness import likeness

MODALITIES = {"image": "image", "instruction": "instruction", "answer": "embedding"}
"""And the vector of a profile that stands for each."""


def feature_spec(config: Config) -> ProfilerSpec:
    """The model as it was before any timestep, and the vectors that the user's encoders do not stand in for."""
    image, text = config.tasks.image_encoder, config.tasks.text_encoder
    encoders = {"image": image, "instruction": text, "answer": text}
    return plain_spec(config, None, tuple(vector for name, vector in MODALITIES.items() if encoders[name] is None))


class FeatureWorker:
    """The actor: samples in, a row for each out, with a vector for each modality; zero where the sample lacks it."""

    def __init__(self, spec: ProfilerSpec, tasks: Tasks) -> None:
        self.profiler = Profiler(spec)
        self.image = ImageEncoder(tasks.image_encoder) if tasks.image_encoder else None
        self.text = TextEncoder(tasks.text_encoder) if tasks.text_encoder else None

    def prepare(self, samples: list[dict[str, Any]]) -> Prepared:
        return self.profiler.prepare(samples)

    def __call__(self, prepared: Prepared) -> pa.Table:
        samples, spec = prepared.samples, self.profiler.spec
        if spec.vectors:
            rows = fitting(self.profiler.run, prepared, too_large)
        else:  # the user's encoders stand in for all of them
            rows = [Row(str(sample["id"]), prepared.failed.get(at, "ok")) for at, sample in enumerate(samples)]
        own = {name: vector for name, vector in MODALITIES.items() if vector in spec.vectors}
        vectors = {
            name: [row.vectors[vector] if row.vectors else np.zeros(width(vector, spec)) for row in rows]
            for name, vector in own.items()
        } | self._encoded(samples, [row.status == "ok" for row in rows])
        return pa.table(
            {
                "id": pa.array([row.id for row in rows], pa.string()),
                "key": pa.array([sample["key"] for sample in samples], pa.uint64()),
                "status": pa.array([row.status for row in rows], pa.string()),
                **{name: packed(np.stack(vectors[name])) for name in MODALITIES},
            }
        )

    def _encoded(self, samples: Sequence[Any], good: Sequence[bool]) -> dict[str, list[np.ndarray]]:
        """The vectors of the user's encoders, of the same parts of a sample; zero of one that is not good."""
        first, found = [first_question(sample) for sample in samples], {}
        if (image := self.image) is not None:
            shown = [
                [open_image(one) for one in sample["images"]] if ok else []
                for sample, ok in zip(first, good, strict=True)
            ]
            found["image"] = [image(own).numpy() for own in shown]
        if (text := self.text) is not None:
            for name, role, of in (("instruction", "user", first), ("answer", "assistant", samples)):
                said = [spoken(sample["conversation"], role) if ok else "" for sample, ok in zip(of, good, strict=True)]
                found[name] = [text(one).numpy() for one in said]
        return found


def first_question(sample: Mapping[str, Any]) -> dict[str, Any]:
    """A conversation up to its first answer, and the images shown until then: what is known before anything is answered."""
    turns = sample["conversation"]
    first = next(at for at, turn in enumerate(turns) if turn["role"] == "assistant")
    shown = sum(turn["text"].count(PLACEHOLDER) for turn in turns[:first])
    return {**sample, "conversation": turns[: first + 1], "images": list(sample["images"] or [])[:shown]}


def spoken(conversation: Sequence[dict[str, str]], role: str) -> str:
    """All that one side says, without image placeholders."""
    return "\n".join(turn["text"] for turn in conversation if turn["role"] == role).replace(PLACEHOLDER, "").strip()


def describe(
    keys_N: np.ndarray,
    tables: Sequence[Path],
    spec: ProfilerSpec,
    config: Config,
    partial: Path,
    label: str,
    clock: Clock,
    selected: bool = True,
    names_N: np.ndarray | None = None,
) -> None:
    """Write the vectors of samples as one table, sorted by key, columns as in `MODALITIES`, and `task` of `names_N`.

    keys_N: of the samples; tables: that hold them.

    Raises ValueError for a selected sample that cannot be read any more; of others, which scoring will quarantine, vectors are
    zero.
    """
    scoring = config.scoring
    batches = Batches(scoring.samples_per_batch, scoring.tokens_per_batch)
    work, arguments = partial.with_name(f"{partial.name}.work"), {"spec": spec, "tasks": config.tasks}
    job = planned.Job(label, FeatureWorker, arguments, tasks_of(tables, keys_N), batches)
    parts = planned.run(work, job, config.resources, clock.tick)
    table = pa.concat_tables([read_table(part) for part in parts]).sort_by("key")
    if names_N is not None:
        table = table.append_column("task", pa.array(names_N[np.argsort(keys_N)], pa.string()))
    bad = table.filter(pc.not_equal(table["status"], "ok"))
    if selected and len(bad):
        raise ValueError(f"{bad['id'][0]}: was good when selected, and cannot be read now: {bad['status'][0]}")
    write_table(partial, table)
    remove(work)


def vectors_of(task: pa.Table) -> dict[str, np.ndarray]:
    """(n, D) for each modality; a zero row for a sample without it."""
    return {name: unpacked(task[name]).astype(np.float64) for name in MODALITIES}


def mean_vectors(task: pa.Table) -> dict[str, np.ndarray]:
    """(D,) for each modality: the mean of the unit vectors of the samples that have it; zero where none has."""
    return {name: rows_nD.sum(axis=0) / max(rows_nD.any(axis=1).sum(), 1) for name, rows_nD in vectors_of(task).items()}


def by_task(table: pa.Table) -> dict[str, pa.Table]:
    """The rows of every task, tasks in sorted order."""
    names = sorted(set(table["task"].to_pylist()))
    return {name: table.filter(pc.equal(table["task"], name)) for name in names}


def similarity(
    tasks: Sequence[Path], partial: Path, t: int, counts: Mapping[str, int]
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Of each task of the last timestep (rows) to each task of those before it (columns); and to these, by name, the mean over
    all that the last one trains on, which is also written down as `similarity.json` beside `partial`.

    tasks: what `describe` wrote for all timesteps so far. counts: samples that the last one trains on, by task.
    """
    old, new = by_task(pa.concat_tables([read_table(path) for path in tasks[:-1]])), by_task(read_table(tasks[-1]))
    means = [mean_vectors(rows) for rows in (*old.values(), *new.values())]
    values = likeness({name: np.stack([mean[name] for mean in means]) for name in MODALITIES}, len(new))
    found = pd.DataFrame(values, index=list(new), columns=list(old))
    for name, row in found.iterrows():
        log.info("t%d: %s is like %s", t, name, ", ".join(f"{other}: {value:.2f}" for other, value in row.items()))
    counts_n = np.array([counts[name] for name in new], float)
    mean = dict(zip(old, (counts_n / counts_n.sum() @ values).tolist(), strict=True))
    write_json(partial.with_name("similarity.json"), {name: round(value, 4) for name, value in mean.items()})
    return found, mean
