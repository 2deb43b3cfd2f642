"""A picture of one's own: what is taken of it, what is said, and what is refused."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from fer_utils import data, predict
from fer_utils.data import images


def encoded(picture, kind, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def png(pixels, **options) -> bytes:
    return encoded(Image.fromarray(pixels), "PNG", **options)


def photograph(face, side=160, at=(90, 40), size=(320, 240)):
    """A face, ``side`` pixels wide, on an even wall: uint8 (height, width)."""
    wall = Image.new("L", size, int(np.median(face[0])))
    wall.paste(Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC), at)
    return np.asarray(wall)


@pytest.fixture(scope="module")
def face(few_faces):
    """A drawn face that the detector knows, upright and without anything in the way."""
    return few_faces.images[0]


@pytest.mark.parametrize("times", [1, 10])  # a large picture is searched small, cropped large
def test_a_face_is_found_and_cropped_to(face, times):
    pytest.importorskip("cv2")
    picture = photograph(face, 160 * times, (90 * times, 40 * times), (320 * times, 240 * times))
    crop, told = data.read_faces(png(picture))[0]
    assert crop.shape == (48, 48) and crop.dtype == np.uint8
    assert told.startswith("a face was found: ")
    side, left, top = (int(word) for word in told.replace(",", "").split() if word.isdigit())
    assert 0.8 <= side / times / 160 <= 1.2  # FER2013's own crops: 0.7 to 1.15 of this box
    assert (left + side / 2) / times == pytest.approx(170, abs=20)
    assert (top + side / 2) / times == pytest.approx(120, abs=20)
    assert np.corrcoef(crop.ravel(), face.ravel())[0, 1] > 0.7


def test_of_two_faces_the_larger_is_taken_and_said(face):
    pytest.importorskip("cv2")
    two = np.hstack([photograph(face), photograph(face, side=100, at=(110, 70))])
    _, told = data.read_faces(png(two))[0]
    assert told.startswith("a face was found, the largest of 2: ")
    assert int(told.split(" from the left")[0].split()[-1]) < 320


def test_without_a_face_the_central_square_is_taken_and_said():
    pytest.importorskip("cv2")
    picture = np.full((100, 200), 30, np.uint8)
    picture[:, 50:150] = 200
    crop, told = data.read_faces(png(picture))[0]
    assert told == "no face was found: its central square is taken" and (crop > 180).all()
    for shape in ((2, 10_000), (9000, 1)):  # as thin as a line
        crop, told = data.read_faces(png(np.full(shape, 30, np.uint8)))[0]
        assert crop.shape == (48, 48) and told.startswith("no face was found")


def test_without_a_detector_the_central_square_is_taken_and_said(face, monkeypatch):
    for absent in (None, SimpleNamespace()):  # no OpenCV; one without cascades, such as 5.0
        images.detector.cache_clear()
        monkeypatch.setitem(sys.modules, "cv2", absent)
        crop, told = data.read_faces(png(photograph(face)))[0]
        assert told.startswith("no face detector is installed (pip install")
        assert told.endswith("its central square is taken")
        assert np.array_equal(crop, data.read_faces(png(photograph(face)), detect=False)[0][0])
    images.detector.cache_clear()


def test_a_face_of_the_right_size_stays_as_it_is(face):
    crop, told = data.read_faces(png(face))[0]
    assert np.array_equal(crop, face) and told == "taken as it is, 48×48"


def test_a_picture_lying_on_its_side_is_set_upright(face):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90°, as telephones store it
    upright = photograph(face)
    turned = png(np.ascontiguousarray(np.rot90(upright)), exif=exif)
    assert np.array_equal(data.read_faces(turned)[0][0], data.read_faces(png(upright))[0][0])


SQUARE = Image.new("L", (64, 64))
FILM = {"save_all": True, "append_images": [Image.new("L", (64, 64), 9)]}
BAD = {
    "empty": (b"", "no picture; replace or remove it; expected a PNG or JPEG file"),
    "text": (b"not a picture at all", "no picture; replace or remove it; expected a PNG or JPEG"),
    "half": (png(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64))[:90], "expected a whole PNG"),
    "huge": (
        encoded(Image.new("1", (10_000, 10_000)), "PNG"),
        "could be decompression bomb.* of sensible size",
    ),
    "film": (encoded(SQUARE, "GIF", **FILM), "several frames, save one of them as PNG"),
    "float": (encoded(SQUARE.convert("F"), "TIFF"), "32-bit floats, save it with 8 bits a channel"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_gives_one_clear_line(kind):
    content, message = BAD[kind]
    with pytest.raises(data.DataError, match=message) as caught:
        data.read_faces(content, "upload.png")
    assert str(caught.value).startswith("upload.png: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nosuch.png", "pyproject.toml", "."])
def test_the_command_fails_in_one_line(name, capsys):
    assert predict.main([str(ROOT / name), "--run", "synthetic"]) == 1
    line = capsys.readouterr().err
    assert line.startswith("predict: ") and line.count("\n") == 1


def test_the_command_says_what_it_took_and_draws_its_map_and_one_bad_picture_is_no_end(
    face, tmp_path, capsys
):
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
    files = {"one.png": png(face), "phone.heic": heic, "two.png": png(photograph(face))}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    paths, map_ = [str(tmp_path / name) for name in files], tmp_path / "map.png"
    assert predict.main([*paths, "--centre", "--run", "synthetic", "--map", str(map_)]) == 1
    said = capsys.readouterr()
    assert f"{paths[0]}: taken as it is" in said.out and "%" in said.out
    assert f"{paths[2]}: no face was looked for: its central square is taken" in said.out
    assert all(name in said.out for name in data.EMOTIONS)
    assert said.err.startswith(f"predict: {paths[1]}: ") and said.err.count("\n") == 1
    assert "HEIC" in said.err and Image.open(map_).size[0] > 300


def test_every_face_of_a_picture_is_answered_when_asked_for(face, tmp_path, capsys):
    pytest.importorskip("cv2")
    path = tmp_path / "two.png"
    two = np.hstack([photograph(face), photograph(face, side=100, at=(110, 70))])
    path.write_bytes(png(two))
    for options, answers in (([], 1), (["--all"], 2)):
        assert predict.main([str(path), "--run", "synthetic", *options]) == 0
        assert capsys.readouterr().out.count(f"{path}: ") == answers


@pytest.mark.parametrize(("encoding", "block"), [("utf-8", "█"), ("cp1252", "?")])
def test_a_console_that_lacks_a_letter_is_no_error(face, tmp_path, monkeypatch, encoding, block):
    path = tmp_path / "臉.png"
    path.write_bytes(png(face))
    console = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", console)
    assert predict.main([str(path), "--run", "synthetic"]) == 0
    console.flush()
    said = console.buffer.getvalue().decode(encoding)
    assert f"%  {block}" in said and "Happy" in said
