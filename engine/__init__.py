"""The engine owns Ray, torch and the disk; `lifelong.py` is its spine."""
