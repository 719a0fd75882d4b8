"""Published sets, a judge and stored answers through ingest and evaluation, as a run does them."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liit.engine.examining import Examining
from liit.engine.run.files import read_json
from liit.engine.run.store import Store
from liit.engine.settings.config import Config
from liit.engine.settings.streams import EvaluationSet, FileStream
from liit.engine.stages import Stages
from tests.engine.answers.judge_server import judge
from tests.engine.data.presets.published import ROWS


def sets_of(folder: Path, judge_options: dict[str, str]) -> list[dict[str, object]]:
    """Three published tables and a judged one, their files written."""
    for name in ("refcoco", "gsm8k", "humaneval", "alpaca-eval"):
        pq.write_table(pa.Table.from_pylist(ROWS[name]), folder / f"{name}.parquet")
    without = json.dumps({**ROWS["gsm8k"][0], "answer": "four"})
    (folder / "gsm8k.jsonl").write_text("\n".join([without, *(json.dumps(row) for row in ROWS["gsm8k"])]))
    common = {"max_new_tokens": 4}
    return [
        {"preset": "refcoco", "path": str(folder / "refcoco.parquet"), "limit": 2, **common},
        {"preset": "gsm8k", "path": str(folder / "gsm8k.jsonl"), **common},
        {"preset": "humaneval", "path": str(folder / "humaneval.parquet"), **common},
        {
            "preset": "alpaca-eval",
            "path": str(folder / "alpaca-eval.parquet"),
            "metric": "judge",
            "options": judge_options,
            **common,
        },
    ]


@pytest.mark.usefixtures("ray_cluster")
def test_published_sets_are_read_answered_and_judged(tiny_llava: str, tmp_path: Path) -> None:
    with judge(lambda text, times: (200, "Score: 7")) as (server, options):
        release = {"name": "base", "path": str(tmp_path / "unused.json")}
        stream = {"kind": "files", "releases": [release], "evaluations": sets_of(tmp_path, options)}
        config = Config.model_validate(
            {
                "model": {"path": tiny_llava, "max_length": 500},
                "stream": stream,
                "max_bad_share": 0.5,
                "resources": {"num_cpus": 2, "cpus_per_actor": 0.5, "warm": True},
            }
        )
        store = Store(tmp_path / "run")
        stages = Stages(config, store)
        assert isinstance(config.stream, FileStream)
        sets: tuple[EvaluationSet, ...] = config.stream.evaluations
        examining = Examining(stages)
        examining.read(sets)
        made, again = (examining.examine(0, None) for _ in range(2))
        assert made is not None
        assert again is not None
        store.close()
    assert (made.fresh, again.fresh) == (True, False)
    found = {name: data for skill in read_json(made.path).values() for name, data in skill["datasets"].items()}
    assert {name: (data["metric"], data["n"]) for name, data in found.items()} == {
        "refcoco": ("iou@0.5", 2),
        "gsm8k": ("number", 2),
        "humaneval": ("stored", 2),
        "alpaca-eval": ("judge", 2),
    }
    rows = pq.read_table(made.path.with_name("answers.parquet")).to_pylist()
    judged = [row for row in rows if row["dataset"] == "alpaca-eval"]
    said = sum(bool(row["answer"].strip()) for row in judged)
    assert found["alpaca-eval"]["value"] == pytest.approx(70 * said / 2)
    assert [row["judgement"] for row in judged] == ["Score: 7" if row["answer"].strip() else None for row in judged]
    assert len(server.requests) == said
    assert [row["value"] for row in rows if row["dataset"] == "humaneval"] == [None, None]
    assert found["humaneval"]["value"] is None
    aside = sorted((store.root / "exam").glob("*.quarantine.parquet"))
    lost = [row for path in aside for row in pq.read_table(path).to_pylist()]
    assert [row["reason"] for row in lost] == ["missing answer: no '####' before the number"]
