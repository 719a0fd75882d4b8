"""A run that is trained once, at the end of its stream, and conversations in turns with its models."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liit.engine.answers.metrics import score
from liit.engine.comparison.chat import Talker, converse, first_turns, turns_of
from liit.engine.comparison.chat_page import write_chat
from liit.engine.data.digits.chatting import TURNS, write_conversations
from liit.engine.evaluation.answering import Answerer
from liit.engine.lifelong import run
from liit.engine.main import begin
from liit.engine.models.encoding import encode_prompt
from liit.engine.models.loading import load_processor
from liit.engine.run.store import Store
from liit.engine.settings.config import Config
from liit.engine.settings.streams import Release


@pytest.fixture(scope="module")
def together(ray_cluster: None, settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together") / "joint"
    store = Store(folder)
    wide = {"model": settings["model"] | {"max_length": 600}}
    config = Config.model_validate(settings | wide | {"strategy": {"name": "multi-task"}, "output": str(folder)})
    for name in ("selection.parquet", "adapter"):  # as a run with another strategy leaves them
        store.make(f"t01/{name}", lambda partial, clock: partial.touch())
    begin(config, store)
    run(config, store)
    store.close()
    return folder


def test_joint_training_happens_once_on_all_that_ever_came(together: Path) -> None:
    for name in ("adapter", "selection.parquet"):
        assert [(together / f"t0{t}" / name).exists() for t in range(3)] == [False, False, True]
    pool, chosen = (pq.read_table(together / "t02" / f"{name}.parquet")["id"] for name in ("pool", "selection"))
    assert set(pool.to_pylist()) == set(chosen.to_pylist())
    answers = [pq.read_table(together / f"t0{t}" / "answers.parquet").sort_by("id") for t in range(3)]
    assert answers[0] == answers[1] != answers[2]
    results = json.loads((together / "results.json").read_text())
    assert results["seconds"]["t01/evaluation.json"] < 0.5  # a model is examined once
    assert results["samples"][1].keys() == {"pool", "quarantine", "removed"}  # and no selection


@pytest.mark.usefixtures("ray_cluster")
def test_every_turn_is_answered_after_the_models_own_words(together: Path, tiny_llava: str, tmp_path: Path) -> None:
    talk = write_conversations(tmp_path / "talk", 3)
    said = converse(together, talk)
    assert len(said) == 3 * 3 * len(TURNS)
    rows = {row["id"]: row for row in pq.read_table(together / "chat.parquet").to_pylist()}
    for t, adapter in ((0, None), (2, str(together / "t02" / "adapter"))):
        model = {"path": tiny_llava, "revision": None, "dtype": "float32", "attention": "sdpa"}
        one = Answerer(model, adapter, 600, {"conversations": 40})
        for name, row in rows.items():
            history: list[dict[str, str]] = []
            mine = said[(said["t"] == t) & (said["id"] == name)].sort_values("turn")
            for (_, metric, _), (_, told) in zip(TURNS, mine.iterrows(), strict=True):
                asked = row["conversation"][len(history)]
                answer = one.answer([row | {"conversation": [*history, asked, {"role": "assistant", "text": ""}]}])[0]
                assert answer == told["answer"]
                history += [asked, {"role": "assistant", "text": answer}]
                assert told["value"] == pytest.approx(score(metric, [answer], [[told["reference"]]]).value, abs=1e-3)
    write_chat({"joint": said}, {"joint": together}, tmp_path / "page", "python jobs/chat.py joint")
    assert "| joint |" in (tmp_path / "page.md").read_text()
    assert (tmp_path / "page.html").read_text().count("<img") > 3


def test_a_conversation_that_outgrows_the_context_is_answered_with_nothing(tiny_llava: str) -> None:
    model = {"path": tiny_llava, "revision": None, "dtype": "float32", "attention": "sdpa"}
    turns = [{"role": ("user", "assistant")[at % 2], "text": "hello"} for at in range(4)]
    rows = [{"id": str(count), "dataset": "c", "conversation": turns[:count], "images": []} for count in (2, 4)]
    context = len(
        encode_prompt(load_processor(tiny_llava), turns[:2], [], 600).input_ids
    )  # the first question, and no more
    said = Talker(model, None, context, {"c": 40})([row | {"expert": "base"} for row in rows])["answer"].to_pylist()
    assert [len(one) for one in said] == [1, 2]
    assert said[0][0] == said[1][0] != ""
    assert said[1][1] == ""


@pytest.mark.usefixtures("ray_cluster")
def test_conversations_that_do_not_fit_are_refused_or_left_out(together: Path, tmp_path: Path) -> None:
    talk = write_conversations(tmp_path / "talk", 3)
    rows = json.loads(Path(talk.path).read_text())
    with pytest.raises(ValueError, match="no conversation was held by all of these runs"):
        write_chat({name: pd.DataFrame({"id": [name], "t": [0]}) for name in "ab"}, {}, tmp_path / "p", "")
    Path(talk.path).write_text(json.dumps([*rows, rows[0]]))
    with pytest.raises(ValueError, match="occurs twice"):
        converse(together, talk)
    rows[1]["turns"].pop()
    Path(talk.path).write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=f"{len(TURNS)} answers and {len(TURNS) - 1} `turns`"):
        converse(together, talk)


def test_a_conversation_finds_its_expert_by_its_first_question() -> None:
    turns = [{"role": ("user", "assistant")[at % 2], "text": "<image> a"} for at in range(6)]
    images = [{"path": name, "bytes": None} for name in "abc"]
    table = pa.Table.from_pylist([{"id": "x", "conversation": turns, "images": images}])
    cut = first_turns(table).to_pylist()[0]
    assert (cut["conversation"], cut["images"]) == (turns[:2], images[:1])


def test_a_conversation_must_say_how_its_turns_are_scored(tmp_path: Path) -> None:
    talk = tmp_path / "talk.json"
    talk.write_text(json.dumps([{"id": 7, "conversations": [{"from": "human", "value": "Hi"}]}]))
    with pytest.raises(ValueError, match=r"talk\.json: c/7 has no `turns`"):
        turns_of(Release(name="c", path=str(talk)))
    with pytest.raises(ValueError, match="is no finished run"):
        converse(tmp_path, Release(name="c", path=str(talk)))


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
def test_the_first_timesteps_can_choose_by_another_strategy(settings: dict[str, Any], tmp_path: Path) -> None:
    store = Store(tmp_path / "opened")
    chosen_by = {"name": "random", "budget": 5, "options": {"newest": True}, "opening": {"timesteps": 1}}
    own = {"stream": settings["stream"] | {"evaluations": []}}
    run(Config.model_validate(settings | own | {"strategy": chosen_by}), store)
    store.close()
    pools = [pq.read_table(store.root / f"t0{t}" / "pool.parquet").to_pylist() for t in range(3)]
    new = [{row["id"] for row in pool if row["arrival"] == t} for t, pool in enumerate(pools)]
    chosen = [set(pq.read_table(store.root / f"t0{t}" / "selection.parquet")["id"].to_pylist()) for t in (1, 2)]
    assert chosen[0] == new[1]
    assert chosen[1] < new[2]
    assert len(chosen[1]) == 5
