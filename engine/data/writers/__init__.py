"""From samples to the files of other trainers.

`formats.py` writes them, `limits.py` says what of a sample each of them cannot hold, `images.py` places the images.
"""
