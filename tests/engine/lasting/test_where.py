"""What is told of a sample is what the tables of the run say, one by one; what is not there is said; nothing is written."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from liit.command import app
from liit.engine.lasting.finding import Image, row_of
from liit.engine.lasting.where import Asked, Left, Life, Step, life
from liit.engine.run.files import read_json, read_table, write_json, write_table
from liit.engine.run.reading import RunError
from liit.engine.run.store import Store
from liit.engine.run.superseding import supersede
from liit.engine.run.tables import SAMPLE, SELECTION, key_of

ROOT = Path(__file__).resolve().parents[3]
FINISHED = ROOT / "tests/engine/run/rules_1"
"""A run of three timesteps by Lite-Adapt-∞; its evaluation sets are one table, as earlier versions had them."""
Rows = list[dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FINISHED, tmp_path / "run"))


def rows_of(path: Path) -> Rows:
    return read_table(path).to_pylist() if path.exists() else []


def ids_in(*tables: Path) -> list[str]:
    return sorted({row["id"] for table in tables for row in rows_of(table)})


EVERYTHING = ids_in(*FINISHED.glob("releases/*.parquet"), *FINISHED.glob("t*/quarantine.parquet"))


@pytest.fixture(scope="module")
def lives() -> dict[str, Life]:
    return {name: life(FINISHED, name) for name in EVERYTHING}


def at_each_step(lives: dict[str, Life]) -> Iterator[tuple[str, Life, Step, Path]]:
    for name, told in lives.items():
        assert [step.timestep for step in told.steps] == [0, 1, 2]
        for step in told.steps:
            yield name, told, step, FINISHED / f"t{step.timestep:02d}"


def by_id(table: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in rows_of(table)}


def test_everything_that_arrived_is_in_the_pool_or_there_is_a_reason_why_not(lives: dict[str, Life]) -> None:
    for name, told, step, folder in at_each_step(lives):
        assert told.arrival is not None
        assert step.pool == (name in ids_in(folder / "pool.parquet"))
        arrived = step.timestep >= told.arrival
        assert step.pool or (step.left is not None) == arrived
        earlier = [FINISHED / f"t{t:02d}" for t in range(step.timestep + 1)]
        gone = ids_in(*(one / f"{table}.parquet" for one in earlier for table in ("removed", "quarantine")))
        assert (step.left is not None) == (name in gone)
    assert {told.dataset for told in lives.values()} == {"base", "words", "pairs"}
    assert {str(told.steps[1].left).partition(" ")[0] for told in lives.values()} >= {"a", "pruned:", "quarantined,"}


def test_a_sample_is_told_as_its_release_has_it(lives: dict[str, Life]) -> None:
    for name, told in lives.items():
        if told.table is None:
            assert told.quarantined is not None
            assert told.row is told.length is told.content is None
            continue
        row = rows_of(FINISHED / told.table)[told.row or 0]
        assert (row["id"], row["length"], row["content"].hex()) == (name, told.length, told.content)
        assert (row["arrival"], row["task"]) == (told.arrival, told.task)
        assert [image["path"] for image in row["images"]] == [str(image.path) for image in told.images]
        assert told.quarantined is None


def percentile(value: float, among: list[float]) -> float:
    return 100 * sum(one <= value for one in among) / len(among)


def test_scores_clusters_and_percentiles_are_the_naive_ones(lives: dict[str, Life]) -> None:
    profiles = {t: by_id(FINISHED / f"t{t:02d}/profile") for t in (1, 2)}
    clusters = {t: by_id(FINISHED / f"t{t:02d}/clusters.parquet") for t in (1, 2)}
    for name, _, step, _ in at_each_step(lives):
        mine, stands = profiles.get(step.timestep, {}).get(name), step.standing
        if mine is None:
            assert not stands.scores
            continue
        alike, own = clusters[step.timestep], clusters[step.timestep][name]
        assert (stands.cluster, stands.distance) == (own["cluster"], own["distance"])
        assert (stands.n_tokens, stands.n_response_tokens) == (mine["n_tokens"], mine["n_response_tokens"])
        assert list(stands.scores) == ["nll", "image_grounding", "el2n", "entropy"]
        for score, found in stands.scores.items():
            everyone = {other: row[score] for other, row in profiles[step.timestep].items()}
            assert found.value == mine[score]
            assert found.in_pool == pytest.approx(percentile(mine[score], list(everyone.values())))
            near = [value for other, value in everyone.items() if alike[other]["cluster"] == own["cluster"]]
            assert found.in_cluster == pytest.approx(percentile(mine[score], near))


def test_what_was_chosen_has_the_score_and_percentile_of_the_selection(lives: dict[str, Life]) -> None:
    for name, _, step, folder in at_each_step(lives):
        row = by_id(folder / "selection.parquet").get(name)
        assert step.chosen == (None if step.timestep == 0 else row is not None)
        if row is not None:
            assert step.scorer == (row["scorer"] or "chance")
            if row["scorer"]:
                score = step.standing.scores[row["scorer"]]
                assert (score.value, np.float32(score.in_cluster)) == (row["score"], np.float32(row["percentile"]))


def test_an_adapter_saw_what_it_was_trained_on_and_what_it_goes_on_from(run: Path, lives: dict[str, Life]) -> None:
    first, second = (set(ids_in(FINISHED / f"t0{t}/selection.parquet")) for t in (1, 2))
    for name, told in lives.items():
        saw = [step.saw for step in told.steps]
        assert saw == [(), (1,) * (name in first), (1,) * (name in first) + (2,) * (name in second)]
        assert [step.adapter for step in told.steps] == [False, True, True]
    note = read_json(run / "t02/adapter.made.json")
    write_json(run / "t02/adapter.made.json", note | {"parents": ["t02/selection.parquet"]})
    for name in sorted(first):
        assert life(run, name).steps[2].saw == (2,) * (name in second), "one that starts from the base has not seen it"


def left(run: Path, name: str) -> list[tuple[bool, Left | None]]:
    return [(step.pool, step.left) for step in life(run, name).steps]


def take_out(table: Path, *names: str) -> None:
    write_table(table, read_table(table).filter(pa.array([row["id"] not in names for row in rows_of(table)])))


def test_reasons_stand_in_words() -> None:
    said = {name: str(life(FINISHED, name).steps[1].left) for name in ("words/105", "words/seen-3")}
    assert said == {
        "words/105": "a copy of evaluation sample exam-sum/105",
        "words/seen-3": "a copy of base/seen-3",
    }
    assert left(FINISHED, "words/19") == [(False, None), (True, None), (True, Left(2, "pruned", "words/8"))]
    bad = life(FINISHED, "words/seen-92").quarantined
    assert bad == Left(1, "quarantined", note="read: missing conversation: it has no turns")


def test_what_was_withdrawn_or_failed_while_it_was_scored_says_so(run: Path) -> None:
    gone, failed = sorted(set(ids_in(run / "t01/pool.parquet")) & set(ids_in(run / "t02/pool.parquet")))[:2]
    for name in ("copies", "removed"):
        more = pa.table([[gone], ["withdrawn"], pa.nulls(1, pa.string())], names=["id", "reason", "kept_id"])
        path = run / f"t02/{name}.parquet"
        write_table(path, pa.concat_tables([read_table(path), more.cast(read_table(path).schema)]))
    bad = {"id": failed, "dataset": failed.split("/")[0], "stage": "score", "reason": "nll is not finite"}
    old = read_table(run / "t01/quarantine.parquet")
    write_table(run / "t01/quarantine.parquet", pa.Table.from_pylist([*old.to_pylist(), bad], old.schema))
    for part in (run / "t01/profile").glob("*.parquet"):
        rows = rows_of(part)
        states = ["nll is not finite" if row["id"] == failed else "ok" for row in rows]
        table = read_table(part)
        at = table.schema.get_field_index("status")
        write_table(part, table.set_column(at, "status", pa.array(states)))
    take_out(run / "t02/pool.parquet", gone, failed)

    assert left(run, gone)[1:] == [(True, None), (False, Left(2, "withdrawn"))]
    reason = Left(1, "quarantined", note="score: nll is not finite")
    assert left(run, failed)[1:] == [(True, reason), (False, reason)]
    told = life(run, failed)
    assert told.quarantined == reason
    assert (told.steps[1].standing.scores, told.steps[1].standing.unscored) == ({}, "nll is not finite")
    near = life(run, ids_in(run / "t01/selection.parquet")[0]).steps[1].standing.scores["nll"]
    usable = [row["nll"] for row in rows_of(run / "t01/profile") if row["status"] == "ok"]
    assert near.in_pool == pytest.approx(percentile(near.value, usable)), "what failed is none of the pool's scores"


def test_of_a_profile_that_was_not_kept_the_deciding_score_is_left(run: Path) -> None:
    store = Store(run)
    store.forget("t01/profile")
    store.close()
    for row in rows_of(run / "t01/selection.parquet"):
        stands = life(run, row["id"]).steps[1].standing
        assert stands.unscored.startswith("its profile was not kept")
        assert stands.cluster == row["cluster"]
        assert [(name, one.value) for name, one in stands.scores.items()] == [("nll", row["score"])] * bool(
            row["scorer"]
        )
    assert life(run, "words/19").steps[2].standing.unscored == ""


def test_what_another_strategy_left_is_not_told(run: Path) -> None:
    note = read_json(run / "t01/selection.parquet.made.json")
    write_json(run / "t01/selection.parquet.made.json", note | {"parents": ["t01/pool.parquet"]})
    table = read_table(run / "t01/selection.parquet")
    nothing = [{**row, "scorer": None, "score": None, "percentile": None} for row in table.to_pylist()]
    write_table(run / "t01/selection.parquet", pa.Table.from_pylist(nothing, SELECTION))
    step = life(run, "words/19").steps[1]
    assert (step.standing.scores, step.standing.cluster, step.standing.unscored) == (
        {},
        None,
        "the strategy scores nothing",
    )
    assert step.scorer == "no score"


def test_a_run_that_goes_on_tells_what_is_there(run: Path) -> None:
    (run / "results.json").unlink()
    for name in ("adapter", "removed.parquet", "selection.parquet", "clusters.parquet", "profile"):
        path = run / "t02" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        (run / "t02" / f"{name}.made.json").unlink()
    step = life(run, "words/19").steps[2]
    assert (step.pool, step.left, step.chosen, step.adapter) == (True, None, None, False)
    assert step.standing.unscored == "not scored yet"
    shutil.rmtree(run / "t02")
    assert [step.timestep for step in life(run, "pairs/both-2").steps] == [0, 1]
    assert life(run, "pairs/both-2").arrival == 2


def test_a_superseded_selection_that_had_it_is_named(run: Path) -> None:
    chosen = ids_in(run / "t02/selection.parquet")
    other = sorted(set(ids_in(run / "t02/pool.parquet")) - set(chosen))[0]
    store = Store(run)
    supersede(run, {"t02/selection.parquet": ["strategy.budget 12 → 1"]})
    rows = [{"id": other, "key": key_of(other)}]
    table = pa.Table.from_pylist(rows, SELECTION)
    store.make("t02/selection.parquet", lambda partial, clock: write_table(partial, table), settings={"budget": 1})
    store.close()
    [kept] = (run / "superseded").iterdir()
    for name in chosen:
        assert life(run, name).superseded == {kept.name: (2,)}, "at t1 the same selection stands"
        assert life(run, name).steps[2].chosen is False
    assert life(run, other).superseded == {}
    assert life(run, other).steps[2].chosen is True
    assert f"superseded/{kept.name} │ chosen at t2" in liit(run, chosen[0])[1]
    assert life(kept, chosen[0]).steps[2].chosen, "it is a run folder itself"


ASKED = ids_in(FINISHED / "exam.parquet")


@pytest.mark.parametrize("newer", [False, True], ids=["one table", "a table for each set"])
def test_an_evaluation_sample_has_every_timesteps_answer(newer: bool, run: Path) -> None:
    since = 0
    if newer:
        table, since = read_table(run / "exam.parquet"), 2
        (run / "exam").mkdir()
        for name, key in (("exam-colour", "exam-colour"), ("exam-sum", "exam-sum@t02")):
            write_table(run / f"exam/{key}.parquet", table.filter(pa.compute.field("dataset") == name))
            shutil.copy(run / "exam.quarantine.parquet", run / f"exam/{key}.quarantine.parquet")
        (run / "exam.parquet").unlink()
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["stream"]["evaluations"][1]["since"] = since
        config["stream"]["evaluations"][0]["until"] = 2
        (run / "config.yaml").write_text(yaml.safe_dump(config))
    for name in ASKED:
        told = life(run, name)
        assert (told.kind, told.arrival, told.quarantined) == ("evaluation", None, None)
        assert told.asked == (
            Asked("exam-sum", since, None)
            if name.startswith("exam-sum")
            else Asked("exam-colour", 0, 2 if newer else None),
        )
        for step in told.steps:
            row = by_id(run / f"t{step.timestep:02d}/answers.parquet")[name]
            assert step.answer is not None
            assert (step.answer.answer, step.answer.value, step.answer.loss) == (
                row["answer"],
                row["value"],
                row["loss"],
            )
        assert list(told.frame["answer"]) == [step.answer.answer for step in told.steps if step.answer]
    (bad,) = ids_in(FINISHED / "exam.quarantine.parquet")
    assert str(life(run, bad).quarantined).startswith("quarantined, read: unusable reference")


def test_an_id_without_its_data_set_is_enough_where_it_is_the_only_one(run: Path) -> None:
    names = [*EVERYTHING, *ASKED, *ids_in(FINISHED / "exam.quarantine.parquet")]
    for name in names:
        bare = name.partition("/")[2]
        same = [other for other in names if other.partition("/")[2] == bare]
        if len(same) == 1:
            assert life(run, bare).id == name
        else:
            with pytest.raises(RunError, match="in several data sets; pass one of") as error:
                life(run, bare)
            assert all(other in str(error.value) for other in same)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("words/seen-333", "has no sample words/seen-333; the closest are words/seen-"),
        ("wrods/19", "has no sample wrods/19; the closest are words/19"),
        ("both-22", "has no sample both-22; the closest are pairs/both-2"),
        ("exam-sum/2000", "has no sample exam-sum/2000; the closest are exam-sum/200"),
        ("nothing", "has no sample nothing; its data sets are base, words, pairs, exam-colour, exam-sum"),
        ("nothing/19", "has no sample nothing/19; its data sets are base, words, pairs, exam-colour, exam-sum"),
    ],
)
def test_an_unknown_id_ends_with_the_closest_ones_of_its_data_set(asked: str, says: str) -> None:
    code, said = liit(FINISHED, asked)
    assert code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert says in said


def test_what_is_no_run_is_refused_in_one_line(tmp_path: Path) -> None:
    code, said = liit(tmp_path, "words/19")
    assert (code, said) == (
        2,
        f"error: {tmp_path} is no run: it has no config.yaml; pass the folder that was given as --output\n",
    )


def liit(run: Path, sample: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["where", str(run), sample])
    return done.exit_code, done.output


def test_the_command_says_all_of_it_and_shows_text_as_it_stands(run: Path) -> None:
    code, said = liit(run, "words/19")
    assert code == 0
    for words in (
        "t1, release words",
        "949101bfc5e77d5f19083984bc8abd25",
        "not arrived yet",
        "by nll",
        "trained on it",
    ):
        assert words in said
    assert re.search(r"│ nll +6\.407 +42 +40 │", said)
    assert re.search(r"│ image_grounding +0 +68 +78 │", said)
    assert "69; in the profile 69, 13 of them the response's" in said
    assert "goes on from t1" in said
    table = read_table(run / "t01/answers.parquet")
    hostile = "[red]no markup[/red] \x1b[2Jand no cursor"
    answers = [hostile if row["id"] == "exam-sum/107" else row["answer"] for row in table.to_pylist()]
    at = table.schema.get_field_index("answer")
    write_table(run / "t01/answers.parquet", table.set_column(at, "answer", pa.array(answers)))
    said = liit(run, "exam-sum/107")[1]
    assert "[red]no markup[/red] \N{REPLACEMENT CHARACTER}[2Jand no cursor" in said
    assert "\x1b" not in said


def test_images_are_paths_with_their_size_or_bytes_in_the_table(tmp_path: Path) -> None:
    (tmp_path / "there.png").write_bytes(b"12345")
    paths = [{"path": str(tmp_path / name), "bytes": None} for name in ("there.png", "gone.png")]
    images = {"words/a": paths, "words/b": [{"path": None, "bytes": b"123"}, paths[0]], "words/c": []}
    rows = [{"id": name, "key": key_of(name), "images": images[name]} for name in sorted(images, key=key_of)]
    write_table(tmp_path / "table.parquet", pa.Table.from_pylist(rows, SAMPLE))
    found = {name: row_of(tmp_path / "table.parquet", name) for name in (*images, "words/d")}
    told = {name: row.images for name, row in found.items() if row is not None}
    there, gone = Image(tmp_path / "there.png", 5), Image(tmp_path / "gone.png", None)
    assert told == {"words/a": (there, gone), "words/b": (Image(None, 3), there), "words/c": ()}


def test_a_row_is_found_in_whichever_part_with_pictures_in_larger_files(tmp_path: Path) -> None:
    shard = tmp_path / "shard.tar"
    shard.write_bytes(b"x" * 100)
    table, names, parts = tmp_path / "table.parquet", [f"words/{n}" for n in range(12)], (0, 5, 6, 12)
    table.mkdir()
    place = {"row": None, "at": None, "offset": 5, "size": 7, "mark": 1}
    for start, stop in pairwise(parts):
        rows = [
            {"id": name, "key": key_of(name), "images": [{"path": str(shard), "place": place}, {"bytes": b"123"}]}
            for name in sorted(names[start:stop], key=key_of)
        ]
        write_table(table / f"part-{start:06d}.parquet", pa.Table.from_pylist(rows, SAMPLE))
    order = read_table(table)["id"].to_pylist()
    for name in names:
        row = row_of(table, name)
        assert row is not None
        assert (order[row.number], row.images) == (name, (Image(shard, 7), Image(None, 3)))
    assert row_of(table, "words/12") is None


def test_pictures_of_other_rows_are_not_read(tmp_path: Path) -> None:
    """Of a sample whose pictures are paths no bytes are; of another those of its row group at most."""
    size, groups = 200_000, 12
    names = sorted((f"words/{i}" for i in range(16 * groups)), key=key_of)
    table, light = tmp_path / "table.parquet", names[40]
    chance = np.random.default_rng(0)
    with pq.ParquetWriter(table, SAMPLE) as writer:
        for at in range(0, len(names), 16):
            of = [{"path": "a.png"} if name == light else {"bytes": chance.bytes(size)} for name in names[at : at + 16]]
            rows = [
                {"id": name, "key": key_of(name), "images": [one]}
                for name, one in zip(names[at : at + 16], of, strict=True)
            ]
            writer.write_table(pa.Table.from_pylist(rows, SAMPLE))
    code = (
        "import sys, pathlib, pyarrow; from liit.engine.lasting.finding import row_of; "
        "peak = pyarrow.default_memory_pool().max_memory; "
        "row_of(pathlib.Path(sys.argv[1]), sys.argv[2]); first = peak(); "
        "row = row_of(pathlib.Path(sys.argv[1]), sys.argv[3]); print([row.images[0].bytes, first, peak()])"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(table), light, names[150]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found, without, with_bytes = json.loads(done.stdout)
    assert found == size
    assert without < size
    assert with_bytes < 3 * 16 * size < size * len(names) / 3


def test_a_life_is_a_frame_by_timestep(lives: dict[str, Life]) -> None:
    frame = lives["words/19"].frame
    assert frame.index.name == "timestep"
    assert frame["pool"].tolist() == [False, True, True]
    assert frame["saw"].tolist() == [(), (1,), (1,)]
    assert frame.loc[1, "scorer"] == "nll"
    assert frame.loc[1, "cluster"] == 2
    assert frame.loc[1, "nll_in_cluster"] == lives["words/19"].steps[1].standing.scores["nll"].in_cluster
    assert frame.loc[0, ["nll", "cluster", "chosen", "left"]].isna().all()


def test_neither_ray_nor_torch_is_needed_and_nothing_is_written(run: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [run, *run.rglob("*")]}
    code = (
        f"import sys, liit; frame = liit.life({str(run)!r}, 'words/19').frame; "
        f"print(len(frame), {{'ray', 'torch', 'transformers', 'pydantic'}} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3 set()"
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [run, *run.rglob("*")]} == before
