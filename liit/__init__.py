"""LiIT: lifelong instruction tuning by data selection, on Ray."""

from pathlib import Path

__version__ = "0.1.0"

_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "engine").is_dir():
    __path__.append(str(_root))  # a source checkout: engine/, selectors/, jobs/ and tune/ are its subpackages
