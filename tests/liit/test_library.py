"""liit as a library: cheap to import, and what it gives is what a run's stages make."""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

import liit
from liit.engine.run.tables import key_of
from liit.engine.scoring.profiler import Profiler
from liit.engine.scoring.specification import profiler_spec
from liit.engine.settings.config import Config
from tests.small_run import said, seen, turns, write_rows

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "notebook.md"
Rows = list[dict[str, Any]]


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)


def test_importing_liit_costs_nothing_and_imports_nothing_heavy() -> None:
    heavy = {"torch", "ray", "pandas", "numpy", "transformers", "pydantic", "pyarrow"}
    code = f"import sys, liit; print({heavy} & set(sys.modules))"
    assert run_python("-c", code).stdout.strip() == "set()"
    timings = [run_python("-X", "importtime", "-c", "import liit").stderr for _ in range(3)]
    found = [re.search(r"\|\s*(\d+) \|\s*liit$", timing, re.MULTILINE) for timing in timings]
    assert min(int(one[1]) for one in found if one) < 200_000, "microseconds, with all that it imports"


def test_the_library_says_what_it_has() -> None:
    public = {"choose", "life", "open_run", "profile"}
    assert public <= set(dir(liit))
    assert public | {"__version__"} == set(liit.__all__)
    for name in public:
        told = inspect.signature(getattr(liit, name))
        assert all(one.annotation is not one.empty for one in told.parameters.values())
        assert "Raises" in inspect.getdoc(getattr(liit, name))  # type: ignore[operator]
    with pytest.raises(AttributeError, match="module 'liit' has no attribute 'open_rnu'"):
        liit.open_rnu  # type: ignore[attr-defined]  # noqa: B018


def test_a_profile_and_a_choice_need_no_ray(tiny_llama: str) -> None:
    code = (
        "import sys, liit; turn = lambda who, text: {'from': who, 'value': text}; "
        "rows = [{'id': str(i), 'conversations': [turn('human', f'{i}?'), turn('gpt', 'yes')]} for i in range(3)]; "
        f"frame = liit.profile(rows, model={tiny_llama!r}); "
        "print(len(liit.choose(frame, strategy='el2n', budget=2)), {'ray', 'deepspeed'} & set(sys.modules))"
    )
    assert run_python("-W", "ignore", "-c", code).stdout.strip() == "2 set()"


def test_a_finished_run_reads_as_its_tables(finished: Path) -> None:
    run, results = liit.open_run(finished), json.loads((finished / "results.json").read_text())
    assert run.results == results
    assert run.releases == results["releases"] == ["base", "words", "pairs"]
    assert run.accuracy.to_dict("records") == results["accuracy"]
    for t in (1, 2):
        rows = pq.read_table(finished / f"t0{t}" / "selection.parquet").to_pandas()
        mine = run.selection(t).reset_index()
        pd.testing.assert_frame_equal(mine, rows, check_dtype=False)
        assert set(run.profile(t).index) == set(run.clusters(t).index)
    counted = [sum(run.quarantine["timestep"] == t) for t in run.timesteps]
    assert counted == [step["quarantine"] for step in results["samples"]]
    assert run.removed.groupby("timestep").size().to_dict() == {
        t: step["removed"] for t, step in enumerate(results["samples"]) if step["removed"]
    }


def raw(stream: dict[str, Any], ids: pd.Index) -> Rows:
    """The rows of the stream's files with these ids."""
    found = [
        {**row, "id": f"{release['name']}/{row['id']}"}
        for release in stream["releases"]
        for row in json.loads(Path(release["path"]).read_text(encoding="utf-8"))
    ]
    return [row for row in found if row["id"] in ids and row["conversations"]]


