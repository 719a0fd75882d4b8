"""A user's files become samples and quarantined rows; one file a format, `formats.py` opens a release.

Nothing here decodes images or needs more than Pillow and pyarrow, so that actors can import `readers.images`.
"""
