"""What several runs said in the same conversations, side by side: a Markdown page and an HTML one."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from liit.engine.comparison.contrast_tables import markdown
from liit.engine.pages import figures as draw
from liit.engine.pages.page import Section, write_page
from liit.engine.pages.report_data import RunFolder
from liit.engine.run.files import appearing
from liit.engine.run.progress import log
from liit.engine.run.tables import key_of

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
    table = final.astype(float).round(1).reset_index(names="run")  # a float32 of one digit is printed with ten
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
        *_side_by_side(said, next(iter(folders.values()))),
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
    return ["One of them:", "", *markdown(_turns(last, first).drop(columns="timestep"))]


def _turns(said: Mapping[str, pd.DataFrame], conversation: str) -> pd.DataFrame:
    """Turn after turn at every timestep, what each run answered; nothing where a run has no such timestep."""
    rows = {name: of[of["id"] == conversation].set_index(["turn", "t"]) for name, of in said.items()}
    asked = pd.concat([of[["skill", "question", "reference"]] for of in rows.values()]).fillna("")
    asked = asked[~asked.index.duplicated()].sort_index()
    answers = {name: of["answer"].reindex(asked.index).fillna("") for name, of in rows.items()}
    asked.insert(0, "timestep", [f"t{t}" for t in asked.index.get_level_values("t")])
    return asked.assign(**answers).reset_index(drop=True)


def _side_by_side(said: Mapping[str, pd.DataFrame], folder: Path) -> list[Section]:
    ids = list(next(iter(said.values()))["id"].unique())[:SHOWN]
    keys = {key_of(one): "" for one in ids}
    pictures = {one.id: one for one in RunFolder(folder, {}).examples(keys, "chat.parquet").values()}
    return [
        Section(
            f"Conversation {number}",
            "Every turn at every timestep.",
            examples={one: [pictures[one]]} if one in pictures else {},
            table=_turns(said, one),
        )
        for number, one in enumerate(ids, start=1)
    ]
