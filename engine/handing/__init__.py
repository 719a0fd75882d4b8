"""What a run has learned, handed on to others: merged weights or a plain adapter, its card, and what servers would make of it.

`handing_on.hand_on` writes the folder; nothing of this package is needed to load it.
"""
