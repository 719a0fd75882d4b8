"""On the digits stream neither the number of actors nor actors themselves change a bit of a profile, or of the choice from it."""

from pathlib import Path

import pyarrow as pa
import pytest

from liit.engine.data.stream import open_stream
from liit.engine.run.files import read_table
from liit.engine.run.store import Store
from liit.engine.run.tables import sort_by_key
from liit.engine.settings.settling import settle
from liit.engine.stages import Stages

DIGITS = ["stream.size=600", "stream.answers_per_skill=7", "strategy=lite-adapt-inf", "strategy.budget=40"]


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("digits")


def first_choice(folder: Path, name: str, *resources: str) -> tuple[pa.Table, pa.Table]:
    """Profile and selection of t1, made with these resources."""
    config = settle([*DIGITS, "resources.num_cpus=2", "resources.cpus_per_actor=0.3", *resources], str(folder / name))
    store = Store(config.output)
    stages = Stages(config, store)
    for t, release in enumerate(open_stream(config, store).releases[:2]):
        stages.ingest(release, t)
    before = stages.pool(0, (), ())
    pool = stages.pool(1, (before, stages.prune(0, before, None, None, None)), ())
    profile = stages.score(1, pool, None)
    assert profile is not None
    selection = stages.select(1, pool, profile, stages.cluster(1, profile))
    store.close()
    return sort_by_key(read_table(profile.path)), read_table(selection.path)


@pytest.mark.usefixtures("ray_cluster")
def test_three_actors_and_none_at_all_choose_what_one_chooses(ingested: Path) -> None:
    profile, selection = first_choice(ingested, "one", "resources.actors=1")
    assert len(selection) == 40
    others = {
        "three": ["resources.actors=3", "resources.warm=false"],
        "warm": ["resources.actors=2", "resources.warm=true"],
    }
    for name, resources in others.items():
        again, choice = first_choice(ingested, name, *resources)
        assert again.equals(profile), name
        assert choice.equals(selection), name
