"""A question is asked of a model once, whatever is asked later."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liit.engine.data.copies import content_hash
from liit.engine.evaluation.answering import Answerer
from liit.engine.evaluation.asking import answered
from liit.engine.evaluation.generations import KNOWN, Asked, generate, questions_of
from liit.engine.run.files import read_table, write_table
from liit.engine.run.store import Clock
from liit.engine.run.tables import GENERATION, SAMPLE, key_of
from liit.engine.settings.config import Config
from liit.engine.settings.streams import EvaluationSet

PLANTED = "no model would say this"


def asked(folder: Path, name: str, count: int, picture: Path | None = None) -> Asked:
    rows: list[dict[str, Any]] = []
    for number in range(count):
        turns = [{"role": "user", "text": f"{'<image>' if picture else ''}{name} {number}?"}]
        turns.append({"role": "assistant", "text": "yes"})
        images = [{"path": str(picture), "bytes": None}] if picture else []
        ids = {"id": f"{name}/{number}", "key": key_of(f"{name}/{number}"), "dataset": name}
        rows.append({**ids, "conversation": turns, "images": images, "length": 40, "content": content_hash(turns, [])})
    write_table(folder / f"{name}.parquet", pa.Table.from_pylist(rows, schema=SAMPLE))
    path = folder / f"{name}.parquet"
    return Asked(EvaluationSet(name=name, path=str(path), skill=name, metric="exact", max_new_tokens=3), path)


@pytest.mark.parametrize("more", [0, 3])
def test_only_questions_without_an_answer_are_asked(
    request: pytest.FixtureRequest, tiny_llava: str, tmp_path: Path, more: int
) -> None:
    """The pictures of those that have one are gone: who asked them again would fail. Where all have one, no Ray is started."""
    old = asked(tmp_path, "old", 4, picture=tmp_path / "gone.png")
    sets = [old, *([asked(tmp_path, "new", more)] if more else [])]
    questions = questions_of(old).select(["id", "dataset", "question"])
    planted = questions.append_column("answer", pa.array([PLANTED] * 4))
    before = planted.append_column("loss", pa.nulls(4, pa.float32())).cast(GENERATION)
    write_table(tmp_path / "before.parquet", before)
    model = {"path": tiny_llava if more else "nowhere", "max_length": 200}
    resources = {"num_cpus": 2, "cpus_per_actor": 0.5, "warm": True}
    config = Config.model_validate({"model": model, "resources": resources})
    if more:
        request.getfixturevalue("ray_cluster")
    known, now = tmp_path / "before.parquet", tmp_path / "now.parquet"
    generate(sets, None, config, known, now, "t0 evaluate", Clock(tmp_path / "note.json", {}))
    table = read_table(now)
    assert table.slice(0, 4).equals(before)
    assert set(table["id"].to_pylist()[4:]) == {f"new/{number}" for number in range(more)}
    assert PLANTED not in table["answer"].to_pylist()[4:]


@pytest.mark.usefixtures("ray_cluster")
def test_equal_prompts_are_asked_once_and_neither_a_stop_nor_actors_change_a_batch(
    tiny_llama: str, tmp_path: Path
) -> None:
    one, other, longer = (asked(tmp_path, name, 40) for name in ("one", "other", "longer"))
    for of in (
        other,
        longer,
    ):  # half of the words of `one`, under ids of their own, each twice and with other references
        rows = read_table(one.exam).to_pylist()
        words = [row["conversation"][0] for row in rows]
        for number, row in enumerate(rows):
            name = f"{of.of.name}/{number}"
            turns = [words[number // 2], {"role": "assistant", "text": str(number)}]
            row |= {"id": name, "key": key_of(name), "dataset": of.of.name, "conversation": turns}
        table = pa.Table.from_pylist(rows, schema=SAMPLE)
        pq.write_table(table, of.exam, row_group_size=16)
    questions = pa.concat_tables([questions_of(of).select(KNOWN) for of in (one, other, longer)])
    limits = {"one": 3, "other": 3, "longer": 8}

    def told(folder: Path, actors: int) -> dict[str, Any]:
        resources = {"num_cpus": 2, "cpus_per_actor": 0.5, "actors": actors, "warm": True}
        config = Config.model_validate({"model": {"path": tiny_llama, "max_length": 200}, "resources": resources})
        files, clock = [of.exam for of in (one, other, longer)], Clock(tmp_path / "note.json", {})
        return answered(Answerer, questions, files, limits, None, config, folder, "asked", clock, whole=False)

    found = told(tmp_path / "a", 1)
    parts = sorted((tmp_path / "a").glob("*.parquet"))
    ids = [name for part in parts for name in read_table(part)["id"].to_pylist()]
    assert len(ids) == len(set(ids)) == 40 + 20, "what `other` asks was asked by `one`"
    assert found.keys() == set(questions["id"].to_pylist())
    before = {part.name: read_table(part) for part in parts}
    parts[-1].unlink()
    assert told(tmp_path / "a", 2) == found
    assert {part.name: read_table(part) for part in parts} == before
    rows = [row for of in (one, other) for row in read_table(of.exam).to_pylist()]
    by_words = {row["conversation"][0]["text"]: found[row["id"]] for row in rows[:40]}
    assert all(found[row["id"]] == by_words[row["conversation"][0]["text"]] for row in rows)
