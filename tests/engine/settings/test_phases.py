"""Settings from a timestep on: the same however they are written, and what they do not name stays as it is."""

from pathlib import Path
from typing import Any

import pytest

from liit.engine.settings.config import Config, ConfigError, read
from liit.engine.settings.phases import FIXED, flat, from_on, merged

BASE = """
strategy: {name: adapt-inf, options: {direction: lowest, newest: true}}
scoring: {gradient: {layer: first, dimension: 32}}
training: {lora: {r: 3, dropout: 0.2}}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "team.yaml"
    file.write_text(BASE)
    return file


def said(config: Config) -> dict[str, Any]:
    return flat(
        {name: getattr(config, name).model_dump() for name in ("strategy", "scoring", "clustering", "training")}
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scoring.gradient.dimension", 64),
        ("scoring.tokens_per_batch", 5),
        ("training.lora.dropout", 0.1),
        ("training.regulariser.kind", "mas"),
        ("strategy.quotas.most", {"shapes.v2": 0.5}),
        ("training.gate", {"skill": "*", "drop": 10}),
        ("clustering.k_grid", (3, 4)),
    ],
)
def test_a_setting_is_the_same_however_it_is_nested_and_changes_no_other(path: Path, key: str, value: Any) -> None:
    nested: Any = value
    for part in reversed(key.split(".")):
        nested = {part: nested}
    section, _, rest = key.partition(".")
    forms: list[dict[str, Any]] = [{key: value}, nested, {section: {rest: value}}]
    told = [read(path, []).model_dump() | {"from": {2: form}} for form in forms]
    configs = [read(path, [f"from.2.{key}={list(value) if isinstance(value, tuple) else value}"])]
    configs += [Config.model_validate(one) for one in told]
    assert [set(config.from_[2]) for config in configs] == [{key}] * 4
    first, *others = (said(config.at(2)) for config in configs)
    assert all(other == first for other in others)
    before = said(read(path, []))
    changed = {name for name in first if first[name] != before.get(name, first)}
    assert all(name == key or name.startswith(key.rpartition(".")[0] + ".") for name in changed), changed
    assert key in changed
    if before.get(key.rpartition(".")[0], first) is not None:  # of a section that was there
        assert changed == {key}


def test_an_option_stays_where_another_is_named_and_goes_where_all_are(path: Path) -> None:
    one = read(path, ["from.2.strategy.options.direction=highest"])
    assert one.at(1).strategy.options == {"direction": "lowest", "newest": True}
    assert one.at(2).strategy.options == {"direction": "highest", "newest": True}
    every = read(path, ["from.2.strategy.options={direction: highest}"])
    assert every.at(2).strategy.options == {"direction": "highest"}


@pytest.mark.parametrize("key", ["training.lora.r=5", "training.lora={r: 5, dropout: 0.1}", "training.experts={}"])
def test_what_an_adapter_is_shaped_by_is_refused_however_it_is_nested(path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=r"from\.2\.training\.(lora\.r|experts).*an adapter keeps its shape"):
        read(path, [f"from.2.{key}"])


def test_what_is_refused_says_what_there_is_instead(path: Path) -> None:
    shape = (
        r"a run of its own, in another folder, may have it, and `strategy: \{name: given, run: <this one>\}` trains it"
    )
    for key, instead in (
        ("training.lora.alpha", shape),
        ("strategy.lifetime", r"a run of its own, in another folder, may have it \(got"),
    ):
        with pytest.raises(ConfigError, match=instead):
            read(path, [f"from.2.{key}=9"])
    page = (Path(__file__).resolve().parents[3] / "docs" / "guide" / "a-run-over-years.md").read_text()
    assert {key for key in FIXED if f"`{key}`" not in page and f"`{key.rpartition('.')[2]}`" not in page} == set()


def test_what_holds_from_a_timestep_on_holds_whatever_was_told_of_later_ones(path: Path) -> None:
    told: dict[int, dict[str, Any]] = {
        2: {"strategy.budget": 3},
        4: {"strategy.options": {"direction": "highest", "newest": False}, "scoring.gradient.layer": "last"},
    }
    config = read(path, []).model_copy(update={"from_": from_on(told, 3, {"strategy.options.newest": True})})
    assert [config.at(t).strategy.options["newest"] for t in (3, 4)] == [True, True]
    assert [config.at(t).strategy.options["direction"] for t in (3, 4)] == ["lowest", "highest"]
    whole = from_on(told, 3, {"strategy.options": {}, "scoring.gradient": {"layer": "all"}})
    assert whole == {2: {"strategy.budget": 3}, 3: {"strategy.options": {}, "scoring.gradient": {"layer": "all"}}}
    assert merged({4: {"training.regulariser.strength": 2}}, {4: {"training.regulariser": None}}) == {
        4: {"training.regulariser": None}
    }
