"""Which places of a configuration are object storage and which are folders, and what a place may not say."""

import re
from urllib.parse import urlsplit

_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://")
_SECRET = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]*@")
_OTHERWISE = {
    "file": "write the path alone, without file://",
    "local": "write the path alone, without local://",
    "http": "a web server lists no folders and marks no versions: download it",
    "https": "a web server lists no folders and marks no versions: download it",
}


def scheme(place: str) -> str | None:
    """`s3` of `s3://bucket/path`; None of a path, and of `hf://`, which the hub's own cache brings to this machine."""
    found = _SCHEME.match(place)
    return None if found is None or found["scheme"].lower() == "hf" else found["scheme"].lower()


def hidden(text: str) -> str:
    """A text whose URLs have lost the user and password that stand in them."""
    return _SECRET.sub("***:***@", text)


def place(value: str) -> str:
    """A path, or the URL of a place on object storage. Raises ValueError for a URL with a password, or of another kind."""
    known = scheme(value)
    if known is None:
        return value
    if known in _OTHERWISE:
        raise ValueError(f"{hidden(value)} is neither a path nor on object storage; {_OTHERWISE[known]}")
    if urlsplit(value).password is not None:
        raise ValueError(
            f"{hidden(value)} has a password in it, which every copy of the configuration would show; "
            "credentials come from the environment alone (AWS_ACCESS_KEY_ID and its like)"
        )
    if not value[value.index("://") + 3 :].strip("/"):
        raise ValueError(f"{value} names no bucket: write {known}://bucket/path")
    return value


def on_disk(value: str) -> str:
    """A path on a file system. Raises ValueError for a URL of object storage: what lies here is locked, renamed and mapped."""
    if scheme(value) is not None:
        raise ValueError(
            f"{hidden(value)} is on object storage, and this must be on a file system that every node sees: models and run "
            "folders are locked, renamed and mapped into memory; annotations, images and exports may be remote"
        )
    return value
