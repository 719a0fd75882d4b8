"""What a profile depends on where rows of the one before are kept: nothing more at first, and all of it from then on."""

from pathlib import Path
from typing import Any

import pytest

from liit.engine.run.planning import Plan
from liit.engine.run.store import Made
from liit.engine.settings.config import Config, read
from liit.engine.stages import Stages

LARGER: dict[str, Any] = {"clustering": {"k_grid": [9]}}


@pytest.fixture
def marks(tiny_llama: str, tmp_path: Path) -> Any:
    """Fingerprints of the profiles of t1 and t2, as a plan has them."""

    def of(**settings: Any) -> tuple[str, str]:
        values = {"model": {"path": tiny_llama}, "strategy": {"name": "adapt-inf", "budget": 9}} | settings
        stages, found = Stages(Config.model_validate(values), Plan(tmp_path)), []
        for t, adapter in ((1, None), (2, Made(tmp_path / "adapter", "of t1"))):
            profile = stages.score(t, Made(tmp_path / f"t{t:02d}/pool.parquet", f"pool {t}"), adapter)
            assert profile is not None
            stages.cluster(t, profile)
            found.append(profile.fingerprint)
        return found[0], found[1]

    return of


def test_keeping_rows_is_a_setting_of_all_profiles_but_the_first(marks: Any) -> None:
    off, on = marks(), marks(scoring={"refresh": True})
    assert on[0] == off[0], "the first profile is the same"
    assert on[1] != off[1]
    assert marks(scoring={"refresh": False}) == off
    assert marks(scoring={"refresh": {}}) == on
    for other in ({"share": 0.1}, {"least": 9}, {"score_drift": 0.2}, {"vector_drift": 0.2}, {"max_age": 2}):
        assert marks(scoring={"refresh": other})[1] not in (on[1], off[1]), other


def test_the_profile_and_the_clusters_before_have_a_part_in_it(marks: Any) -> None:
    assert marks(**LARGER) == marks(), "without it they have none"
    assert marks(scoring={"refresh": True}, **LARGER)[1] != marks(scoring={"refresh": True})[1]
    assert marks(scoring={"refresh": True}, seed=1)[1] != marks(scoring={"refresh": True})[1]


def test_it_may_begin_or_end_later_and_rows_of_other_settings_are_not_kept(marks: Any) -> None:
    off, on = marks(), marks(scoring={"refresh": True})
    assert marks(**{"from": {2: {"scoring.refresh": True}}}) == on
    assert marks(**{"from": {2: {"scoring.refresh.share": 0.05}}}) == on
    assert marks(scoring={"refresh": True}, **{"from": {2: {"scoring.refresh": None}}}) == off
    narrower = {"from": {2: {"scoring.gradient.dimension": 64}}}
    assert marks(scoring={"refresh": True}, **narrower) == marks(**narrower)


def test_it_is_told_on_the_command_line(tmp_path: Path) -> None:
    told = read(None, ["scoring.refresh=true"]).scoring.refresh
    assert told is not None
    assert read(None, [f"scoring.refresh={{share: {told.share}}}"]).scoring.refresh == told
    assert read(None, ["scoring.refresh.max_age=2"]).scoring.refresh == told.model_copy(update={"max_age": 2})
