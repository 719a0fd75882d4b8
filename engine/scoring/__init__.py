"""Every sample profiled with the current model: scores, gradient sketches and other vectors from one pass.

`profiler.py` is that pass and needs neither Ray nor pydantic; `scoring.py` puts Ray around it.
"""
