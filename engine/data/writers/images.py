"""Where the images of exported samples lie: where they are, or as files below one folder, one for each content."""

from dataclasses import dataclass, field
from hashlib import blake2b
from io import BytesIO
from typing import Any

from PIL import Image

from liit.engine.data.image_bytes import bytes_of
from liit.engine.data.readers.images import FORMATS as DECODED
from liit.engine.run.storage import places
from liit.engine.run.storage.places import Place, appearing

SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp"} | {
    "TIFF": ".tiff",
    "PPM": ".ppm",
}


@dataclass
class Images:
    """Where exported images lie. Bytes and pictures in larger files, and with `copy` all images, become files below `folder`, one
    for each content."""

    folder: Place
    copy: bool
    count: int = 0
    written: set[str] = field(default_factory=set)

    def place(self, image: dict[str, Any], sample_id: str) -> Place:
        """The absolute path or URL of an image. Raises ValueError for one that is gone, or whose bytes are no image."""
        self.count += 1
        data = image["bytes"]
        if image.get("place") is not None:
            data = self._read(image, sample_id)
        if data is None:
            path = places.place(image["path"])
            if not path.is_file():
                raise ValueError(f"sample {sample_id}: its image {path} is not there any more")
            if not self.copy:
                return path
            data = path.read_bytes()
        target = self.folder / f"{blake2b(data, digest_size=16).hexdigest()}{_suffix(data, sample_id)}"
        if target.name not in self.written:
            places.make_folder(self.folder)
            with appearing(target) as temporary:
                temporary.write_bytes(data)
            self.written.add(target.name)
        return target

    @staticmethod
    def _read(image: dict[str, Any], sample_id: str) -> bytes:
        try:
            return bytes_of(image)
        except ValueError as error:
            raise ValueError(f"sample {sample_id}: {error}") from error


def _suffix(data: bytes, sample_id: str) -> str:
    try:
        with Image.open(BytesIO(data), formats=DECODED) as image:
            return SUFFIXES[str(image.format)]
    except OSError as error:
        raise ValueError(f"sample {sample_id}: an image of it is none of {', '.join(DECODED)}") from error
