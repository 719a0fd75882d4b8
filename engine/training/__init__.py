"""Selection to adapter: Ray Train runs a DeepSpeed loop whose loss is exact over the global batch and whose resume is bit-equal.

`teaching.py` is the stage, `job.py` what a worker is told, `loop.py` what it does.
"""
