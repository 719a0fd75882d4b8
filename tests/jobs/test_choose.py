"""What is chosen from a profile alone is what the run chose, for every strategy; what cannot be chosen is refused."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from liit.engine.choosing.clustering import cluster_pool
from liit.engine.choosing.selection import select
from liit.engine.run.files import write_json, write_table
from liit.engine.run.profiles import packed
from liit.engine.run.tables import POOL, SAMPLE, SELECTION, key_of
from liit.engine.settings.config import Config
from liit.jobs.choose import app, read_grid
from liit.selectors import catalog

ROOT = Path(__file__).resolve().parents[2]
SCORES = ("nll", "image_grounding", "el2n", "entropy", "grad_norm", "learnability", "forgetting")
SIZES = {"base": 90, "words": 120, "pairs": 60}
WIDTHS = {"sketch": 16, "embedding": 8, "coincide": 12, "projector": 10, "instruction-input": 9, "position-mean": 7}
GRID = (3, 4, 5, 6, 8)
SKILLS = {"exam-a": "vqa", "exam-b": "vqa", "exam-c": "language"}
ASKED = {"asked": "vqa", "asked-too": "language", "later@t03": "knowledge"}
"""Evaluation sets by key, the last from t3 on; each has samples of tasks of its own."""


def make_step(step: Path, failed: int = 0, **dropped: bool) -> Path:
    """A timestep with pool and profile, as a run leaves them: two part files, out of order, `failed` rows without values."""
    chance = np.random.default_rng(0)
    ids = [f"{name}/{i}" for name, size in SIZES.items() for i in range(size)]
    arrival = np.repeat(np.arange(len(SIZES)), list(SIZES.values()))
    keys = [key_of(name) for name in ids]
    step.mkdir(parents=True, exist_ok=True)
    names = [name.split("/")[0] for name in ids]
    write_table(step / "pool.parquet", pa.table([ids, keys, names, arrival], schema=POOL).sort_by("key"))
    task = chance.integers(6, size=len(ids))
    columns: dict[str, pa.Array] = {
        "id": pa.array(ids),
        "key": pa.array(keys, pa.uint64()),
        "n_tokens": pa.array([9] * len(ids), pa.int32()),
        "status": pa.array(["torn"] * failed + ["ok"] * (len(ids) - failed)),
    }
    for name in SCORES:
        values = chance.gamma(2, 1 + task % 3).astype(np.float32)
        values[chance.random(len(ids)) < 0.05] = np.nan
        columns[name] = pa.array(values)
    for name, width in WIDTHS.items():
        rows = chance.normal(size=(6, width))[task] + 0.3 * chance.normal(size=(len(ids), width))
        columns[name] = packed(rows)
    table = pa.table({name: column for name, column in columns.items() if name not in dropped})
    (step / "profile").mkdir()
    for part, at in enumerate(np.array_split(chance.permutation(len(ids)), 2)):
        write_table(step / "profile" / f"part-{part:07d}.parquet", table.take(at))
    write_json(step / "profile" / "columns.json", {})
    return step


def add_targets(step: Path, only: tuple[str, ...] = tuple(SKILLS), vectors: tuple[str, ...] = ("sketch",)) -> None:
    """A profiled target split, and a configuration that says which skill each of its sets is of."""
    ids = [f"{name}/{i}" for name in SKILLS for i in range(5)]
    chance = np.random.default_rng(1)
    vector = {name: packed(chance.normal(size=(len(ids), WIDTHS[name])).astype(np.float16)) for name in vectors}
    columns = {
        "id": pa.array(ids),
        "key": pa.array([key_of(name) for name in ids], pa.uint64()),
        "status": pa.array(["ok"] * len(ids)),
        **vector,
    }
    (step / "targets").mkdir()
    write_table(step / "targets" / "part-0000000.parquet", pa.table(columns))
    configure(step, [{"name": name, "path": f"{name}.json", "skill": SKILLS[name]} for name in only])


def add_tasks(step: Path) -> list[Path]:
    """Releases of which two samples of three name one of seven tasks, large and small, and evaluation sets that ask for six."""
    for folder in ("releases", "exam"):
        (step.parent / folder).mkdir()
    for t, (name, size) in enumerate(SIZES.items()):
        rows = [
            {"id": f"{name}/{i}", "key": key_of(f"{name}/{i}"), "dataset": name, "arrival": t, "task": task_of(name, i)}
            for i in range(size)
        ]
        write_table(step.parent / f"releases/{t:02d}-{name}.parquet", pa.Table.from_pylist(rows, schema=SAMPLE))
    for place, key in enumerate(ASKED):
        asked = [{"id": f"{key}/{i}", "task": f"task {2 * place + i}"} for i in range(2)]
        write_table(step.parent / f"exam/{key}.parquet", pa.Table.from_pylist(asked, schema=SAMPLE))
    configure(step, [])
    return sorted((step.parent / "releases").glob("*.parquet"))


def task_of(name: str, i: int) -> str | None:
    return f"task {int((key_of(f'{name}/{i}') % 1000 / 1000) ** 2 * 7)}" if i % 3 else None


def configure(step: Path, targets: list[dict[str, str]]) -> None:
    parts = [(key, *key.split("@t")) for key in ASKED]
    sets = [{"name": n, "path": "a.json", "skill": ASKED[key], "since": int(*t or "0")} for key, n, *t in parts]
    releases = [{"name": name, "path": f"{name}.json"} for name in SIZES]
    stream = {"kind": "files", "releases": releases, "targets": targets, "evaluations": sets}
    write_json(step.parent / "config.yaml", {"stream": stream})


def call(profile: Path, output: Path, *more: object, strategy: str = "adapt-inf", budget: int = 40) -> Result:
    arguments = ["--profile", profile, "--strategy", strategy, "--budget", budget, "--output", output, *more]
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("name", [name for name in catalog.STRATEGIES if not catalog.get(name).given])
def test_a_profile_alone_gives_the_selection_of_the_run(name: str, tmp_path: Path) -> None:
    strategy, options = catalog.get(name), {"bins": 20, "scores": ["nll", "el2n"]} if name == "adapt-inf" else {}
    step = make_step(tmp_path / "run" / "t02", failed=3 if strategy.scores or strategy.vectors else 0)
    told = {"strategy": {"name": name, "budget": 40, "options": options}, "seed": 7, "clustering": {"k_grid": GRID}}
    if strategy.targets:
        add_targets(step, vectors=strategy.vectors)
    releases = add_tasks(step) if strategy.tasks else []
    asked = {key: skill for key, skill in ASKED.items() if key != "later@t03"}  # at t2
    if strategy.clusters:
        cluster_pool(step / "profile", strategy.vectors[0], GRID, 7, step / "clusters.parquet")
    select(step, 2, 3, releases, Config.model_validate(told), SKILLS, step / "selection.parquet", asked)
    given = [part for key, value in options.items() for part in ("--option", f"{key}={value}")]
    done = call(step / "profile", tmp_path / "out.parquet", "--seed", 7, "--k-grid", "3-6,8", *given, strategy=name)
    assert done.exit_code == 0, done.output
    chosen = pq.read_table(tmp_path / "out.parquet")
    assert chosen.schema.equals(SELECTION)
    assert chosen.equals(pq.read_table(step / "selection.parquet"))
    assert len(chosen) == 40 or strategy.whole


def test_where_tasks_are_known_it_is_said_how_many_kinds_a_choice_is_of(tmp_path: Path) -> None:
    step = make_step(tmp_path / "run" / "t02")
    assert "kinds of task" not in call(step / "profile", tmp_path / "out", strategy="random").output
    add_tasks(step)
    done = call(step / "profile", tmp_path / "out", strategy="oracle-tasks", budget=50)
    assert done.exit_code == 0, done.output
    chosen = Counter(task_of(*place(name)) for name in pq.read_table(tmp_path / "out")["id"].to_pylist())
    pool = Counter(task_of(name, i) for name, size in SIZES.items() for i in range(size))
    figures = [
        np.exp(-sum(n / of.total() * np.log(n / of.total()) for n in of.values()))
        for of in (named(chosen), named(pool))
    ]
    assert figures[0] > figures[1] + 1
    said = " ".join(done.output.split())
    assert (
        f"kinds of task: 7 of 7, effectively {figures[0]:.1f}, by chance {figures[1]:.1f}; 100% of 0 rare ones" in said
    )


def place(sample: str) -> tuple[str, int]:
    name, _, i = sample.partition("/")
    return name, int(i)


def named(of: Counter[str | None]) -> Counter[str | None]:
    return Counter({name: count for name, count in of.items() if name is not None})


def test_targets_profiled_for_another_strategy_are_refused_by_name(tmp_path: Path) -> None:
    step = make_step(tmp_path / "run" / "t02")
    add_targets(step)
    done = call(step / "profile", tmp_path / "out.parquet", strategy="similar-states")
    assert done.exit_code == 2
    assert f"similar-states compares embedding, which {step / 'targets'} lacks" in done.output.replace("\n", " ")


@pytest.mark.parametrize(
    ("folder", "more", "newest"),
    [("t01", (), "words"), ("elsewhere", (), "pairs"), ("t01", ("--timestep", 0), "base")],
)
def test_the_timestep_is_told_or_that_of_the_folder_or_the_newest_arrival(
    folder: str, more: tuple[object, ...], newest: str, tmp_path: Path
) -> None:
    step = make_step(tmp_path / folder)
    assert call(step / "profile", tmp_path / "out.parquet", *more, strategy="sequential").exit_code == 0
    chosen = pq.read_table(tmp_path / "out.parquet")["id"].to_pylist()
    assert {name.split("/")[0] for name in chosen} == {newest}


def test_without_a_pool_beside_it_everything_arrived_at_once(tmp_path: Path) -> None:
    step = make_step(tmp_path / "profiled")
    (step / "pool.parquet").unlink()
    assert call(step / "profile", tmp_path / "out.parquet", strategy="sequential").exit_code == 0
    assert len(pq.read_table(tmp_path / "out.parquet")) == sum(SIZES.values())


def test_the_summary_counts_releases_and_clusters(tmp_path: Path) -> None:
    step = make_step(tmp_path / "t02")
    said = call(step / "profile", tmp_path / "out.parquet", "--k-grid", "4").output
    chosen = pq.read_table(tmp_path / "out.parquet").to_pylist()
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.splitlines() if "│" in line]
    for release, size in SIZES.items():
        taken = sum(row["id"].startswith(f"{release}/") for row in chosen)
        assert [release, str(size), str(taken)] in lines
    clusters = lines[len(SIZES) :]
    assert [row[0] for row in clusters] == ["0", "1", "2", "3"]
    assert sum(int(row[1]) for row in clusters) == sum(SIZES.values())
    for label, _, taken, scorer in clusters:
        mine = [row for row in chosen if row["cluster"] == int(label)]
        assert len(mine) == int(taken)
        assert {row["scorer"] or "by hash" for row in mine} == set(scorer.split(", "))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"profile": "nowhere"}, "nowhere is no finished profile"),
        ({"strategy": "best"}, "unknown strategy 'best'; choose one of: adapt-inf"),
        ({"strategy": "lite-adapt-inf"}, "needs sketch, which"),
        ({"strategy": "lite-adapt-inf"}, "learnability, forgetting and the vectors embedding, coincide"),
        ({"strategy": "less"}, "less needs a profiled target split, but there is no "),
        ({"option": "bin=5"}, "unknown strategy options ['bin']; this strategy takes ['bins', "),
        ({"option": "bins=many"}, "cannot use the options {'bins': 'many'}"),
        ({"option": "scores=nll"}, "option scores is 'nll'; pass a list of names"),
        ({"option": "bins"}, "option 'bins' must be key=value"),
        ({"k-grid": "5-"}, "k grid '5-' must be numbers and ranges"),
        ({"budget": "0"}, "budget is 0"),
        ({"output": "/proc/out.parquet"}, "/proc"),
    ],
)
def test_what_cannot_be_chosen_is_refused_in_one_line(more: dict[str, str], says: str, tmp_path: Path) -> None:
    step = make_step(tmp_path / "t02", sketch=True)
    given = {"profile": str(step / "profile"), "strategy": "random-clusters-ccs", "budget": "5"}
    given |= {"output": str(tmp_path / "out")} | more
    done = CliRunner().invoke(app, [part for key, value in given.items() for part in (f"--{key}", value)])
    assert done.exit_code == 2
    lines = done.output.splitlines()
    assert len(lines) == 1
    assert "error: " in lines[0]
    assert says in lines[0]
    assert not (tmp_path / "out").exists()


def test_a_target_set_without_a_skill_is_refused(tmp_path: Path) -> None:
    step = make_step(tmp_path / "t02")
    add_targets(step, only=("exam-a", "exam-c"))
    said = call(step / "profile", tmp_path / "out", strategy="icons").output
    assert "names no target set of exam-b/" in said
    (tmp_path / "config.yaml").write_text("stream: {kind: digits}")
    assert "data/stream.json does not exist" in call(step / "profile", tmp_path / "out", strategy="icons").output


def test_an_unfinished_profile_is_refused(tmp_path: Path) -> None:
    step = make_step(tmp_path / "t02")
    (step / "profile" / "columns.json").unlink()
    assert "is no finished profile" in call(step / "profile", tmp_path / "out").output


def test_ranges_and_lists_name_a_grid() -> None:
    assert read_grid("5-50") == tuple(range(5, 51))
    assert read_grid("12") == (12,)
    assert read_grid("3-5,4,9") == (3, 4, 5, 9)


def test_neither_ray_nor_torch_is_imported() -> None:
    code = "import sys, liit.jobs.choose; print({'ray', 'torch', 'transformers', 'deepspeed'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
