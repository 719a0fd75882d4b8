"""LiIT: lifelong instruction tuning by data selection, on Ray.

As a library: `open_run` reads a run, `life` what became of one sample of it; `profile` and `choose` do on tables what its stages
do. Each is imported when it is first asked for, so `import liit` costs nothing.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from liit.engine.choosing.in_process import choose
    from liit.engine.lasting.where import life
    from liit.engine.run.reading import open_run
    from liit.engine.scoring.in_process import profile

__all__ = ["__version__", "choose", "life", "open_run", "profile"]
__version__ = "0.1.0"

_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "engine").is_dir():
    __path__.append(str(_root))  # a source checkout: engine/, selectors/, jobs/ and tune/ are its subpackages

_PLACES = {
    "choose": "liit.engine.choosing.in_process",
    "life": "liit.engine.lasting.where",
    "open_run": "liit.engine.run.reading",
    "profile": "liit.engine.scoring.in_process",
}

if not TYPE_CHECKING:  # a checker would take any name for one of these

    def __getattr__(name: str) -> object:
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = getattr(import_module(_PLACES[name]), name)
        return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
