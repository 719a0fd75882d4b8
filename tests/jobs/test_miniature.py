"""The papers' training and evaluation sets go through a whole run as they are published, and nothing of them is lost."""

import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from liit.engine.data.readers.formats import read
from liit.engine.scoring.profile_spec import ProfilerSpec
from liit.engine.scoring.profiler import Profiler
from liit.engine.settings.specs import SketchSpec
from liit.engine.settings.streams import Release
from tests.engine.data.presets.published import ROWS
from tests.jobs import miniature
from tests.small_run import ROOT

PAGE = (ROOT / "docs" / "how-to" / "the-papers-sets.md").read_text(encoding="utf-8")
KEPT = {"llava": 6, "m3it": 5, "minigpt4": 3, "mantis": 3, "lamm": 3, "vision-flan": 3}
"""Samples of each release: of LLaVA's eight rows one is there twice, and one has a picture that can no longer be had."""
ASKED = {"coco-cn": 2, "flickr8k-cn": 2, "gqa": 2} | {
    name: sum(len(row["answer"]) for row in ROWS[name]) if name.startswith("refcoco") else len(ROWS[name])
    for name in miniature.PLACES
}


def block(language: str) -> str:
    """The page's one block in a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All sets, and the page's module for two of them."""
    folder = tmp_path_factory.mktemp("papers")
    miniature.write(folder)
    (folder / "papers_sets.py").write_text(block("python"), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def stream(root: Path) -> dict[str, Any]:
    """The page's `stream` section, with the sets in `root`."""
    found: dict[str, Any] = yaml.safe_load(block("yaml").replace("/data/", f"{root}/"))["stream"]
    return found


@pytest.fixture(scope="module")
def done(
    root: Path,
    stream: dict[str, Any],
    tiny_llava: str,
    lifelong: Callable[..., subprocess.CompletedProcess[str]],
) -> Path:
    """The folder of a run that trains once, at its end, on all of them; a process of its own, as a person starts one."""
    config = {
        "name": "papers",
        "model": {"path": tiny_llava, "max_length": 500},
        "stream": stream | {"evaluations": [one | {"max_new_tokens": 4} for one in stream["evaluations"]]},
        "strategy": {"name": "multi-task", "budget": 8},
        "training": {"lora": {"r": 4, "alpha": 8}, "epochs": 1, "batch_size": 8, "micro_batch_size": 4},
        "resources": {"num_cpus": 2, "cpus_per_actor": 0.5, "cpus_per_worker": 1, "warm": True},
        "max_bad_share": 0.15,
    }
    (root / "papers.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    paths = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    ended = lifelong(root / "papers.yaml", "--output", root / "run", PYTHONPATH=paths)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return root / "run"


def samples(run: Path, name: str) -> list[dict[str, Any]]:
    (file,) = (run / "releases").glob(f"??-{name}.parquet")
    return list(pq.read_table(file).to_pylist())


def said(sample: dict[str, Any]) -> list[str]:
    return [turn["text"] for turn in sample["conversation"]]


def test_the_page_names_the_sets_of_the_paper_in_their_order(stream: dict[str, Any]) -> None:
    assert [one["name"] for one in stream["releases"]] == list(KEPT)
    assert sorted(one["preset"] for one in stream["evaluations"]) == sorted(ASKED)


def test_every_sample_is_kept_but_for_what_was_planted(done: Path) -> None:
    assert {name: len(samples(done, name)) for name in KEPT} == KEPT
    bad = [row for t in range(6) for row in pq.read_table(done / f"t{t:02d}" / "quarantine.parquet").to_pylist()]
    assert [(row["id"], row["reason"].partition(":")[0]) for row in bad] == [("llava/140031996", "missing image file")]
    aside = sorted((done / "exam").glob("*.quarantine.parquet"))
    assert [pq.read_metadata(path).num_rows for path in aside] == [0] * len(ASKED)
    gone = [row for t in range(6) for row in pq.read_table(done / f"t{t:02d}" / "copies.parquet").to_pylist()]
    assert [(row["id"].partition("/")[0], row["reason"]) for row in gone] == [("m3it", "contamination")]
    assert pq.read_table(done / "t05" / "pool.parquet").num_rows == sum(KEPT.values()) - 1
    told = [text for name in KEPT for sample in samples(done, name) for text in said(sample)]
    assert not [text for text in told if miniature.HELD_OUT in text]


def test_every_sample_can_be_scored(done: Path, tiny_llava: str) -> None:
    """The run trains without scoring; a strategy that scores would lose none of them."""
    sketch = {"sketch": SketchSpec("last", dimension=16)}
    spec = ProfilerSpec(
        tiny_llava, scores=("nll", "image_grounding"), vectors=("sketch",), sketches=sketch, max_length=500
    )
    rows = Profiler(spec).profile([sample for name in KEPT for sample in samples(done, name)])
    assert [row.status for row in rows] == ["ok"] * sum(KEPT.values())


def test_rows_of_one_id_are_told_apart(done: Path) -> None:
    ids = [sample["id"] for name in KEPT for sample in samples(done, name)]
    assert len(set(ids)) == len(ids)
    shared = Counter(name.partition("~")[0] for name in ids if "~" in name)
    assert shared == {"llava/000000033471": 2, "llava/wNBG8Gp_0": 2, "lamm/000000019028": 2}


def test_what_each_set_has_of_its_own_is_understood(done: Path) -> None:
    llava = {sample["id"]: sample for sample in samples(done, "llava")}
    assert said(llava["llava/OLrFHgp_7"]) == ["Name a fish.", "Cod."]
    alone = [said(one) for name, one in llava.items() if name.startswith("llava/wNBG8Gp_0") and not one["images"]]
    assert sorted(map(len, alone)) == [2, 4]
    m3it = {said(sample)[1]: sample for sample in samples(done, "m3it")}
    story = m3it["We left. We saw. We slept."]
    assert said(story)[0] == "<image>\n<image>\n<image>\nTell a story.\nOf a trip."
    assert len({image["bytes"] for image in story["images"]}) == 3
    boats = {Path(sample["images"][0]["path"]).name: said(sample)[1] for sample in samples(done, "minigpt4")}
    assert boats == {f"{at}.jpg": f"The image shows {at} boats on a lake." for at in (2, 3, 5)}
    mantis = {
        sample["id"]: [Path(image["path"]).parts[-3:] for image in sample["images"]]
        for sample in samples(done, "mantis")
    }
    assert mantis["mantis/nlvr2_0"] == [("nlvr2", "train", "0.png"), ("nlvr2", "train", "1.png")]
    assert mantis["mantis/iconqa_0"][0] == ("iconqa", "train", "0.png")
    lamm = samples(done, "lamm")
    assert {sample["task"] for sample in lamm} == {"conversation", "detailed_description", "factual_knowledge"}
    assert all(said(sample)[0].startswith("<image>\n") for sample in lamm)
    assert all(said(sample)[0].endswith("\n<image>") for sample in samples(done, "vision-flan"))


@pytest.mark.parametrize("t", [0, 5])
def test_every_evaluation_set_has_an_answer_to_each_question_and_a_value(done: Path, t: int) -> None:
    step = done / f"t{t:02d}"
    rows = pq.read_table(step / "answers.parquet").to_pylist()
    assert Counter(row["dataset"] for row in rows) == ASKED
    assert not [row["id"] for row in rows if row["value"] is None]
    skills = json.loads((step / "evaluation.json").read_text())
    sets = {name: data for skill in skills.values() for name, data in skill["datasets"].items()}
    assert {name: data["n"] for name, data in sets.items()} == ASKED
    assert all(0 <= data["value"] <= 100 for data in sets.values())


def test_captions_without_questions_are_refused_with_what_to_do(root: Path) -> None:
    file = root / "cc_sbu_align" / "filter_cap.json"
    with pytest.raises(
        ValueError, match=r"under 'annotations': .*jq '\.annotations' filter_cap\.json > annotations\.json"
    ):
        list(read(Release(name="minigpt4", path=str(file))))
    alone = root / "annotations.json"
    alone.write_text(json.dumps(json.loads(file.read_text())["annotations"]), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"has columns image_id, caption, but none of: .* say which is which, as columns:"
    ):
        list(read(Release(name="minigpt4", path=str(alone))))
