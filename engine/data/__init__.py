"""From a user's files to the pool, and from a selection to other trainers' files.

`readers/` reads, `ingest.py` checks, `pool.py` says who is in, `exporting.py` hands on, `writers/` in
other trainers' forms; `digits/` is the embedded stream.
"""
