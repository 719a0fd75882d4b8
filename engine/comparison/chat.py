"""Whole conversations held with the model of every timestep: each turn is answered with the model's own answers before it.

What a question at a time does not show: whether a model still follows when the skill changes from turn to turn (Adapt-∞,
Figs. 6 to 8). Beside a finished run's results lie then `chat.parquet`, the conversations, and `tNN/chat.parquet`, what was said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from liit.engine.answers.metrics import score
from liit.engine.data import stream
from liit.engine.data.ingest import ingest
from liit.engine.data.readers import checks
from liit.engine.data.readers.formats import raw_rows
from liit.engine.evaluation.answering import Speaker
from liit.engine.evaluation.asking import answered
from liit.engine.holding.task_features import first_question
from liit.engine.models.encoding import PLACEHOLDER, TooLong
from liit.engine.run.files import read_json, read_table, remove, write_table
from liit.engine.run.fingerprints import fingerprint
from liit.engine.run.store import Clock, Made, Store, path_of, there
from liit.engine.run.tables import SAID
from liit.engine.settings.config import Config, override, read
from liit.engine.settings.streams import Release
from liit.engine.stages import Stages
from liit.engine.training.given_adapter import given

LONGEST = 40
"""Tokens of an answer."""


class Talker(Speaker):
    """The actor: conversations in, for each the model's answers to all of its turns out."""

    def __call__(self, samples: list[dict[str, Any]]) -> pa.Table:
        said: list[list[str]] = [[] for _ in samples]
        for turn in range(max(_turns(sample) for sample in samples)):
            there = [at for at, sample in enumerate(samples) if _turns(sample) > turn]
            for at, answer in zip(
                there, self._answer([_until(samples[at], turn, said[at]) for at in there]), strict=True
            ):
                said[at].append(answer)
        return pa.table({"id": [sample["id"] for sample in samples], "answer": pa.array(said, pa.list_(pa.string()))})

    def _answer(self, asked: Sequence[dict[str, Any]]) -> list[str]:
        """Nothing is said where a conversation has outgrown the context; how long it gets is up to the model."""
        try:
            return self.answer(asked)
        except TooLong:
            return [""] if len(asked) == 1 else [answer for one in asked for answer in self._answer([one])]


def _turns(sample: Mapping[str, Any]) -> int:
    return sum(turn["role"] == "assistant" for turn in sample["conversation"])


def _until(sample: Mapping[str, Any], turn: int, said: Sequence[str]) -> dict[str, Any]:
    """The conversation up to its assistant turn of this number, with what was said before in place of the references."""
    conversation, mine = [], iter([*said, ""])
    for one in sample["conversation"]:
        answered = one["role"] == "assistant"
        conversation.append({"role": one["role"], "text": next(mine) if answered else one["text"]})
        if answered and (turn := turn - 1) < 0:
            break
    shown = sum(one["text"].count(PLACEHOLDER) for one in conversation if one["role"] != "assistant")
    return {**sample, "conversation": conversation, "images": sample["images"][:shown]}


@dataclass(frozen=True)
class Conversations:
    """A run and what is to be said in it."""

    config: Config
    store: Store
    held: Made
    """SAMPLE rows."""
    asked: Made | None
    """With experts, what each sample looks like (`looking.py`)."""
    wanted: Mapping[str, list[dict[str, Any]]]
    """Skill and metric of every turn, by the conversation's id."""

    def hold(self, t: int, adapter: Made | None, since: int) -> Made:
        """With the model of timestep t, which is that of `since` → SAID rows. Conversations with a model are held once."""
        mark = None if adapter is None else adapter.fingerprint
        model = self.config.model.model_dump(include={"dtype", "attention"}) | self.config.model.told()

        def work(partial: Path, clock: Clock) -> None:
            if since < t:
                write_table(partial, read_table(self.store.root / f"t{since:02d}/chat.parquet"))
            else:
                self._talk(t, path_of(adapter), partial, clock)

        return self.store.make(
            f"t{t:02d}/chat.parquet",
            work,
            settings={
                "adapter": mark,
                "max_new_tokens": LONGEST,
                "turns": fingerprint(sorted(self.wanted.items())),
                "model": model,
                "evaluation": self.config.evaluation.model_dump(exclude={"server"}),
            },
            parents=(self.held, *there(self.asked)),
        )

    def _talk(self, t: int, adapter: Path | None, partial: Path, clock: Clock) -> None:
        samples, folder = read_table(self.held.path), partial.with_name(f"{partial.name}.answers")
        limits = dict.fromkeys(samples["dataset"].to_pylist(), LONGEST)
        answers = answered(
            Talker,
            samples.select(["id", "key", "length", "dataset"]),
            [self.held.path],
            limits,
            adapter,
            self.config,
            folder,
            f"t{t} chat",
            clock,
            [made.path for made in there(self.asked)],
        )
        rows = [scored(one, answers[one["id"]], self.wanted[one["id"]]) for one in samples.to_pylist()]
        write_table(partial, pa.Table.from_pylist([turn for turns in rows for turn in turns], schema=SAID))
        remove(folder)


