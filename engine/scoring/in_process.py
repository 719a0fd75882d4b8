"""Samples profiled in this process, as a frame: for people in a notebook. What scoring actors do, without Ray or a run folder.

Samples are read, checked and planned into batches as a run does it, so each has the same bits. Legend: N samples.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from pydantic import ValidationError

from liit.engine.data.ingest import Checker
from liit.engine.data.readers.checks import Bad, Sample, content
from liit.engine.data.readers.formats import Reader, Source, read
from liit.engine.data.readers.ids import Ids
from liit.engine.fleet.batching import plan_groups
from liit.engine.fleet.parts import rows_of_a_part
from liit.engine.models.experts import is_experts
from liit.engine.run.progress import Bar, log
from liit.engine.run.reading import profile_frame
from liit.engine.run.tables import key_of
from liit.engine.scoring.profile_spec import ProfilerSpec
from liit.engine.scoring.profiler import Row
from liit.engine.scoring.scoring import ProfileWorker, model_mark, profile_table
from liit.engine.scoring.specification import profiler_spec
from liit.engine.settings.config import Config, ConfigError, one_line
from liit.engine.settings.sections import Scoring
from liit.engine.settings.streams import Release
from liit.selectors.adapt import SCORES

Rows = pd.DataFrame | Iterable[Mapping[str, Any]]
UNNAMED = "samples"


def profile(
    samples: str | Path | Rows,
    *,
    model: str | Path | None = None,
    scores: Sequence[str] = SCORES,
    vectors: Sequence[str] = (),
    adapter: str | Path | None = None,
    images: str | Path | None = None,
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Profile every sample with a model: scores and vectors as the stage `score` of a run makes them.

    Bit for bit where the same samples share batches: those are planned within parts of a release, and of releases ids that
    begin with one name are taken for one. Of a release of more than 256 samples all must be there; elsewhere the last bits may
    differ.

    Args:
        samples: LLaVA rows (`id`, `conversations`, `image` or `images`) as a frame or as mappings; or a path, a LLaVA JSON file,
            a Parquet file or a folder of either.
        model: a local folder or hub id; by default that of `config`, and else `digits-base`, which is shipped.
        scores, vectors: what to compute of each sample (docs/scoring.md), beside what `config` names in its section `scoring`.
            Of a single visit, `forgetting` is 0.
        adapter: a PEFT adapter on the model, such as a run's `tNN/adapter`.
        images: the folder that image paths are relative to and may not leave; by default that of the path, or the working
            directory.
        name: of the data set, which ids then begin with as in a run, `<name>/<id>`; by default ids stay as they are.
        config: settings as a configuration has them (`Run.config`, or a part), of which `model`, `scoring`, `training.lora`,
            `seed` and `resources.threads_per_actor` matter here.

    Returns:
        A row for each sample by id, in the given order: key, n_tokens, n_response_tokens, model (a fingerprint), status, and a
        column for each score (float32; nll and entropy in nats) and vector (a cell is a float16 array of unit length). Who
        cannot be used has the reason as status, NaN for scores and None for vectors.

    Raises:
        ValueError: no sample, a file or model that cannot be read, a score or vector that is not known, a setting that is not
            allowed.
    """
    settled = _settled(config or {}, model)
    spec = _spec(settled, adapter, scores, vectors)
    rows = list(_read(samples, name, images))
    if not rows:
        raise ValueError("there is no sample to profile; pass rows with id, conversations and image or images")
    good = {at: row for at, row in enumerate(rows) if not isinstance(row, Bad)}
    failed = {at: Row(row.id, row.reason) for at, row in enumerate(rows) if isinstance(row, Bad)}
    with _threads(settled.resources.threads_per_actor):
        length, refused = _checked(good, settled)
        failed |= refused
        parts = list(_profiled({at: good[at] for at in length}, list(length.values()), spec, settled.scoring))
    if failed:
        keys = [{"key": key_of(row.id)} for row in failed.values()]
        parts.append((list(failed), profile_table(keys, list(failed.values()), spec, model_mark(spec))))
    table = pa.concat_tables([part for _, part in parts])
    frame = profile_frame(table.take(np.argsort([at for positions, _ in parts for at in positions])))
    if unusable := int((frame["status"] != "ok").sum()):
        log.warning("profile: %d of %d samples cannot be used; the column status says why", unusable, len(frame))
    return frame


def _settled(config: Mapping[str, Any], model: str | Path | None) -> Config:
    path = {} if model is None else {"path": str(model)}
    try:
        return Config.model_validate({**config, "model": {**config.get("model", {}), **path}})
    except ValidationError as error:
        raise ConfigError(one_line(error)) from error


def _spec(config: Config, adapter: str | Path | None, scores: Sequence[str], vectors: Sequence[str]) -> ProfilerSpec:
    for what, names in (("scores", scores), ("vectors", vectors)):
        if isinstance(names, str):
            raise ValueError(f"{what} is {names!r}; pass a list of names")
    if adapter is not None and is_experts(Path(adapter)):
        raise ValueError(
            f"{adapter} holds experts, and a run finds out which of them scores a sample; pass the folder of one of them"
        )
    if adapter is not None and not (Path(adapter) / "adapter_config.json").is_file():
        raise ValueError(f"{adapter} is no adapter: it has no adapter_config.json; pass a folder that peft has saved")
    return profiler_spec(config, None if adapter is None else Path(adapter), tuple(scores), tuple(vectors))


