"""Schemas of everything that flows between the stages. Tables are sets of rows, keyed by id."""

import ctypes
import gc
import hashlib
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import pyarrow as pa

# Large types where a table may hold more than 2 GiB: with others, `take` and `sort_by` overflow their offsets.
TURN = pa.struct([("role", pa.string()), ("text", pa.large_string()), ("context", pa.bool_())])
# Where an image's bytes stand in the file `path`, which holds many: the so many-th row of Parquet, and the column with the fields
# and positions inside it; or offset and size in a tar. `mark`: the first 64 bits of their SHA-256.
PLACE = pa.struct(
    [
        ("row", pa.int64()),
        ("at", pa.list_(pa.string())),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("mark", pa.uint64()),
    ]
)
IMAGE = pa.struct([("path", pa.string()), ("bytes", pa.large_binary()), ("place", PLACE)])

# A sample as every reader yields it. `conversation`: roles user / assistant / system; the text holds exactly one
# `<image>` per image, in order; `context` is true of an answer that is neither trained nor scored, else null.
# `references`: further accepted answers, and `metric`: that of the row, used by evaluation sets only.
# `length`: tokens of the whole sample under the run's model, image tokens included; `content`: a hash of its pixels and its
# words, alike for exact copies; both known after the checks of ingest.
SAMPLE = pa.schema(
    [
        ("id", pa.string()),
        ("key", pa.uint64()),
        ("dataset", pa.string()),
        ("arrival", pa.int32()),
        ("task", pa.string()),
        ("conversation", pa.list_(TURN)),
        ("images", pa.list_(IMAGE)),
        ("references", pa.list_(pa.string())),
        ("metric", pa.string()),
        ("length", pa.int32()),
        ("content", pa.binary(16)),
    ]
)
POOL = pa.schema([("id", pa.string()), ("key", pa.uint64()), ("dataset", pa.string()), ("arrival", pa.int32())])
QUARANTINE = pa.schema([("id", pa.string()), ("dataset", pa.string()), ("stage", pa.string()), ("reason", pa.string())])
REMOVED = pa.schema([("id", pa.string()), ("reason", pa.string()), ("kept_id", pa.string())])
CLUSTERS = pa.schema([("id", pa.string()), ("key", pa.uint64()), ("cluster", pa.int32()), ("distance", pa.float32())])
# `percentile`: of the sample's score among those of its cluster (of the pool, where there are no clusters), 0 to 100.
SELECTION = pa.schema(
    [
        ("id", pa.string()),
        ("key", pa.uint64()),
        ("cluster", pa.int32()),
        ("scorer", pa.string()),
        ("score", pa.float32()),
        ("percentile", pa.float32()),
        ("stratum", pa.int32()),
    ]
)
# What became of a timestep's samples: `outcome` selected (reason: the score that chose), not selected, left out (of the
# pool, as a copy), quarantined. `pruned`: how many of them leave the pool at the end.
SUMMARY = pa.schema(
    [
        ("dataset", pa.string()),
        ("cluster", pa.int32()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("samples", pa.int64()),
        ("pruned", pa.int64()),
    ]
)
# What a model answered to a question (`question`: a hash of its pixels and words, and of how long the answer may be).
GENERATION = pa.schema(
    [
        ("id", pa.string()),
        ("dataset", pa.string()),
        ("question", pa.binary(16)),
        ("answer", pa.string()),
        ("loss", pa.float32()),
    ]
)
ANSWER = pa.schema(
    [
        ("id", pa.string()),
        ("skill", pa.string()),
        ("dataset", pa.string()),
        ("answer", pa.string()),
        ("value", pa.float32()),
        ("loss", pa.float32()),
        ("judgement", pa.string()),  # what another model wrote about the answer, where one judges
    ]
)
# What was said in a conversation: a row for each turn. `value`: percent.
SAID = pa.schema(
    [
        ("id", pa.string()),
        ("turn", pa.int32()),
        ("skill", pa.string()),
        ("question", pa.string()),
        ("reference", pa.string()),
        ("answer", pa.string()),
        ("value", pa.float32()),
    ]
)
TASKS = pa.schema([("key", pa.uint64()), ("task", pa.string())])


BLOCK = 1 << 16
"""Keys that are looked for at a time."""


def key_of(sample_id: str) -> int:
    """The uint64 that stands for a sample id wherever an array is wanted (64 bits of BLAKE2b)."""
    return int.from_bytes(hashlib.blake2b(sample_id.encode(), digest_size=8).digest(), "little")


def as_samples(table: pa.Table) -> pa.Table:
    """Rows of SAMPLE, whole or some columns, with today's types; what tables of earlier runs lack is null."""
    for name in ("conversation", "images"):
        at, wanted = table.schema.get_field_index(name), SAMPLE.field(name)
        if at >= 0 and table[name].type != wanted.type and pa.types.is_struct(table[name].type.value_type):
            table = table.set_column(at, wanted, table[name].cast(wanted.type))
    names = table.column_names
    if {"conversation", "references"} <= set(names) and "metric" not in names:
        nothing = pa.nulls(len(table), pa.string())
        table = table.add_column(names.index("references") + 1, SAMPLE.field("metric"), nothing)
    return table


def keys_of(ids: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """(n,) `key_of` every id; a few thousand are Python objects at a time."""
    batches = pa.table([ids], names=["id"]).to_batches(max_chunksize=1 << 13)
    hashed = ([key_of(one) for one in batch["id"].to_pylist()] for batch in batches)
    return np.concatenate([np.empty(0, np.uint64), *(np.array(keys, np.uint64) for keys in hashed)])


def found_at(keys_N: npt.NDArray[np.uint64], keys_n: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """(n,) where each key stands among N ascending ones, -1 where it is none of them."""
    at_n = np.full(len(keys_n), -1)
    for start in range(0, len(keys_n) if len(keys_N) else 0, BLOCK):
        own_b = keys_n[start : start + BLOCK]
        at_b = np.minimum(np.searchsorted(keys_N, own_b), len(keys_N) - 1)
        at_n[start : start + BLOCK] = np.where(keys_N[at_b] == own_b, at_b, -1)
    return at_n


def among(chunk: pa.Table, keys_N: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.int64], pa.Table]:
    """The rows of a chunk that are of N samples, whose keys ascend, and before them (n,) where each stands among these."""
    at_n = found_at(keys_N, chunk["key"].to_numpy())
    return at_n[at_n >= 0], chunk.filter(pa.array(at_n >= 0))


def is_by_key(table: pa.Table) -> bool:
    """Whether rows are in the order of their keys."""
    keys_n = table["key"].to_numpy()
    return bool((keys_n[1:] >= keys_n[:-1]).all())


def slices(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    """The table, so many rows at a time."""
    return (table.slice(start, rows) for start in range(0, len(table), rows))


def sort_by_key(table: pa.Table) -> pa.Table:
    """Rows in the order of their keys: the canonical order of a set of rows, whatever files they came from."""
    return table if is_by_key(table) else table.sort_by("key")


def give_back(after_s: float) -> None:
    """Memory that freed tables and arrays left in this process's pools goes back to the system. Cycles are looked for after work
    of some seconds alone: that takes a third of one."""
    if after_s >= 5:
        gc.collect()
    pa.default_memory_pool().release_unused()
    with suppress(AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