def converse(run: Path, talk: Release) -> pd.DataFrame:
    """Hold the conversations of a file with the model of every timestep of a finished run; nothing is done twice.

    talk: conversations in a release's format, each row with `turns`: `skill` and `metric` of every answer. Returns SAID rows
    with a column `t`. Raises ValueError for a folder that is no finished run, and for a row without its `turns`.
    """
    if not (run / "results.json").is_file():
        raise ValueError(f"{run} is no finished run: no results.json; name a folder that jobs/lifelong.py wrote")
    config, wanted = read(run / "config.yaml", [override("output", str(run))]), turns_of(talk)
    store = Store(run)
    try:
        stages = Stages(config, store)
        held = store.make(
            "chat.parquet",
            lambda partial, clock: ingest(
                (talk,), 0, config, partial, run / "chat.quarantine.parquet", "conversations", clock
            ),
            settings={**stream.reading(talk, run), **stages.reads()},
            files=stream.contents_of(talk),
        )
        _check(read_table(held.path), wanted)
        conversations = Conversations(config, store, held, _asked(stages, held), wanted)
        said, models = [], models_of(run, given(config))
        for t, (adapter, since) in enumerate(models):
            said.append(read_table(conversations.hold(t, adapter, since).path).to_pandas().assign(t=t))
    finally:
        store.close()
    return pd.concat(said, ignore_index=True)


def models_of(run: Path, base: Made | None) -> list[tuple[Made | None, int]]:
    """The adapter of every timestep, and since when it is there: where nothing was trained, the one that stood before.

    base: t0's.
    """
    results = read_json(run / "results.json")
    stands = results.get("gate", {}).get("stands")
    models: list[tuple[Made | None, int]] = []
    for t in range(len(results["releases"])):
        own, before = run / f"t{t:02d}/adapter", stands[t - 1] if stands else t - 1
        if own.is_dir():
            mark = read_json(own.with_name("adapter.made.json"))["fingerprint"]
            models.append((Made(own, mark), t))
        else:
            models.append(models[before] if t else (base, 0))
    return models


def _asked(stages: Stages, held: Made) -> Made | None:
    """With experts, what each conversation looks like by its first question: by that it finds its expert, and stays."""
    if stages.config.training.experts is None:
        return None
    openings = stages.store.make(
        "chat.openings.parquet",
        lambda partial, clock: write_table(partial, first_turns(read_table(held.path))),
        parents=(held,),
    )
    return stages.looking.queries(openings, "chat.queries.parquet")


def first_turns(samples: pa.Table) -> pa.Table:
    """The SAMPLE rows up to the first answer, with the images that are shown until then."""
    return pa.Table.from_pylist([first_question(row) for row in samples.to_pylist()], schema=samples.schema)


def _check(samples: pa.Table, wanted: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Before anything is answered: every turn has its skill and metric. Raises ValueError that names a conversation."""
    for sample in samples.select(["id", "conversation"]).to_pylist():
        answers, turns = _turns(sample), len(wanted[sample["id"]])
        if answers != turns and sample["conversation"]:  # else it was erased
            raise ValueError(f"{sample['id']} has {answers} answers and {turns} `turns`; give one for each")


def turns_of(talk: Release) -> dict[str, list[dict[str, Any]]]:
    """Skill and metric of every turn, by the conversation's id. Raises ValueError naming file and row that lack them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in raw_rows(talk):
        turns = row.get("turns") if isinstance(row, dict) else None
        name = checks.sample_id(row, talk.name)
        if not isinstance(turns, list) or not all(_says_how(one) for one in turns):
            raise ValueError(f"{talk.path}: {name} has no `turns`; list `skill` and `metric` of each of its answers")
        if name in found:
            raise ValueError(f"{talk.path}: {name} occurs twice; give every conversation an id of its own")
        found[name] = turns
    return found


def _says_how(turn: object) -> bool:
    return isinstance(turn, dict) and {"skill", "metric"} <= turn.keys()


def scored(
    sample: Mapping[str, Any], answers: Sequence[str], wanted: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """A SAID row for each turn of a conversation."""
    questions = [
        turn["text"].replace(PLACEHOLDER, "").strip() for turn in sample["conversation"] if turn["role"] == "user"
    ]
    references = [turn["text"] for turn in sample["conversation"] if turn["role"] == "assistant"]
    rows = []
    for turn, (question, reference, answer, how) in enumerate(zip(questions, references, answers, wanted, strict=True)):
        value = score(how["metric"], [answer], [[reference]]).values[0]
        told = {"id": sample["id"], "turn": turn + 1, "skill": how["skill"], "question": question}
        rows.append({**told, "reference": reference, "answer": answer, "value": value})
    return rows