def _read(samples: str | Path | Rows, name: str | None, images: str | Path | None) -> Iterator[Sample | Bad]:
    """Every row once, in order, as a sample or as a bad one."""
    folder = None if images is None else str(images)
    path = str(samples) if isinstance(samples, str | Path) else "."
    try:
        release = Release(name=name or UNNAMED, path=path, images=folder)
    except ValidationError as error:
        raise ConfigError(one_line(error)) from error
    if isinstance(samples, str | Path):
        reader = read(release)
    elif not Path(folder or ".").is_dir():
        raise ValueError(f"image folder {folder} does not exist")
    else:
        reader = Reader(release, [Source(Path("samples"), "a table, not a", _plain(samples))], folder or ".")
    rows = list(reader)
    for sample_id, row in zip(_told_apart(rows, reader.folder), rows, strict=True):
        own = sample_id if name else sample_id.removeprefix(f"{UNNAMED}/")
        yield replace(row, id=own) if isinstance(row, Bad) else {**row, "id": own}
    for line in reader.counts.lines():
        log.warning("%s", line)


def _told_apart(rows: list[Sample | Bad], folder: str) -> list[str]:
    """The id of every row, as a run tells those apart that repeat; one that equals an earlier row becomes a bad one, in place."""
    names, ids, good = [], Ids(), []
    for at, row in enumerate(rows):
        names.append(row.id if isinstance(row, Bad) else row["id"])
        if not isinstance(row, Bad):
            ids.add(row["id"], content(row, folder))
            good.append(at)
    settled = ids.settled()
    now = settled.ids(pa.array([names[at] for at in good], pa.string())).to_pylist()
    for at, own, stays in zip(good, now, settled.stays_N, strict=True):
        names[at] = own
        if not stays:
            rows[at] = Bad(own, own.partition("/")[0], "equals an earlier row", "read")
    return names


def _plain(samples: Rows) -> Iterator[object]:
    """Rows as a file's reader gives them: dicts of Python values, None for what is missing."""
    if isinstance(samples, Mapping):
        raise ValueError("samples is a mapping; pass a list of mappings, one for each sample")
    if isinstance(samples, pd.DataFrame):
        frame = samples.reset_index() if samples.index.name == "id" else samples
        rows: Iterable[Mapping[Any, Any]] = frame.to_dict("records")
    else:
        rows = samples
    for row in rows:
        yield {str(key): _value(cell) for key, cell in row.items()} if isinstance(row, Mapping) else row


def _value(cell: Any) -> Any:
    if isinstance(cell, np.ndarray | np.generic):
        cell = cell.tolist()
    if isinstance(cell, Mapping):
        return {key: _value(part) for key, part in cell.items()}
    if isinstance(cell, list | tuple):
        return [_value(part) for part in cell]
    return None if cell is pd.NA or cell is pd.NaT or cell != cell else cell


def _checked(samples: Mapping[int, Sample], config: Config) -> tuple[dict[int, int], dict[int, Row]]:
    """Tokens of those that the model can take, and the others with their reasons, by position."""
    model = config.model
    checker = Checker(model.path, model.revision, model.max_length, model.template())
    found = checker([{**sample, "key": key_of(sample["id"])} for sample in samples.values()]).to_pylist()
    length, failed = {}, {}
    for at, row in zip(samples, found, strict=True):
        if row["reason"] is None:
            length[at] = row["length"]
        else:
            failed[at] = Row(row["id"], row["reason"])
    return length, failed


def _profiled(
    samples: Mapping[int, Sample], length: list[int], spec: ProfilerSpec, scoring: Scoring
) -> Iterator[tuple[list[int], pa.Table]]:
    """Planned batches: the positions of their samples, and their rows."""
    if not samples:
        return
    at_N, keys_N = np.array(list(samples)), np.array([key_of(one["id"]) for one in samples.values()], np.uint64)
    part_N = _parts([one["id"] for one in samples.values()], keys_N)
    batch_N = plan_groups(part_N, keys_N, np.array(length), scoring.samples_per_batch, scoring.tokens_per_batch)
    order_N = np.lexsort((keys_N, batch_N))
    worker = ProfileWorker(asdict(spec), model_mark(spec))
    with Bar("profile", len(at_N), "samples") as bar:
        for rows in np.split(order_N, np.flatnonzero(np.diff(batch_N[order_N])) + 1):
            batch = [{**samples[at], "key": int(key)} for at, key in zip(at_N[rows], keys_N[rows], strict=True)]
            yield at_N[rows].tolist(), worker(worker.prepare(batch))
            bar.move_to(bar.done + len(rows))


def _parts(ids: Sequence[str], keys_N: np.ndarray) -> np.ndarray:
    """(N,) alike for samples that a run has in one part: of one release, and near by their keys."""
    names_N = np.array([name.partition("/")[0] if "/" in name else "" for name in ids])
    part_N, before = np.zeros(len(ids), np.int64), 0
    for name in np.unique(names_N):
        mine = np.flatnonzero(names_N == name)
        part_N[mine] = before + np.argsort(np.argsort(keys_N[mine])) // rows_of_a_part(len(mine))
        before = int(part_N[mine].max()) + 1
    return part_N


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """With so many threads of torch, which the bits of a row depend on."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
