"""A fork, a clean, an erasing and a withdrawal may end anywhere: nothing is lost, and called again they end as always."""

import shutil
from pathlib import Path

import pyarrow as pa

from liit.engine.data.pool import grow
from liit.engine.lasting.cleaning import clean, leaving
from liit.engine.lasting.continuing import continued
from liit.engine.lasting.erasing import erase, withdrawn_of
from liit.engine.lasting.forking import fork
from liit.engine.main import begin, write_config
from liit.engine.run.deciding import finished
from liit.engine.run.files import read_table, write_table
from liit.engine.run.planning import Plan
from liit.engine.run.store import Store
from liit.engine.run.tables import SAMPLE
from liit.engine.settings.config import Config, read
from tests.engine.data.test_withdrawing import sample
from tests.engine.lasting.test_cleaning import STEPS, made
from tests.engine.lasting.test_erasing import SECRET, run_with
from tests.killed import killed_everywhere


def contents(root: Path) -> dict[str, bytes]:
    """Every file but locks, by its path within the folder."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_a_fork_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    made(tmp_path / "start" / "run", 1)
    before = contents(tmp_path / "start" / "run")

    def branch(room: Path) -> None:
        fork(room / "run", 1, room / "new", ["training.learning_rate=0.5"], write_config)

    for room in killed_everywhere(tmp_path / "start", tmp_path / "ends", branch, every=6):
        assert contents(room / "run") == before
        if not (room / "new").exists():
            branch(room)
        assert read(room / "new" / "config.yaml", []).from_ == {2: {"training.learning_rate": 0.5}}
        assert finished(room / "new" / "t01" / "adapter") == finished(room / "run" / "t01" / "adapter")
        assert {path.name for path in room.iterdir()} == {"run", "new"}, "nothing is left of the one that was killed"


def test_room_is_made_of_what_may_go_and_of_nothing_else(tmp_path: Path) -> None:
    for rate in (1, 2):
        made(tmp_path / "start", rate)
    calm = Path(shutil.copytree(tmp_path / "start", tmp_path / "calm"))
    clean(calm, leaving(calm))
    stands = {name: held for name, held in contents(calm).items() if not name.endswith(".made.json")}
    for run in killed_everywhere(tmp_path / "start", tmp_path / "ends", lambda run: clean(run, leaving(run)), every=10):
        assert stands.items() <= contents(run).items()
        for t in range(STEPS):
            assert finished(run / f"t{t:02d}/profile") is not None
        clean(run, leaving(run))
        assert contents(run) == contents(calm)


def test_what_is_erased_is_erased_and_all_else_is_there(tmp_path: Path) -> None:
    run_with(tmp_path / "start")
    calm = Path(shutil.copytree(tmp_path / "start", tmp_path / "calm"))
    erase(calm)
    for run in killed_everywhere(tmp_path / "start", tmp_path / "ends", erase):
        for table in run.rglob("*d.parquet"):
            assert read_table(table).to_pylist()[1]["conversation"][0]["text"] == "two"
        erase(run)
        assert contents(run) == contents(calm)
        assert not any(SECRET.encode() in held for held in contents(run).values())
        assert withdrawn_of(run) == {"d/a": "she asked"}


def test_a_line_that_is_withdrawn_holds_from_the_same_timestep_on(tmp_path: Path) -> None:
    start = tmp_path / "start"
    (start / "releases").mkdir(parents=True)
    release = Path("releases/00-d.parquet")
    rows = [sample("d/a", "one"), sample("d/b", "two")]
    write_table(start / release, pa.Table.from_pylist(rows, schema=SAMPLE))
    (start / "gone.txt").write_text("id: d/a\n")

    def pool(run: Path, t: int, config: Config) -> None:
        store = Store(run)
        begin(config, store, Plan(run))
        for step in range(t + 1):
            lines = list(config.pool.withdrawn_at(step))
            store.make(
                f"t{step:02d}/pool.parquet",
                lambda partial, clock, step=step: grow(None, [run / release], [], config.pool, partial, step),  # type: ignore[misc]
                settings={"withdrawn": lines},
                beside=("copies.parquet",),
            )
        store.close()

    def told(run: Path, **pool: object) -> Config:
        releases = [{"name": "d", "path": "d.json"}, {"name": "e", "path": "e.json"}]
        settings = {"stream": {"kind": "files", "releases": releases}, "output": str(run), "pool": pool}
        return continued(Config.model_validate(settings))

    def withdraw(run: Path) -> None:
        pool(run, 1, told(run, withdrawn=str(run / "gone.txt")))

    pool(start, 0, told(start))
    for run in killed_everywhere(start, tmp_path / "ends", withdraw):
        withdraw(run)
        assert read(run / "config.yaml", []).pool.withdrawals == {1: ("id: d/a",)}
        pools = [read_table(run / f"t{t:02d}/pool.parquet")["id"].to_pylist() for t in (0, 1)]
        assert pools == [["d/a", "d/b"], ["d/b"]]
