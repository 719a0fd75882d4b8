"""A run is read back as its tables say, finished or not; what is not there is said in one line; nothing is written."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from liit.engine.run.files import write_json, write_table
from liit.engine.run.profiles import packed
from liit.engine.run.reading import Run, RunError, open_run
from liit.engine.run.store import Made, Store
from liit.engine.run.tables import ANSWER, CLUSTERS, POOL, QUARANTINE, REMOVED, SELECTION, key_of

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("base", "words", "pairs")
WIDTH = 6
Rows = list[dict[str, Any]]


def rows_of(t: int) -> Rows:
    """Everything that came until t, a row that could not be profiled among it."""
    names = [(at, f"{name}/{i}") for at, name in enumerate(NAMES[: t + 1]) for i in range(5)]
    return [{"id": name, "key": key_of(name), "dataset": name.split("/")[0], "arrival": at} for at, name in names]


def put(store: Store, name: str, table: pa.Table, *parents: Made) -> Made:
    """A result as a stage makes it: by rename, with a note of what it was made from."""
    return store.make(name, lambda partial, clock: write_table(partial, table), parents=parents)


def put_profile(store: Store, t: int, pool: Made) -> Made:
    rows, chance = rows_of(t), np.random.default_rng(t)
    columns = {
        "id": [row["id"] for row in rows],
        "key": pa.array([row["key"] for row in rows], pa.uint64()),
        "n_tokens": pa.array(range(len(rows)), pa.int32()),
        "status": ["torn image: a.png", *["ok"] * (len(rows) - 1)],
        "nll": pa.array([np.nan, *chance.random(len(rows) - 1)], pa.float32()),
        "sketch": packed(chance.normal(size=(len(rows), WIDTH))),
    }
    table = pa.table(columns)

    def work(partial: Path, clock: object) -> None:
        partial.mkdir()
        for part, at in enumerate(np.array_split(chance.permutation(len(rows)), 2)):
            write_table(partial / f"part-{part:07d}.parquet", table.take(at))
        write_json(partial / "columns.json", {})

    return store.make(f"t{t:02d}/profile", work, parents=(pool,))


def put_timestep(store: Store, t: int, until: str = "removed", clustered: bool = True) -> None:
    """The results of a timestep in the order of the stages, until one of them."""
    folder, rows = f"t{t:02d}", rows_of(t)
    (store.root / folder).mkdir(exist_ok=True)
    bad = [{"id": f"{NAMES[t]}/x", "dataset": NAMES[t], "stage": "read", "reason": "missing answer: no turns"}]
    write_table(store.root / folder / "quarantine.parquet", pa.Table.from_pylist(bad, schema=QUARANTINE))
    parents = [put(store, f"{folder}/pool.parquet", pa.Table.from_pylist(rows, schema=POOL))]
    if t and clustered:
        parents.append(put_profile(store, t, parents[0]))
        if until == "profile":
            return
        clusters = [{**row, "cluster": i % 2, "distance": 0.5} for i, row in enumerate(rows[1:])]
        parents.append(put(store, f"{folder}/clusters.parquet", pa.Table.from_pylist(clusters, schema=CLUSTERS)))
    if t:
        chosen = [
            {**row, "cluster": None if i else 1, "scorer": None if i else "nll"} for i, row in enumerate(rows[2:5])
        ]
        put(store, f"{folder}/selection.parquet", pa.Table.from_pylist(chosen, schema=SELECTION), *parents)
    values = {"colour": {"value": 10.0 * t, "datasets": {}}, "sum": {"value": 50.0 - t, "datasets": {}}}
    store.make(f"{folder}/evaluation.json", lambda partial, clock: write_json(partial, values))
    answers = [
        {"id": f"exam/{i}", "skill": "sum", "dataset": "exam", "answer": f"{i}", "value": 100.0} for i in range(3)
    ]
    write_table(store.root / folder / "answers.parquet", pa.Table.from_pylist(answers, schema=ANSWER))
    gone = [{"id": rows[-1]["id"], "reason": "pruned", "kept_id": rows[0]["id"]}]
    put(store, f"{folder}/removed.parquet", pa.Table.from_pylist(gone, schema=REMOVED))


def finish(root: Path) -> None:
    write_json(root / "results.json", {"releases": list(NAMES), "average_accuracy": 34.0})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three timesteps."""
    root = tmp_path_factory.mktemp("reading") / "run"
    store = Store(root)
    releases = [{"name": name, "path": f"{name}.json"} for name in NAMES]
    config = {
        "strategy": {"name": "adapt-inf"},
        "stream": {"kind": "files", "releases": releases},
        "keep_profiles": None,
    }
    (root / "config.yaml").write_text("# LiIT\n" + yaml.safe_dump(config))
    for t in range(3):
        put_timestep(store, t)
    finish(root)
    store.close()
    return root


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def plain(frame: pd.DataFrame) -> Rows:
    rows = frame.reset_index().to_dict("records")
    return [{str(name): None if pd.isna(value) else value for name, value in row.items()} for row in rows]


