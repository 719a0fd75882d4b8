"""What several runs said in the same conversations, side by side: a Markdown page and an HTML one."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from liit.engine import figures as draw
from liit.engine.contrast_tables import markdown
from liit.engine.page import Section, write_page
from liit.engine.progress import log
from liit.engine.report_data import RunFolder
from liit.engine.store import appearing

SHOWN = 6
"""Conversations that are shown in full."""


def write_chat(said: Mapping[str, pd.DataFrame], folders: Mapping[str, Path], output: Path, command: str) -> None:
    """Write `<output>.md` and `<output>.html`.

    said: for each run by name what `chat.converse` returns, of the same conversations. folders: of these runs.
    """
    said = _of_all(said)
    last = {name: rows[rows["t"] == rows["t"].max()] for name, rows in said.items()}
    final = pd.DataFrame({name: rows.groupby("skill", sort=False)["value"].mean() for name, rows in last.items()}).T
    final["all turns"] = [rows["value"].mean() for rows in last.values()]
    table = final.round(1).reset_index(names="run")
    count = next(iter(last.values()))["id"].nunique()
    lead = f"{count} conversations, each turn answered with the model's own answers before it. Percent."
    output.parent.mkdir(parents=True, exist_ok=True)
    with appearing(output.with_suffix(".md")) as temporary:
        lines = ["# Conversations in turns", "", f"{lead} After the last timestep:", "", *markdown(table), ""]
        lines += ["```bash", command, "```", "", *_told(last), ""]
        temporary.write_text("\n".join(lines), encoding="utf-8")
    over_time = {
        name: rows.pivot_table(index="t", columns="skill", values="value", sort=False) for name, rows in said.items()
    }
    sections = [
        Section("After the last timestep", "Mean of the turns of a skill, percent.", table=table, shaded=True),
        Section("Over time", "Mean of the turns of a skill, percent.", [draw.skills_over_time(over_time)]),
        *_side_by_side(last, next(iter(folders.values()))),
    ]
    write_page(output.with_suffix(".html"), "Conversations in turns", lead, sections)
    log.info("conversations: %s and .html", output.with_suffix(".md"))


def _of_all(said: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The conversations that every run could hold; one run's context may be too short for what another's is not.

    Raises ValueError where there is none.
    """
    shared = set.intersection(*(set(rows["id"]) for rows in said.values()))
    if not shared:
        raise ValueError("no conversation was held by all of these runs; see chat.quarantine.parquet in their folders")
    for name, rows in said.items():
        apart = sorted(set(rows["id"]) - shared)
        if apart:
            log.info(
                "conversations: %d of %s are not in all runs and not shown, the first is %s", len(apart), name, apart[0]
            )
    return {name: rows[rows["id"].isin(shared)] for name, rows in said.items()}


def _told(last: Mapping[str, pd.DataFrame]) -> list[str]:
    """The first conversation, turn by turn."""
    first = next(iter(last.values()))["id"].iloc[0]
    return ["One of them:", "", *markdown(_turns(last, first))]


def _turns(last: Mapping[str, pd.DataFrame], conversation: str) -> pd.DataFrame:
    rows = {name: of[of["id"] == conversation].sort_values("turn") for name, of in last.items()}
    one = next(iter(rows.values()))
    told = {"skill": one["skill"], "question": one["question"], "reference": one["reference"]}
    answers = {name: of["answer"].to_numpy() for name, of in rows.items()}
    return pd.DataFrame({**{column: values.to_numpy() for column, values in told.items()}, **answers})


def _side_by_side(last: Mapping[str, pd.DataFrame], folder: Path) -> list[Section]:
    ids = list(next(iter(last.values()))["id"].unique())[:SHOWN]
    pictures = {one.id: one for one in RunFolder(folder, {}).examples(dict.fromkeys(ids, ""), "chat.parquet")}
    return [
        Section(
            f"Conversation {number}",
            "After the last timestep.",
            examples={one: [pictures[one]]} if one in pictures else {},
            table=_turns(last, one),
        )
        for number, one in enumerate(ids, start=1)
    ]
