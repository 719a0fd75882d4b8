"""A profile on disk: what its vectors take, and that they come back as they were."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liit.engine.run.profiles import (
    packed,
    read_profile,
    read_scores,
    read_vectors,
    read_vectors_of,
    sampled_scores,
    unpacked,
)
from liit.engine.scoring.profile_spec import FEATURES, ProfilerSpec
from liit.engine.scoring.profiler import Profiler, Row
from liit.engine.scoring.scoring import columns_of, profile_table, width
from liit.engine.settings.specs import SketchSpec
from liit.selectors.priority import smallest

WIDTH = 64


def part(path: Path, keys: list[int], failed: tuple[int, ...] = ()) -> np.ndarray:
    """A part file as an actor writes it; the vectors of its rows."""
    vectors = np.random.default_rng(keys[0]).normal(size=(len(keys), WIDTH)).astype(np.float16)
    spec = ProfilerSpec("", scores=("nll",), vectors=("sketch",), sketches={"sketch": SketchSpec(dimension=WIDTH)})
    rows = [
        Row(f"{key}", "torn") if key in failed else Row(f"{key}", "ok", 9, 3, {"nll": float(key)}, {"sketch": vector})
        for key, vector in zip(keys, vectors, strict=True)
    ]
    table = profile_table([{"key": key} for key in keys], rows, spec, "m")
    pq.write_table(table, path, compression="none", use_dictionary=False)
    return vectors


def test_vectors_come_back_by_key_without_those_of_failed_samples(tmp_path: Path) -> None:
    folder = tmp_path / "profile"
    folder.mkdir()
    first, second = part(folder / "part-0.parquet", [7, 3, 9], failed=(3,)), part(folder / "part-1.parquet", [8, 1])
    found = read_vectors(folder, "sketch")
    assert np.array_equal(found, np.stack([second[1], first[0], second[0], first[2]]))
    for few in ([], [0], [1, 3], [0, 1, 2, 3]):
        keys = np.array([1, 7, 8, 9], np.uint64)[few]
        assert np.array_equal(read_vectors_of(folder, "sketch", keys), found[few])
    table = read_profile(folder, ["nll"])
    assert table["key"].to_pylist() == table["nll"].to_pylist() == [1, 7, 8, 9]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["profile"], "the mapped file has no name"


@pytest.mark.parametrize("count", [0, 1, 4, 9, 30])
def test_a_sample_by_hash_is_that_of_the_whole_profile_however_it_is_parted(count: int, tmp_path: Path) -> None:
    folder = tmp_path / "profile"
    folder.mkdir()
    keys = np.random.default_rng(1).permutation(40) + 1
    for at in range(0, 40, 5):
        part(folder / f"part-{at:02d}.parquet", keys[at : at + 5].tolist(), failed=(int(keys[at]),))
    every_N, scores = read_scores(folder, ["nll"])
    mine = smallest(every_N, count, "salt", 3)
    keys_n, own = sampled_scores(folder, ["nll"], count, "salt", 3)
    assert np.array_equal(keys_n, every_N[mine])
    assert np.array_equal(own["nll"], scores["nll"][mine])


def test_a_profile_of_failures_alone_has_no_vectors(tmp_path: Path) -> None:
    (tmp_path / "profile").mkdir()
    part(tmp_path / "profile" / "part-0.parquet", [5], failed=(5,))
    assert read_vectors(tmp_path / "profile", "sketch").shape == (0, WIDTH)


@pytest.mark.parametrize("slices", [[(0, 6)], [(2, 3), (0, 1), (5, 1)]])
def test_a_packed_column_is_the_rows_whatever_was_cut_from_it(slices: list[tuple[int, int]]) -> None:
    rows = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float16)
    column = pa.chunked_array([packed(rows).slice(*one) for one in slices])
    expected = np.concatenate([rows[start : start + length] for start, length in slices])
    assert np.array_equal(unpacked(column), expected)


def test_a_sample_takes_what_it_takes_on_paper(tmp_path: Path) -> None:
    count = 2000
    part(tmp_path / "part.parquet", list(range(1, count + 1)))
    on_paper = 2 * WIDTH + 4 + 8 + 2 * 4  # vector, score, key, two counts
    text = sum(len(f"{key}") for key in range(1, count + 1)) / count + len("m") + len("ok") + 3 * 4
    assert (tmp_path / "part.parquet").stat().st_size / count == pytest.approx(on_paper + text, rel=0.05)


def test_every_vector_there_is_has_its_width_and_says_what_it_is(tiny_llava: str) -> None:
    sketches = {"sketch": SketchSpec(dimension=64), "mapped": SketchSpec(parameters="projector", dimension=32)}
    spec = ProfilerSpec(tiny_llava, max_length=200, vectors=(*FEATURES, *sketches), sketches=sketches, embedding=16)
    turns = [{"role": "user", "text": "two and two?"}, {"role": "assistant", "text": "four"}]
    rows = Profiler(spec).profile([{"id": "a", "conversation": turns, "images": []}])
    assert {name: len(vector) for name, vector in (rows[0].vectors or {}).items()} == {
        name: width(name, spec) for name in spec.vectors
    }
    told = columns_of(spec, profile_table([{"key": 1}], rows, spec, "m"))
    assert set(told) == set(spec.vectors)
    assert told["mapped"]["layers"] == "projector"
    assert told["sketch"]["layers"] == "middle"
