"""Image files are found only inside their folder, and decoded whole or refused with a reason."""

import contextlib
import os
import struct
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from liit.engine.data.readers import images
from liit.engine.data.readers.images import open_image, resolve


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    stream = BytesIO()
    image.save(stream, form)
    return stream.getvalue()


def noise(mode: str = "RGB", side: int = 32) -> Image.Image:
    shape = (side, side, 3) if mode == "RGB" else (side, side)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def png_that_claims(width: int, height: int) -> bytes:
    """A small file that decodes to a huge image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "images"
    (inside / "sub").mkdir(parents=True)
    (inside / "sub" / "a.png").write_bytes(encoded(noise()))
    (tmp_path / "secret.png").write_bytes(encoded(noise()))
    return inside


def test_a_file_in_the_folder_is_found_by_any_path_that_stays_inside(folder: Path) -> None:
    (folder / "link.png").symlink_to(folder / "sub" / "a.png")
    wanted = str(folder.resolve() / "sub" / "a.png")
    for given in ("sub/a.png", "./sub/a.png", "sub/../sub/a.png", "link.png", str(folder / "sub" / "a.png")):
        assert resolve(folder, given) == wanted


def test_the_image_folder_itself_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(folder)
    assert resolve(tmp_path / "linked", "sub/a.png") == str(folder.resolve() / "sub" / "a.png")


@pytest.mark.parametrize(
    ("relative", "reason"),
    [
        ("", "empty image path"),
        ("http://example.org/a.png", "image is a URL"),
        ("HTTPS://example.org/a.png", "image is a URL"),
        ("file:///etc/hostname", "image is a URL"),
        ("data:image/png;base64,AAAA", "image is a URL"),
        ("/etc/hostname", "image path leaves its folder"),
        ("../secret.png", "image path leaves its folder"),
        ("sub/../../secret.png", "image path leaves its folder"),
        ("out.png", "image path leaves its folder"),
        ("outdir/secret.png", "image path leaves its folder"),
        ("absent.png", "missing image file"),
        ("sub/a.png/b.png", "missing image file"),
        ("loop.png", "missing image file"),
        ("sub", "missing image file"),
        ("pipe.png", "missing image file"),
        ("x" * 5000, "missing image file"),
        ("a\0.png", "image path not usable"),
        ("empty.png", "empty image file"),
    ],
)
def test_a_path_is_refused_with_its_reason(folder: Path, tmp_path: Path, relative: str, reason: str) -> None:
    (folder / "out.png").symlink_to(tmp_path / "secret.png")
    (folder / "outdir").symlink_to(tmp_path)
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "empty.png").touch()
    os.mkfifo(folder / "pipe.png")
    with pytest.raises(ValueError, match=f"^{reason}: "):
        resolve(folder, relative)


def test_a_folder_whose_name_begins_like_the_image_folder_is_outside(folder: Path) -> None:
    beside = folder.parent / "images-private"
    beside.mkdir()
    (beside / "a.png").write_bytes(encoded(noise()))
    with pytest.raises(ValueError, match="leaves its folder"):
        resolve(folder, "../images-private/a.png")


def test_path_and_bytes_give_the_same_pixels(folder: Path) -> None:
    path = folder / "sub" / "a.png"
    from_path = open_image({"path": str(path), "bytes": None})
    from_bytes = open_image({"path": None, "bytes": path.read_bytes()})
    assert from_path.mode == from_bytes.mode == "RGB"
    assert from_path.tobytes() == from_bytes.tobytes() == noise().tobytes()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_every_format_named_is_decoded(form: str) -> None:
    assert open_image({"bytes": encoded(noise(), form)}).size == (32, 32)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_every_mode_of_eight_bits_becomes_rgb(mode: str) -> None:
    image = noise().convert(mode)
    assert open_image({"bytes": encoded(image)}).tobytes() == image.convert("RGB").tobytes()


def test_a_palette_with_transparent_entries_becomes_rgb_without_a_warning() -> None:
    image = noise("P")
    image.info["transparency"] = bytes(range(256))
    assert open_image({"bytes": encoded(image)}).mode == "RGB"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_truncated_file_is_refused_wherever_it_is_cut(form: str, share: float) -> None:
    whole = encoded(noise(side=64), form)
    with pytest.raises(ValueError, match=r"^(damaged image|not an image): "):
        open_image({"bytes": whole[: int(len(whole) * share)]})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty image file"),
        (b"these are words, not pixels", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (png_that_claims(8_193, 8_192), "image too large"),
        (png_that_claims(10_000, 9_999), "image too large"),
        (png_that_claims(60_000, 60_000), "image too large"),
        (encoded(Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16))), "image too deep"),
    ],
)
def test_what_is_no_image_to_learn_from_is_refused_with_its_reason(data: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^{reason}: "):
        open_image({"bytes": data})
    (tmp_path / "file.png").write_bytes(data)
    with pytest.raises(ValueError, match=f"^{reason}: .*file.png"):
        open_image({"path": str(tmp_path / "file.png"), "bytes": None})


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_where_warnings_are_no_errors() -> None:
    with pytest.raises(ValueError, match=r"^image too large: "):
        open_image({"bytes": png_that_claims(10_000, 9_999)})


def test_the_largest_allowed_image_fails_only_for_its_missing_pixels() -> None:
    assert images.MAX_PIXELS == 8_192 * 8_192
    with pytest.raises(ValueError, match=r"^damaged image: "):
        open_image({"bytes": png_that_claims(8_192, 8_192)})


def test_an_image_has_exactly_one_source(tmp_path: Path) -> None:
    for image in ({"path": None, "bytes": None}, {"path": "a.png", "bytes": b"1"}):
        with pytest.raises(ValueError, match=r"^image without source: "):
            open_image(image)
    with pytest.raises(ValueError, match=r"^missing image file: "):
        open_image({"path": str(tmp_path / "gone.png"), "bytes": None})


def test_random_damage_gives_pixels_or_a_value_error_and_nothing_else() -> None:
    generator = np.random.default_rng(1)
    for form in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"):
        whole = np.frombuffer(encoded(noise(), form), dtype=np.uint8)
        for _ in range(40):
            damaged = whole.copy()
            damaged[generator.integers(0, len(whole), 8)] = generator.integers(0, 256, 8)
            with contextlib.suppress(ValueError):
                assert open_image({"bytes": damaged.tobytes()}).mode == "RGB"


def test_an_actor_can_import_it_without_ray_and_pydantic() -> None:
    code = (
        "import sys, liit.engine.data.readers.images; sys.exit(bool({'ray', 'pydantic', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_upright_as_its_camera_was_held(orientation: int, form: str) -> None:
    """Against the eight positions of EXIF 2.32, 4.6.4: the row and column that are 0 in the stored picture."""
    wanted = np.zeros((16, 24, 3), np.uint8)
    wanted[:8, :8] = 255  # a white corner at the top left, once it is upright
    turns = {1: wanted, 2: wanted[:, ::-1], 3: wanted[::-1, ::-1], 4: wanted[::-1], 5: wanted.swapaxes(0, 1)}
    turns |= {6: np.rot90(wanted, 1), 7: wanted[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(wanted, -1)}
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = BytesIO()
    lossless = {"quality": 100, "subsampling": 0} if form == "JPEG" else {"lossless": True} if form == "WEBP" else {}
    Image.fromarray(np.ascontiguousarray(turns[orientation])).save(stream, form, exif=exif, **lossless)
    found = np.asarray(open_image({"bytes": stream.getvalue()})).astype(int)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 16


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_a_picture_with_damaged_exif_is_taken_as_it_is_stored() -> None:
    stream = BytesIO()
    noise().save(stream, "PNG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0garbage")
    assert open_image({"bytes": stream.getvalue()}).tobytes() == noise().tobytes()


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A revision in the hub's cache, as `huggingface_hub` lays it out, with a picture and links that lead elsewhere."""
    repository = tmp_path / "datasets--owner--name"
    revision = repository / "snapshots" / "0123abcd"
    (revision / "images").mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    for folder in ("blobs", "refs"):
        (repository / folder / "f00d").write_bytes(encoded(noise()))
    other = tmp_path / "datasets--owner--other" / "blobs"
    other.mkdir(parents=True)
    (other / "f00d").write_bytes(encoded(noise()))
    (revision / "images" / "a.png").symlink_to("../../../blobs/f00d")
    (revision / "images" / "refs.png").symlink_to("../../../refs/f00d")
    (revision / "images" / "other.png").symlink_to(other / "f00d")
    return revision


def test_a_link_of_the_hubs_cache_is_followed_to_its_content(hub: Path) -> None:
    wanted = str((hub.parent.parent / "blobs" / "f00d").resolve())
    assert resolve(hub, "images/a.png") == resolve(hub / "images", "a.png") == wanted
    assert resolve(hub, str(hub / "images" / "a.png")) == wanted


@pytest.mark.parametrize(
    "given", ["images/refs.png", "images/other.png", "../../blobs/f00d", "images/../../../blobs/f00d"]
)
def test_a_link_that_leaves_its_repository_or_a_path_that_leaves_the_revision_is_refused(hub: Path, given: str) -> None:
    with pytest.raises(ValueError, match=r"^image path leaves its folder: "):
        resolve(hub, given)


def test_a_folder_that_only_looks_like_a_cache_opens_nothing(hub: Path) -> None:
    folder = hub.parents[2] / "mine" / "snapshots" / "0123abcd"
    folder.mkdir(parents=True)
    (folder / "a.png").symlink_to(hub / "images" / "a.png")
    with pytest.raises(ValueError, match=r"^image path leaves its folder: "):
        resolve(folder, "a.png")