@pytest.mark.parametrize(("name", "t"), [("selection", 1), ("selection", 2), ("clusters", 1), ("answers", 0)])
def test_a_table_comes_back_by_id_as_it_lies_there(name: str, t: int, made: Path) -> None:
    frame = getattr(open_run(made), name)(t)
    assert frame.index.name == "id"
    assert plain(frame) == pq.read_table(made / f"t{t:02d}" / f"{name}.parquet").to_pylist()
    for column in {"cluster", "stratum"} & set(frame):
        assert frame[column].dtype == "Int32", "a number of a cluster stays whole where another is missing"


def test_the_whole_run_comes_back(made: Path) -> None:
    run = open_run(str(made))
    assert run.timesteps == [0, 1, 2]
    assert run.releases == list(NAMES)
    assert run.results["average_accuracy"] == 34.0
    assert run.config == yaml.safe_load((made / "config.yaml").read_text())
    assert repr(run) == f"<run {made}: adapt-inf, 3 of 3 timesteps, finished>"
    expected = pd.DataFrame({"colour": [0.0, 10.0, 20.0], "sum": [50.0, 49.0, 48.0]})
    pd.testing.assert_frame_equal(run.accuracy, expected, check_names=False)
    assert (run.accuracy.index.name, run.accuracy.columns.name) == ("timestep", "skill")
    for name in ("quarantine", "removed"):
        naive = [
            {"timestep": t, **row}
            for t in range(3)
            for row in pq.read_table(made / f"t0{t}/{name}.parquet").to_pylist()
        ]
        assert getattr(run, name).to_dict("records") == naive


def test_a_profile_has_every_sample_with_its_arrival_and_vectors_as_arrays(made: Path) -> None:
    frame = open_run(made).profile(2, ["sketch", "nll"])
    assert list(frame) == ["key", "arrival", "status", "sketch", "nll"]
    stored = pa.concat_tables([pq.read_table(part) for part in (made / "t02" / "profile").glob("*.parquet")])
    rows = {row["id"]: row for row in stored.to_pylist()}
    assert sorted(frame.index) == sorted(rows)
    assert frame["key"].is_monotonic_increasing
    for name, row in frame.iterrows():
        there = rows[str(name)]
        assert row["arrival"] == NAMES.index(str(name).split("/")[0])
        if there["status"] == "ok":
            assert row["sketch"].dtype == np.float16
            assert row["sketch"].tobytes() == there["sketch"]
            assert row["nll"] == np.float32(there["nll"])
        else:
            assert row["status"] == "torn image: a.png"
            assert row["sketch"] is None
            assert np.isnan(row["nll"])
    assert list(open_run(made).profile(1)) == ["key", "arrival", "status", "n_tokens", "nll"]


def test_an_unfinished_run_gives_what_is_there_and_says_what_is_not(made: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    shutil.copy(made / "config.yaml", store.root)
    run = open_run(store.root)
    assert (run.timesteps, run.releases, run.finished) == ([], list(NAMES), False)
    assert plain(run.quarantine) == plain(run.removed) == []
    refused(lambda: run.selection(1), "has no timestep 1 yet, it has none yet; the same command goes on")
    refused(lambda: run.accuracy, "has no evaluation.json of any timestep: the run has not come so far")
    put_timestep(store, 0)
    put_timestep(store, 1, until="profile")
    assert run.timesteps == [0, 1]
    assert list(run.accuracy.index) == [0]
    assert len(run.profile(1)) == 10
    assert list(run.quarantine["timestep"]) == [0, 1]
    assert repr(run).endswith("2 of 3 timesteps, not finished>")
    refused(lambda: run.results, "has no results.json: the run has not finished; the same command goes on")
    refused(lambda: run.selection(1), "t01/selection.parquet does not exist: the run has not come so far")
    refused(lambda: run.answers(1), "t01/answers.parquet does not exist: the run has not come so far")
    refused(lambda: run.selection(2), "has no timestep 2 yet, it has 0 to 1; the same command goes on")
    store.close()


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda run: run.selection(3), "has no timestep 3, it has 0 to 2; pass one of them"),
        (lambda run: run.profile(-1), "has no timestep -1, it has 0 to 2"),
        (lambda run: run.selection(0), "timestep 0 is the base model, learning begins at timestep 1"),
        (lambda run: run.profile(0), "t00/profile does not exist: timestep 0 is the base model"),
        (lambda run: run.profile(1, ["nnl"]), "t01/profile has no column nnl; it has n_tokens, nll, sketch"),
    ],
)
def test_what_a_finished_run_lacks_is_said_in_one_line(ask: Callable[[Run], object], says: str, made: Path) -> None:
    refused(lambda: ask(open_run(made)), says)


