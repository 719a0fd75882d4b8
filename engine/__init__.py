"""The engine owns Ray, torch and the disk, in rooms; `lifelong.py` is its spine. Each room imports only from those before it:

settings, run, fleet, models, answers, data, scoring, choosing, holding, training, evaluation, pages, lasting,
handing, the spine, comparison, health.
"""
