"""Rows of published evaluation sets become rows with a conversation, as the field's evaluators ask them (`mapping.py`).

What each set is, where it is published and what it is judged by is in `engine/settings/presets.py`. Prompts are those of
lmms-eval (pictures and questions) and lm-evaluation-harness (language): what a model is asked is part of what its value means.
"""
