"""Room on disk: what other settings had made, and what can be made again, goes; what stands, stays."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from liit.engine.evaluation.gate import verdicts_of
from liit.engine.run.deciding import finished
from liit.engine.run.files import read_json, remove
from liit.engine.run.planning import timestep_of
from liit.engine.run.reading import open_run
from liit.engine.run.store import FORGOTTEN, Store
from liit.engine.run.superseding import FOLDER
from liit.engine.settings.config import read


@dataclass(frozen=True)
class Leaving:
    """Something that would go. kind: superseded, profile, target profile or moments. bytes: what its files alone take on disk."""

    kind: str
    timestep: int | None
    path: Path
    bytes: int


def leaving(run: Path) -> list[Leaving]:
    """What can go of a run: superseded runs, and of all timesteps but the newest the profiles, and moments that nothing scores
    by.

    Never an adapter, selection, answer or result that stands. Raises RunError for a folder that is no run.
    """
    root = open_run(run).root.resolve()
    found: list[tuple[str, int | None, Path]] = [
        ("superseded", None, path) for path in sorted((root / FOLDER).glob("*"))
    ]
    newest = max((t for t in open_run(run).timesteps if finished(root / f"t{t:02d}/removed.parquet")), default=0)
    stands = {one.stands for one in verdicts_of(open_run(run))}
    adam = _scored_by_moments(root)
    for t in range(newest):
        step = root / f"t{t:02d}"
        for kind, name in (("profile", "profile"), ("target profile", "targets")):
            if (step / name).is_dir() and finished(step / name):
                found.append((kind, t, step / name))
        if not adam and t not in stands:
            found += [("moments", t, path) for path in sorted(step.glob("adapter/**/moments.safetensors"))]
    found += [("profile", timestep_of(path.parent.name), path) for path in sorted(root.glob(f"t*/*{FORGOTTEN}"))]
    only = _only_in([path for _, _, path in found])
    return [Leaving(kind, t, path, only[path]) for kind, t, path in found]


def clean(run: Path, what: Sequence[Leaving]) -> None:
    """Let it go. Raises StoreError while another process is at work in the folder."""
    store = Store(run)
    try:
        for one in what:
            if one.kind in ("profile", "target profile") and one.path.suffix != FORGOTTEN:
                store.forget(str(one.path.relative_to(store.root)))
            else:
                remove(one.path)
        if (store.root / FOLDER).is_dir() and not any((store.root / FOLDER).iterdir()):
            (store.root / FOLDER).rmdir()
    finally:
        store.close()


def _scored_by_moments(root: Path) -> bool:
    """Whether a gradient is preconditioned by the moments of a training: as the run is told, or was when a profile was made."""
    records = (read_json(note).get("settings", {}) for note in root.glob("t*/profile.made.json"))
    if any(key.endswith(".gradient") and value == "adam" for record in records for key, value in record.items()):
        return True
    phases = read(root / "config.yaml", []).phases()
    gradients = [one for phase in phases for one in (phase.scoring.gradient, *phase.scoring.sketches.values())]
    return any(one.gradient == "adam" for one in gradients)


def _only_in(places: Sequence[Path]) -> dict[Path, int]:
    """Bytes that each place frees: of files that have no other link but in these places, counted at the first of them."""
    links: dict[tuple[int, int], list[tuple[Path, Path]]] = defaultdict(list)
    for place in places:
        for file in _files(place):
            state = file.stat()
            links[state.st_dev, state.st_ino].append((place, file))
    freed = dict.fromkeys(places, 0)
    for found in links.values():
        state = found[0][1].stat()
        if state.st_nlink <= len(found):
            freed[found[0][0]] += state.st_size
    return freed


def _files(place: Path) -> Iterator[Path]:
    yield from (file for file in place.rglob("*") if file.is_file()) if place.is_dir() else [place]
