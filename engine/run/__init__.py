"""The run folder: results that appear whole and say what made them, the schemas of its tables, and reading it back.

`store.py` is what stages use, `reading.py` and `status.py` what people do.
"""