def refused(ask: Callable[[], object], says: str) -> None:
    with pytest.raises(RunError) as error:
        ask()
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    refused(lambda: open_run(tmp_path / "none"), "none is no folder; pass a run's")
    refused(lambda: open_run(tmp_path), "has no config.yaml; pass the folder that was given as --output")


def test_what_a_longer_stream_left_in_the_folder_is_no_timestep(copied: Path) -> None:
    for t in (3, 12):
        shutil.copytree(copied / "t02", copied / f"t{t:02d}")
    assert open_run(copied).timesteps == [0, 1, 2]
    assert len(open_run(copied).removed) == 3
    (copied / "results.json").unlink()
    assert open_run(copied).timesteps == [0, 1, 2]


def test_what_another_strategy_left_is_not_taken_for_this_run_s(copied: Path) -> None:
    store = Store(copied)
    store.drop("t01/selection.parquet")
    put_timestep(store, 1, clustered=False)
    for name in ("profile", "clusters"):
        refused(lambda name=name: getattr(open_run(copied), name)(1), f"t01/{name}")  # type: ignore[misc]
        assert len(getattr(open_run(copied), name)(2))
    store.drop("t01/clusters.parquet")
    refused(
        lambda: open_run(copied).clusters(1), "clusters.parquet does not exist: the strategy of timestep 1 makes none"
    )
    store.close()


def test_a_profile_that_was_not_kept_says_so(copied: Path) -> None:
    store = Store(copied)
    store.forget("t01/profile")
    store.close()
    config = yaml.safe_load((copied / "config.yaml").read_text()) | {"keep_profiles": 1}
    (copied / "config.yaml").write_text(yaml.safe_dump(config))
    refused(lambda: open_run(copied).profile(1), "t01/profile was not kept, as keep_profiles=1 says")


def test_evaluations_of_other_skills_are_not_put_into_one_table(copied: Path) -> None:
    write_json(copied / "t02" / "evaluation.json", {"colour": {"value": 1.0, "datasets": {}}})
    refused(lambda: open_run(copied).accuracy, "t2 was evaluated on colour, t0 on colour, sum; the evaluation sets")
    for t in range(3):
        (copied / f"t0{t}" / "evaluation.json").unlink()
        (copied / f"t0{t}" / "answers.parquet").unlink()
    refused(lambda: open_run(copied).accuracy, "the run has no evaluation sets; give it some as stream.evaluations")
    refused(lambda: open_run(copied).answers(1), "t01/answers.parquet does not exist: the run has no evaluation sets")


def test_the_embedded_stream_says_its_releases_once_it_is_composed(copied: Path) -> None:
    config = yaml.safe_load((copied / "config.yaml").read_text()) | {"stream": {"kind": "digits"}}
    (copied / "config.yaml").write_text(yaml.safe_dump(config))
    (copied / "results.json").unlink()
    assert open_run(copied).releases == []
    assert open_run(copied).timesteps == [0, 1, 2]
    (copied / "data").mkdir()
    write_json(copied / "data" / "stream.json", {"releases": [{"name": name} for name in NAMES[:2]]})
    assert open_run(copied).releases == ["base", "words"]
    assert open_run(copied).timesteps == [0, 1]


def test_reading_writes_nothing_and_takes_no_lock(copied: Path) -> None:
    def files() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [copied, *copied.rglob("*")]}

    store, before = Store(copied), files()
    run = open_run(copied)
    assert all(len(frame) for frame in (run.accuracy, run.quarantine, run.removed))
    for t in run.timesteps[1:]:
        assert all(len(ask(t)) for ask in (run.selection, run.clusters, run.answers, run.profile))
        run.profile(t, ["sketch"])
    assert files() == before
    store.close()
    Store(copied).close()


def test_neither_ray_nor_torch_nor_pydantic_is_imported(made: Path) -> None:
    code = (
        f"import sys, liit; run = liit.open_run({str(made)!r}); run.accuracy, run.profile(1, ['sketch']), run.selection(1); "
        "print({'ray', 'torch', 'transformers', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
