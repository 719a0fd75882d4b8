"""Conversations are held with the model of each timestep: where nothing was trained, with the one that stood before."""

import json
from pathlib import Path

from liit.engine.comparison.chat import models_of
from liit.engine.run.store import Made


def test_the_model_of_a_timestep_is_its_own_else_the_one_that_stood_before(tmp_path: Path) -> None:
    for t in (1, 2, 4):
        (tmp_path / f"t0{t}/adapter").mkdir(parents=True)
        (tmp_path / f"t0{t}/adapter.made.json").write_text(json.dumps({"fingerprint": f"mark {t}"}))
    one, two, four = (Made(tmp_path / f"t0{t}/adapter", f"mark {t}") for t in (1, 2, 4))
    given, results = Made(tmp_path / "given", "mark"), tmp_path / "results.json"
    results.write_text(json.dumps({"releases": list("abcdef")}))
    found = models_of(tmp_path, None)
    assert found == [(None, 0), (one, 1), (two, 2), (two, 2), (four, 4), (four, 4)]
    results.write_text(json.dumps({"releases": list("abcdef"), "gate": {"stands": [0, 1, 1, 1, 1, 1]}}))
    assert models_of(tmp_path, None) == [(None, 0), (one, 1), (two, 2), (one, 1), (four, 4), (one, 1)]
    results.write_text(json.dumps({"releases": list("abc"), "gate": {"stands": [0, 0, 0]}}))
    (tmp_path / "t01/adapter").rename(tmp_path / "away")
    assert models_of(tmp_path, given) == [(given, 0), (given, 0), (two, 2)]