@pytest.mark.parametrize("t", [1, 2])
def test_a_profile_made_here_has_the_bits_of_the_run_s(t: int, finished: Path, stream: dict[str, Any]) -> None:
    run = liit.open_run(finished)
    there = run.profile(t, [*run.profile(t), "sketch", "embedding"]).drop(columns="arrival")
    rows = raw(stream, there.index)
    assert len(rows) == len(there) > 30
    here = liit.profile(
        rows,
        vectors=["sketch", "embedding"],
        images=Path(stream["releases"][0]["path"]).parent,
        adapter=finished / f"t0{t - 1}" / "adapter" if t > 1 else None,
        config=run.config,
    )
    assert list(here.index) == [row["id"] for row in rows], "in the order of the rows"
    assert_same(here.loc[there.index], there)
    again = {"strategy": "lite-adapt-inf", "budget": 12, "k_grid": run.config["clustering"]["k_grid"]}
    chosen = liit.choose(here, timestep=t, **again)
    pd.testing.assert_frame_equal(chosen, run.selection(t))


def assert_same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """Equal to the last bit, columns in whatever order."""
    assert list(one.index) == list(other.index)
    assert set(one) == set(other)
    for name in one:
        mine, theirs = one[name], other[name]
        if mine.dtype == object and any(isinstance(cell, np.ndarray) for cell in mine):
            bytes_of = [[None if cell is None else cell.tobytes() for cell in cells] for cells in (mine, theirs)]
            assert bytes_of[0] == bytes_of[1], name
        else:
            pd.testing.assert_series_equal(mine, theirs, check_exact=True)


@pytest.fixture
def folder(stream: dict[str, Any], tmp_path: Path) -> Path:
    """A file of rows beside its images: sound ones, and one of each kind that is not."""
    images = Path(stream["releases"][0]["path"]).parent
    for picture in images.glob("*.png"):
        (tmp_path / picture.name).write_bytes(picture.read_bytes())
    good = [seen(i) for i in range(6)] + [said(i) for i in range(4)]
    bad = [{**seen(90), "image": "torn.png"}, {**seen(91), "image": "../red.png"}, {**seen(92), "conversations": []}]
    long = {"id": "long", "conversations": turns("What? " * 60, "yes")}
    write_rows(tmp_path / "rows.json", [*bad, *good, long, seen(2)])
    return tmp_path


SMALL = {"model": {"max_length": 200}, "scoring": {"samples_per_batch": 4, "gradient": {"dimension": 64}}}


def test_whoever_cannot_be_used_is_there_with_the_reason(folder: Path, tiny_llava: str) -> None:
    found = liit.profile(folder / "rows.json", model=tiny_llava, vectors=["sketch"], config=SMALL)
    assert list(found.index) == [str(row["id"]) for row in json.loads((folder / "rows.json").read_text())]
    failed = found[found["status"] != "ok"]
    for name, reason in (
        ("seen-90", "torn.png"),
        ("seen-91", "image path leaves its folder"),
        ("seen-92", "missing conversation"),
        ("long", "200"),
        ("seen-2", "equals an earlier row"),
    ):
        assert reason in str(failed.loc[name, "status"])
    assert len(failed) == 5
    assert failed[["nll", "el2n", "entropy", "image_grounding"]].isna().all(axis=None)
    assert [cell is None for cell in found["sketch"]] == [status != "ok" for status in found["status"]]
    assert not found.loc[found["status"] == "ok", "nll"].isna().any()


def test_a_path_a_list_and_a_frame_in_any_order_give_the_same(folder: Path, tiny_llava: str) -> None:
    told: dict[str, Any] = {"model": tiny_llava, "vectors": ["sketch"], "config": SMALL}
    by_path = liit.profile(folder / "rows.json", **told).iloc[:-1]  # of two with one id, the first in order is taken
    rows = json.loads((folder / "rows.json").read_text())[:-1]
    assert_same(liit.profile(rows, images=folder, **told), by_path)
    turned = pd.DataFrame(rows).astype({"id": str}).sample(frac=1, random_state=0).set_index("id")
    assert_same(liit.profile(turned, images=folder, **told), by_path.loc[turned.index])
    turned.reset_index().to_parquet(folder / "rows.parquet")
    read = pd.read_parquet(folder / "rows.parquet")
    assert_same(liit.profile(read, images=folder, **told), by_path.loc[turned.index])
    assert_same(liit.profile(folder / "rows.parquet", **told), by_path.loc[turned.index])


