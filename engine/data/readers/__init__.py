"""A user's files become samples and quarantined rows: files → raw rows → one shape → a sample, or the reason why it is none.

`formats.py` opens a release; `files.py` says which files it has; a file a container (`json_text`, `parquet`, `webdataset`,
`hugging_face`); `shapes.py` is the columns that are known; `checks.py` makes the sample, with `turns.py` and `pictures.py`.
Nothing here decodes images or needs more than Pillow and pyarrow, so that actors can import `readers.images`.
"""
