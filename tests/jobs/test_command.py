"""The command `liit`: help is quick, the schema is a configuration, and a run's folder says how far the run is."""

import fcntl
import json
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from liit.command import COMMANDS, app
from liit.engine.run.status import STAGES, Status, status
from liit.engine.settings.config import Config
from liit.engine.settings.schema import described, json_schema_of

ROOT = Path(__file__).resolve().parents[2]
NAMES = [name for commands in COMMANDS.values() for name in commands]


def liit(*arguments: str) -> tuple[int, str]:
    """Exit code and output of `liit ...` in this process."""
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.output


@pytest.mark.parametrize("name", ["", *NAMES])
def test_help_takes_under_a_second_and_loads_nothing_heavy(name: str) -> None:
    heavy = "{'ray', 'torch', 'transformers', 'pandas', 'numpy', 'sklearn'}"
    code = f"import sys\nfrom liit.command import app\napp({[name, '--help'] if name else ['--help']}, standalone_mode=False)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", f"{code}\nassert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1  # of work: others may be at work too


def test_every_job_is_a_command() -> None:
    jobs = {path.stem for path in (ROOT / "jobs").glob("*.py")} - {"__init__"}
    assert jobs - {"lifelong"} <= set(NAMES)
    assert {"run", "plan", "tune"} <= set(NAMES)


def test_plan_says_what_dry_run_says_and_starts_nothing(tmp_path: Path) -> None:
    code, planned = liit("plan", "--output", str(tmp_path / "run"))
    assert code == 0
    assert planned == liit("run", "--dry-run", "--output", str(tmp_path / "run"))[1]
    assert "visionflan" in planned
    assert not (tmp_path / "run").exists()


def test_the_schema_read_as_yaml_is_the_default_configuration() -> None:
    assert Config.model_validate(yaml.safe_load(described())) == Config()
    assert yaml.safe_load(described("training.lora")) == Config().training.lora.model_dump(mode="json")


def test_every_key_is_described_with_its_documentation_and_type() -> None:
    text = liit("config")[1]
    assert (
        "# A release with a larger share of quarantined samples stops the run before any training.\nmax_bad_share:"
        in text
    )
    assert re.search(r"dtype: float32  # float32 \| bfloat16 \| float16", text)
    assert "  # Regulariser:\n  #   # What holds the adapter to what it has learned" in text
    code, said = liit("config", "training.nothing")
    assert code == 2
    assert "'nothing' is no section of Training; sections are lora, regulariser" in said


def test_the_json_schema_accepts_what_the_configuration_does() -> None:
    schema = json.loads(liit("config", "--json-schema")[1])
    assert schema == json_schema_of()
    assert schema["properties"]["max_bad_share"]["description"].startswith("A release with a larger share")
    assert set(schema["properties"]) == {field.alias or name for name, field in Config.model_fields.items()}


def states(found: Status, t: int) -> list[str]:
    return [stage.state for stage in found.stages if stage.timestep == t]


def test_a_finished_run_is_done_and_says_rows_and_seconds(finished: Path) -> None:
    found = status(finished)
    assert found.finished
    assert found.releases == ("base", "words", "pairs")
    assert states(found, 0) == ["done", *["not needed"] * 4, "done", "done"]
    assert states(found, 1) == states(found, 2) == ["done"] * len(STAGES)
    selected = next(stage for stage in found.stages if (stage.timestep, stage.name) == (1, "select"))
    assert selected.rows == 12
    code, said = liit("status", str(finished))
    assert code == 0
    assert "finished" in said


def test_an_unfinished_run_says_what_it_waits_for(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "small"
    shutil.copytree(finished, run)
    (run / "results.json").unlink()
    for name in ("adapter", "evaluation.json", "removed.parquet"):
        path = run / "t02" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        (run / "t02" / f"{name}.made.json").unlink()
    kept = [line for line in (run / "stages.jsonl").read_text().splitlines() if '"t02/' not in line]
    begun = {"time": "2026-01-02T03:04:05.000+00:00", "result": "t02/adapter", "event": "began", "seconds": 0.0}
    (run / "stages.jsonl").write_text(
        "\n".join([*kept, json.dumps(begun), '{"time": "20'])
    )  # the last line cut off by a kill
    progress = run / "t02" / "adapter.work" / "name" / "progress.jsonl"
    progress.parent.mkdir(parents=True)
    progress.write_text('{"step": 3, "steps": 6, "loss": 1.0}\n')

    assert states(status(run), 2) == ["done", "done", "done", "done", "stopped", "to come", "to come"]
    code, said = liit("status", str(run))
    assert code == 3
    assert "t2 train: stopped since 2026-01-02 03:04:05 UTC" in said
    assert "next: t2 train (step 3 of 6)" in " ".join(said.split())
    with (run / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert states(status(run), 2)[4] == "running"
        assert "at work on t2 train" in liit("status", str(run))[1]


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    code, said = liit("status", str(tmp_path))
    assert code == 2
    assert "no config.yaml, so this is no run folder" in said
