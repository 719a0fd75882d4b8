"""What a run is told: YAML and dotted overrides become frozen models, refused early with key and cause.

`config.py` is the whole and how it is read; `streams.py`, `sections.py` and `training.py` are its parts; `specs.py` has gradient
sketches and templates in plain values, which the profiler has without pydantic. `settling.py` makes a run's configuration of a
command.
"""