def test_a_named_data_set_has_the_ids_of_a_run(folder: Path, tiny_llava: str) -> None:
    found = liit.profile([said(1), {**said(2), "id": None}], model=tiny_llava, name="words", scores=["nll"])
    assert found.index[0] == "words/1"
    assert re.fullmatch(r"words/[0-9a-f]{32}", found.index[1]), "a hash of the content, where there is no id"
    assert found["key"].tolist() == [key_of(name) for name in found.index]


def test_one_batch_is_what_the_profiler_makes_of_it(tiny_llava: str) -> None:
    rows = [said(i) for i in range(5)]
    config = Config.model_validate({"model": {"path": tiny_llava}})
    samples = [
        {
            "id": str(row["id"]),
            "conversation": [
                {"role": "user" if turn["from"] == "human" else "assistant", "text": turn["value"]}
                for turn in row["conversations"]
            ],
            "images": [],
        }
        for row in rows
    ]
    spec = profiler_spec(config, None, ("nll", "grad_norm"), ("sketch",))
    samples.sort(key=lambda one: key_of(str(one["id"])))  # all are of one length, and a batch is in the order of keys
    expected = {row.id: row for row in Profiler(spec).profile(samples)}
    before = torch.get_num_threads()
    found = liit.profile(rows, model=tiny_llava, scores=["nll", "grad_norm"], vectors=["sketch"])
    assert torch.get_num_threads() == before
    for name, row in found.iterrows():
        one = expected[str(name)]
        assert one.scores is not None
        assert one.vectors is not None
        assert (row["n_tokens"], row["n_response_tokens"]) == (one.n_tokens, one.n_response_tokens)
        assert row["nll"] == np.float32(one.scores["nll"])
        assert row["grad_norm"] == np.float32(one.scores["grad_norm"])
        assert np.array_equal(row["sketch"], one.vectors["sketch"])


@pytest.mark.parametrize(
    ("samples", "told", "says"),
    [
        ([], {}, "there is no sample to profile"),
        ({"id": 1}, {}, "samples is a mapping; pass a list of mappings"),
        ("none.json", {}, "none.json is neither a file nor a folder"),
        ([said(1)], {"scores": "nll"}, "scores is 'nll'; pass a list of names"),
        ([said(1)], {"scores": ["nnl"]}, "cannot profile ['nnl']; scores are ['nll', "),
        ([said(1)], {"vectors": ["nll"]}, "cannot profile ['nll']; scores are"),
        ([said(1)], {"name": "a/b"}, "name: String should match pattern"),
        ([said(1)], {"images": "nowhere"}, "image folder nowhere does not exist"),
        ([said(1)], {"model": "./nowhere"}, "model ./nowhere: no config.json"),
        ([said(1)], {"adapter": "nowhere"}, "nowhere is no adapter: it has no adapter_config.json"),
        ([said(1)], {"config": {"scoring": {"batch": 3}}}, "scoring.batch: no such key"),
    ],
)
def test_what_cannot_be_profiled_is_refused_in_one_line(samples: Any, told: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        liit.profile(samples, **told)
    assert says in str(error.value)


def test_experts_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "experts.json").write_text("{}")
    with pytest.raises(ValueError, match="holds experts, and a run finds out which of them scores a sample"):
        liit.profile([said(1)], adapter=tmp_path)


def test_the_notebook_page_does_what_it_says(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "digits").symlink_to(finished)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert len(blocks) == 7
    assert names["one"].frame.loc[names["last"], "chosen"]
    assert len(names["other"]) == 10
    assert names["mine"]["status"].to_dict() == {"sum": "ok", "empty": "missing conversation: it has no turns"}
    assert np.isfinite(names["after"].loc["sum", "nll"])
