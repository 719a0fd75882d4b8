"""What averaging turns, nothing else may go by."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from liit.engine.settings.settling import settle
from liit.engine.settings.training import Regulariser, Training


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"training": {"averaging": {}, "experts": {}}}, "training.averaging is of LoRA weights alone"),
        ({"training": {"averaging": {}, "projector_learning_rate": 1e-4}}, "training.averaging is of LoRA weights"),
        ({"training": {"averaging": {"alpha": 1.5}}}, "training.averaging.alpha"),
        ({"training": {"averaging": {}, "regulariser": {"kind": "mas"}}}, "turns the weights whose importance"),
        (
            {"training": {"averaging": {}}, "from": {2: {"training.regulariser": {"kind": "ewc"}}}},
            "turns the weights whose importance",
        ),
        (
            {"training": {"averaging": {}}, "scoring": {"gradient": {"parameters": "lora", "gradient": "adam"}}},
            "moments of the adapter that was trained",
        ),
        ({"training": {"averaging": {}}, "strategy": {"name": "multi-task"}}, "nothing to hold on to there"),
    ],
)
def test_what_cannot_go_with_averaging_is_refused(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    with pytest.raises(ValueError, match=says):
        settle([str(file)], None)


def test_importance_is_measured_where_something_goes_by_it() -> None:
    by_fisher = Training.model_validate({"averaging": {"alpha": "fisher", "samples": 7}})
    assert by_fisher.weighed_by() == Regulariser(kind="ewc", samples=7)
    assert Training.model_validate({"averaging": {}, "regulariser": {"kind": "lwf"}}).weighed_by() is None
    assert "averaging" not in Training().taught_by(), "runs of before keep their adapters"
