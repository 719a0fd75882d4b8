"""What goes can be made again or stands nowhere; what is learned, chosen and answered stays."""

from pathlib import Path

import pytest
import yaml

from liit.engine.lasting.cleaning import clean, leaving
from liit.engine.lasting.forking import fork
from liit.engine.main import write_config
from liit.engine.run.deciding import finished
from liit.engine.run.files import write_json
from liit.engine.run.store import Clock, Store
from liit.engine.settings.config import Config, ConfigError

STEPS = 3
SIZE = 1000


def made(root: Path, rate: int) -> None:
    """A run of three timesteps, of which the second trained at this rate."""
    store = Store(root)

    def folder(*names: str) -> object:
        def work(partial: Path, clock: Clock) -> None:
            partial.mkdir(exist_ok=True)
            for name in names:
                (partial / name).write_text("x" * SIZE)

        return work

    def file(partial: Path, clock: Clock) -> None:
        partial.write_text("x" * SIZE)

    for t in range(STEPS):
        step = f"t{t:02d}"
        settings = {"rate": rate} if t == 1 else {}
        store.make(f"{step}/pool.parquet", file)
        store.make(f"{step}/profile", folder("part-0000000.parquet"))  # type: ignore[arg-type]
        adapter = folder("adapter_model.safetensors", "moments.safetensors")
        store.make(f"{step}/adapter", adapter, settings=settings)  # type: ignore[arg-type]
        write_json(root / step / "profile" / "columns.json", {"sketch": {"gradient": "sgd"}})
        store.make(f"{step}/removed.parquet", file)
    store.close()
    releases = [{"name": f"r{t}", "path": f"r{t}.json"} for t in range(STEPS)]
    config = Config.model_validate({"stream": {"kind": "files", "releases": releases}, "output": str(root)})
    (root / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    made(tmp_path / "run", 1)
    made(tmp_path / "run", 2)
    return tmp_path / "run"


def test_only_what_stands_nowhere_or_can_be_made_again_goes(run: Path) -> None:
    found = leaving(run)
    kinds = {(one.kind, one.timestep) for one in found}
    assert kinds == {("superseded", None), *((kind, t) for kind in ("profile", "moments") for t in (0, 1))}
    stands = {path: path.read_bytes() for path in run.glob("t*/adapter/adapter_model.safetensors")}
    freed = sum(one.bytes for one in found)
    before = on_disk(run)
    clean(run, found)
    assert before - on_disk(run) == pytest.approx(freed, abs=200), "the records that say a profile is forgotten grow"
    assert freed >= 4 * SIZE
    assert {path: path.read_bytes() for path in run.glob("t*/adapter/adapter_model.safetensors")} == stands
    assert len(stands) == STEPS
    assert not (run / "superseded").exists()
    for t in range(STEPS):
        assert finished(run / f"t{t:02d}/profile") is not None, (
            "forgotten is not lost: it is made again when it is needed"
        )
        assert (run / f"t{t:02d}/profile").exists() == (t == STEPS - 1)
    assert leaving(run) == []


def on_disk(root: Path) -> int:
    files = {path.stat().st_ino: path.stat().st_size for path in root.rglob("*") if path.is_file()}
    return sum(files.values())


def test_a_fork_is_of_a_finished_timestep_into_a_new_folder(run: Path, tmp_path: Path) -> None:
    config = fork(run, 1, tmp_path / "new", ["training.learning_rate=0.5", "name=other"], write_config)
    assert config.from_ == {2: {"training.learning_rate": 0.5}}
    assert (config.name, config.output) == ("other", str(tmp_path / "new"))
    assert finished(tmp_path / "new" / "t01" / "adapter") == finished(run / "t01" / "adapter")
    assert not (tmp_path / "new" / "t02").exists()
    assert not (tmp_path / "new" / "superseded").exists()
    with pytest.raises(ConfigError, match="is there already"):
        fork(run, 1, tmp_path / "new", [], write_config)
    with pytest.raises(ConfigError, match="cannot change during a run"):
        fork(run, 1, tmp_path / "newer", ["training.lora.r=3"], write_config)
    with pytest.raises(ValueError, match="has no timestep 7"):
        fork(run, 7, tmp_path / "newer", [], write_config)
    (run / "t02" / "removed.parquet").unlink()
    with pytest.raises(ConfigError, match="timestep 2 is not finished"):
        fork(run, 2, tmp_path / "newer", [], write_config)
