"""What is chosen from a frame is what is chosen from the folder it was read from, in whatever order its rows stand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import liit
from liit.engine.run.files import read_table
from liit.engine.run.profiles import arrivals
from liit.engine.run.progress import start_logging
from liit.engine.run.reading import by_id, profile_frame
from liit.selectors import catalog
from tests.jobs.test_choose import GRID, SKILLS, add_targets, add_tasks, call, make_step, place, task_of


def frame_of(step: Path) -> pd.DataFrame:
    table = read_table(step / "profile")
    frame = profile_frame(table).assign(arrival=arrivals(step / "profile", table["key"].to_numpy()))
    return frame.assign(task=pd.Series({one: task_of(*place(one)) for one in frame.index}))


def targets_of(step: Path) -> dict[str, pd.DataFrame]:
    frame = profile_frame(read_table(step / "targets"))
    skill = frame.index.str.split("/").str[0].map(SKILLS)
    return {str(name): part for name, part in frame.groupby(skill)}


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A timestep with a profile, three rows of which failed."""
    made = make_step(tmp_path_factory.mktemp("choosing") / "run" / "t02", failed=3)
    add_tasks(made)
    add_targets(made, vectors=("sketch", "embedding", "projector", "position-mean"))
    return made


@pytest.mark.parametrize("name", [n for n in catalog.STRATEGIES if not (catalog.get(n).given or catalog.get(n).skills)])
def test_a_frame_gives_what_the_job_gives_from_the_folder_and_so_do_its_rows_in_any_order(
    name: str, step: Path, tmp_path: Path
) -> None:
    options = {"bins": 20, "scores": ["nll", "el2n"]} if name == "adapt-inf" else {}
    given = [part for key, value in options.items() for part in ("--option", f"{key}={value}")]
    done = call(step / "profile", tmp_path / "out", "--seed", 7, "--k-grid", "3-6,8", *given, strategy=name)
    assert done.exit_code == 0, done.output
    job = by_id(read_table(tmp_path / "out"))
    told: dict[str, Any] = {"strategy": name, "budget": 40, "seed": 7, "k_grid": GRID, "options": options}
    pd.testing.assert_frame_equal(liit.choose(step / "profile", **told), job)
    if catalog.get(name).targets:
        told["targets"] = targets_of(step)
    frame = frame_of(step)
    pd.testing.assert_frame_equal(liit.choose(frame, **told), job)
    turned = frame.sample(frac=1, random_state=1).reset_index()  # ids as a column, too
    pd.testing.assert_frame_equal(liit.choose(turned, **told), job)


def test_numbers_and_vectors_of_ones_own_are_chosen_by(step: Path) -> None:
    frame, chance = frame_of(step), np.random.default_rng(3)
    frame["mine"] = chance.random(len(frame))
    frame["wide"] = list(chance.normal(size=(len(frame), 12)))
    told: dict[str, Any] = {"strategy": "adapt-inf", "budget": 30, "k_grid": [4], "vector": "wide"}
    chosen = liit.choose(frame, options={"scores": ["mine"]}, **told)
    assert len(chosen) == 30
    assert set(chosen["scorer"].dropna()) == {"mine"}
    by_score = chosen["score"].dropna()
    assert np.array_equal(by_score, frame.loc[by_score.index, "mine"].astype(np.float32))
    assert set(chosen.index) <= set(frame.index[frame["status"] == "ok"])


def test_without_arrivals_everything_is_new(step: Path) -> None:
    frame = frame_of(step)
    assert len(liit.choose(frame.drop(columns="arrival"), strategy="sequential", budget=1)) == len(frame) - 3
    newest = liit.choose(frame, strategy="sequential", budget=1)
    assert set(newest.index) == set(frame.index[frame["arrival"] == 2])


def same(frame: pd.DataFrame) -> pd.DataFrame:
    return frame


def shortened(frame: pd.DataFrame) -> pd.DataFrame:
    cells = [cell[:3] if name == "words/5" else cell for name, cell in frame["sketch"].items()]
    return frame.assign(sketch=cells)


@pytest.mark.parametrize(
    ("change", "told", "says"),
    [
        (same, {"strategy": "best"}, "unknown strategy 'best'; choose one of: adapt-inf"),
        (same, {"budget": 0}, "budget is 0"),
        (same, {"options": {"bin": 5}}, "unknown strategy options ['bin']"),
        (same, {"k_grid": []}, "k_grid is []; pass at least one number of clusters"),
        (same, {"strategy": "less"}, "less selects for a target split; pass targets"),
        (
            lambda frame: frame.drop(columns="sketch"),
            {},
            "needs sketch, which the profile lacks; it has the scores n_tokens, nll",
        ),
        (lambda frame: frame.assign(status="torn"), {}, "the profile has no usable sample; its column status says why"),
        (
            lambda frame: pd.concat([frame, frame.loc[["base/3"]]]),
            {},
            "the profile has base/3 twice; pass every sample once",
        ),
        (lambda frame: frame.reset_index(drop=True), {}, "for an id; index it by ids, which are text"),
        (shortened, {}, "sketch of words/5 is no vector of 16 numbers, as that of"),
    ],
)
def test_what_cannot_be_chosen_is_refused(
    change: Callable[[pd.DataFrame], pd.DataFrame], told: dict[str, Any], says: str, step: Path
) -> None:
    given: dict[str, Any] = {"strategy": "adapt-inf", "budget": 5, "k_grid": [3], **told}
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        liit.choose(change(frame_of(step)), **given)
    assert says in str(error.value)


def test_targets_that_are_not_wanted_or_not_enough_are_refused(step: Path) -> None:
    targets, frame = targets_of(step), frame_of(step)
    with pytest.raises(ValueError, match="strategy el2n selects for no target split; leave targets out"):
        liit.choose(frame, strategy="el2n", budget=5, targets=targets)
    targets["vqa"] = targets["vqa"].drop(columns="sketch")
    with pytest.raises(ValueError, match="less compares sketch, which the targets of vqa lack"):
        liit.choose(frame, strategy="less", budget=5, targets=targets)


def test_targets_of_a_folder_lie_beside_it(step: Path) -> None:
    with pytest.raises(ValueError, match=r"the target split of .* lies beside it; leave targets out"):
        liit.choose(step / "profile", strategy="less", budget=5, targets=targets_of(step))


def test_an_oracle_says_what_it_looks_at_and_what_it_lacks(step: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start_logging()
    frame = frame_of(step)
    liit.choose(frame, strategy="oracle-tasks", budget=5)
    said = "strategy oracle-tasks looks at known tasks, which no method may: it is for analysis only"
    assert said in capsys.readouterr().out
    liit.choose(step / "profile", strategy="oracle-skills", budget=5)
    with pytest.raises(ValueError, match="oracle-skills asks a run's evaluation sets for the skill of each task"):
        liit.choose(frame, strategy="oracle-skills", budget=5)
    with pytest.raises(ValueError, match="the profile has no column task, which quotas by task and oracles go by"):
        liit.choose(frame.drop(columns="task"), strategy="oracle-tasks", budget=5)
    with pytest.raises(ValueError, match="oracle-tasks: none of 267 samples names its task; give rows a column task"):
        liit.choose(frame.assign(task=None), strategy="oracle-tasks", budget=5)
