"""Whatever is wrong with a file: a correct result or one clear line, never a traceback or a hang.

Each damaged file is made from a good one; no damaged file is stored.
"""

import contextlib
import gzip
import io
import lzma
import os
import struct
import tarfile
import tempfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_data import (
    class_folders,
    csv_text,
    pack_tar,
    pack_zip,
    parquet,
    png,
    some_faces,
    vote_table,
    write_tree,
)

from fer_utils.data import DataError, ferplus, files, load

FACES = some_faces(sizes=(4, 2, 1))
TEXT = csv_text(FACES)
TRAIN = csv_text(FACES, "emotion,pixels", '"', "\r\n")
LAST = csv_text(FACES, "emotion, Usage, pixels")
ROWS = TEXT.splitlines(keepends=True)
FACE = png(FACES.images[0])


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.setenv("FER_CACHE", "")


def with_row(row: bytes, at: int = 3) -> bytes:
    return b"".join([*ROWS[:at], row, *ROWS[at + 1 :]])


def edited(field: int, new) -> bytes:
    """The table with one field of its row 2 edited: 0 emotion, 1 pixels, 2 Usage."""
    fields = ROWS[3].rstrip(b"\n").split(b",")
    fields[field] = new(fields[field]) if callable(new) else new
    return with_row(b",".join(fields) + b"\n")


def pixel(value: bytes):
    """The table with another value for pixel 7 of its row 2."""

    def change(pixels: bytes) -> bytes:
        numbers = pixels.split(b" ")
        numbers[7] = value
        return b" ".join(numbers)

    return edited(1, change)


TABLES = {
    "empty": b"",
    "only line ends": b"\n" * 5000,
    "header alone": ROWS[0],
    "no header": b"".join(ROWS[1:]),
    "header twice": ROWS[0] + TEXT,
    "no pixels column": csv_text(FACES, "emotion,Usage"),
    "column twice": TEXT.replace(b"emotion", b"pixels", 1),
    "columns swapped in the header": TEXT.replace(b"emotion,pixels", b"pixels,emotion"),
    "a field too few": with_row(ROWS[3].rpartition(b",")[0] + b"\n"),
    "no numbers": edited(1, b""),
    "a quote that never closes": edited(1, lambda pixels: b'"' + pixels),
    "a quote inside": pixel(b'"7"'),
    "NULs inside": pixel(b"\0\0"),
    "NULs alone": b"\0" * 100_000,
    "UTF-16 without mark": TEXT.decode().encode("utf-16-le"),
    "one endless row": ROWS[0] + b"0," + b"12 " * 3_000_000,
    "binary": bytes(range(256)) * 100,
    "votes instead of faces": vote_table(FACES, np.ones((7, 10), int)),
    "ids and labels alone": b"id,label\n0,3\n",
    "cut in pixels": TEXT[: len(ROWS[0]) + len(ROWS[1]) + 999],
    "cut in Usage": TEXT[:-4],
    "cut in a quoted pixel": TRAIN[:-4],
}
for value in b"256 -1 +5 1e2 1.5 NaN ? 65541 99999999999999999999999 \xd9\xa3 \xff".split():
    TABLES[f"pixel {value!r}"] = pixel(value)
for value in (b"8", b"-2", b"3.5", b"Glad", b"0 0", b"\xff"):
    TABLES[f"label {value!r}"] = edited(0, value)
for value in (b"", b"Public", b"train and test"):
    TABLES[f"Usage {value!r}"] = edited(2, value)


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def packed() -> dict[str, bytes]:
    """Damaged archives and parquet files."""
    whole = {
        "gz": gzip.compress(TEXT),
        "zip": pack_zip({"fer2013.csv": TEXT}),
        "tar.gz": gzip.compress(pack_tar({"fer2013/fer2013.csv": TEXT})),
        "parquet": parquet(FACES),
    }
    made = {}
    for kind, content in whole.items():
        made[f"{kind} cut early"] = content[: len(content) // 10]
        made[f"{kind} cut late"] = content[: len(content) * 9 // 10]
        made[f"{kind} with a flipped byte"] = flipped(content, len(content) // 2)
    deep = TEXT
    for _ in range(8):
        deep = gzip.compress(deep)
    encrypted = bytearray(whole["zip"])
    encrypted[6] |= 1
    encrypted[encrypted.rindex(b"PK\x01\x02") + 8] |= 1
    return made | {
        "gz in gz in gz …": deep,
        "gz of nothing": gzip.compress(b""),
        "zip of nothing": pack_zip({}),
        "zip of a text": pack_zip({"readme.txt": b"hello"}),
        "zip with a password": bytes(encrypted),
        "tar of nothing": gzip.compress(pack_tar({})),
        "xz": lzma.compress(TEXT),
        "parquet mark alone": b"PAR1",
        "parquet of other columns": parquet(FACES, "text", "label", False),
        "parquet of no rows": parquet(FACES[:0]),
        "parquet of no pictures": whole["parquet"].replace(b"\x89PNG", b"JUNK"),
    }


def chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def png_of_size(width: int, height: int) -> bytes:
    """A small file that says that it is large."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    lines = zlib.compress(b"\0" * 100_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


def saved(picture, kind, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


FRAMES = [Image.fromarray(image) for image in FACES.images[:3]]
PICTURES = {
    "10000×10000": png_of_size(10_000, 10_000),
    "animated": saved(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]),
    "text": b"this is no picture\n" * 10,
    "empty": b"",
    "cut": FACE[: len(FACE) // 2],
    "flipped": flipped(FACE, len(FACE) // 2),
    "32-bit floats": saved(Image.new("F", (48, 48)), "TIFF"),
}
TREES = {
    name: class_folders(FACES) | {"train/happy/bad.png": content}
    for name, content in PICTURES.items()
}
TREES |= {
    "unknown class": class_folders(FACES) | {"train/smile/a.png": FACE},
    "picture beside the classes": class_folders(FACES) | {"train/a.png": FACE},
    "nothing readable": {"a.bin": b"\1\2\3", "b.doc": b"x"},
    "nothing": {"empty/.hidden": b""},
}
VOTES = vote_table(FACES, np.ones((7, 10), int))
VOTE_FILES = {
    "empty": b"",
    "faces instead of votes": TEXT,
    "cut in a row": VOTES[:-8],
    "negative vote": VOTES.replace(b",1,", b",-1,", 1),
    "endless number": VOTES.replace(b",1,", b"," + b"9" * 30 + b",", 1),
    "fraction": VOTES.replace(b",1,", b",0.5,", 1),
    "column missing": VOTES.replace(f",{ferplus.COLUMNS[-1]}".encode(), b"", 1),
    "UTF-16": VOTES.decode().encode("utf-16"),
    "other votes": VOTES,
}
FILES = TABLES | packed()


def one_line(error: DataError, name: str) -> None:
    message = str(error)
    assert name in message and "\n" not in message and message.isprintable()
    assert len(message) < 700 and "expected" in message


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_refused_in_one_line(tmp_path, name):
    (tmp_path / "damaged").write_bytes(FILES[name])
    with pytest.raises(DataError) as caught:
        load(tmp_path / "damaged")
    one_line(caught.value, "damaged")


@pytest.mark.parametrize("name", TREES)
def test_a_folder_or_zip_with_a_bad_file_is_refused_in_one_line(tmp_path, name):
    write_tree(tmp_path / "damaged", TREES[name])
    (tmp_path / "damaged.zip").write_bytes(pack_zip(TREES[name]))
    for path in (tmp_path / "damaged", tmp_path / "damaged.zip"):
        with pytest.raises(DataError) as caught:
            load(path)
        one_line(caught.value, "bad.png" if name in PICTURES else path.name)


@pytest.mark.parametrize("name", VOTE_FILES)
def test_damaged_votes_are_refused_in_one_line(tmp_path, name):
    (tmp_path / "faces.csv").write_bytes(TEXT)
    (tmp_path / "damaged.csv").write_bytes(VOTE_FILES[name])
    with pytest.raises(DataError) as caught:
        load(tmp_path / "faces.csv", votes=tmp_path / "damaged.csv")
    one_line(caught.value, "damaged.csv")


@pytest.mark.parametrize("ending", ["gz", "zip", "tar", "bz2", "xz", "zst"])
def test_packed_votes_are_refused_in_one_line(tmp_path, ending):
    for content in (gzip.compress(VOTES), gzip.compress(VOTES)[:-99], b"junk"):
        path = tmp_path / f"votes.csv.{ending}"
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            ferplus.read_votes(path)
        one_line(caught.value, path.name)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (pixel(b"256"), "pixel 7 is '256'; expected an integer from 0 to 255"),
        (edited(1, lambda pixels: pixels + b" 0"), "2305 numbers; expected 2304 (48×48)"),
        (edited(1, lambda pixels: pixels.rpartition(b" ")[0]), "2303 numbers; expected 2304"),
        (edited(0, b"9"), "label '9'; expected 0 to 6 or one of Angry"),
        (edited(2, b"T"), "split 'T'; expected one of Training, PublicTest"),
        (edited(2, b"Training,x"), "4 fields; expected emotion, pixels, Usage"),
        (edited(2, b"Training" + b",x" * 9), "12 fields; expected emotion, pixels, Usage"),
    ],
)
def test_an_error_names_row_line_value_and_what_was_expected(tmp_path, content, says):
    (tmp_path / "f.csv").write_bytes(content)
    with pytest.raises(DataError) as caught:
        load(tmp_path / "f.csv")
    assert f"f.csv: row 2 (line 4): {says}" in str(caught.value)


@settings(max_examples=150)
@given(st.data())
def test_a_table_cut_anywhere_is_refused_or_gives_whole_first_rows(tmp_path_factory, data):
    """But for a last number that was cut where no quote follows: that is said."""
    text = data.draw(st.sampled_from([TEXT, TRAIN, LAST]))
    near_the_end = st.integers(len(text) - 9, len(text) - 1)
    cut = data.draw(st.one_of(st.integers(0, len(text) - 1), near_the_end))
    path = tmp_path_factory.getbasetemp() / "cut.csv"
    path.write_bytes(text[:cut])
    try:
        faces = load(path)
    except DataError as error:
        one_line(error, "cut.csv")
        return
    expected = FACES.images[: len(faces)]
    np.testing.assert_array_equal(faces.labels, FACES.labels[: len(faces)])
    said = "the file ends without a line end: its last number may be cut" in faces.notes
    assert said == (text == LAST and chr(text[cut - 1]).isdigit())
    if said:
        assert (faces.images != expected).sum() <= 1
    else:
        np.testing.assert_array_equal(faces.images, expected)


FEW = csv_text(FACES[:2])
WHOLE = [b"", FEW, gzip.compress(FEW), pack_zip({"a.csv": FEW}), pack_tar({"a.csv": FEW}), FACE]
WHOLE.append(parquet(FACES[:2]))


@settings(max_examples=150)
@given(st.data())
def test_any_bytes_are_refused_or_load(tmp_path_factory, data):
    """Random bytes, alone or over a place of a good file of each kind."""
    whole = data.draw(st.sampled_from(WHOLE))
    content = data.draw(st.binary(max_size=40))
    at = data.draw(st.integers(0, len(whole)))
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(whole[:at] + content + whole[at + len(content) :])
    try:
        faces = load(path)
    except DataError as error:
        one_line(error, "any")
    else:
        assert faces.images.shape[1:] == (48, 48) and len(faces) > 0


# --- hostile archives


def test_what_is_unpacked_is_limited_in_size(tmp_path, monkeypatch):
    tree = {f"{i}.csv": TEXT for i in range(3)}
    packed = {"zip": pack_zip(tree), "tar": pack_tar(tree), "gz": gzip.compress(TEXT)}
    packed["tars"] = pack_tar({"a.tar": pack_tar(tree), "b.tar": pack_tar(tree)})
    packed["many files"] = pack_zip({"0.csv": FEW} | {str(i): b"" for i in range(99)})
    for name, content in packed.items():
        (tmp_path / name).write_bytes(content)
        with monkeypatch.context() as patch, pytest.raises(DataError, match="unpacks to more than"):
            patch.setattr(files, "MOST_UNPACKED", len(TEXT) - 1 if name == "gz" else 40_000)
            load(tmp_path / name)
        assert len(load(tmp_path / name)) >= 2


@pytest.mark.parametrize("name", ["../out.csv", "/out.csv", "a/../../out.csv"])
def test_nothing_of_an_archive_is_written_outside_its_folder(tmp_path, monkeypatch, name):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    for pack in (pack_zip, pack_tar):
        (tmp_path / "set").write_bytes(pack({"fer2013.csv": TEXT, name: TEXT}))
        with contextlib.suppress(DataError):
            load(tmp_path / "set")
        assert not list((tmp_path / "scratch").iterdir()) and not os.path.exists("/out.csv")
        assert {path.name for path in tmp_path.iterdir()} == {"scratch", "set"}


def test_links_in_a_tar_are_left_out(tmp_path):
    with tarfile.open(tmp_path / "set", "w") as archive:
        for name, kind, target in (("a", tarfile.SYMTYPE, "/etc"), ("b", tarfile.LNKTYPE, "c.csv")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
        member = tarfile.TarInfo("c.csv")
        member.size = len(TEXT)
        archive.addfile(member, io.BytesIO(TEXT))
    assert len(load(tmp_path / "set")) == len(FACES)


# --- places


def test_places_that_are_no_set_are_refused_in_one_line(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    for name in ("nosuch", "loop", "empty", "broken", "pipe", "n" * 300, "a/b/c", "new\nline"):
        with pytest.raises(DataError) as caught:
            load(tmp_path / name)
        one_line(caught.value, str(tmp_path))
    with pytest.raises(DataError, match=r"~nosuchuser/fer.csv: no such file or folder"):
        load("~nosuchuser/fer.csv")
    with pytest.raises(DataError, match="empty; expected a file or folder"):
        load("")


def test_a_loop_of_links_in_a_folder_is_walked_once(tmp_path):
    write_tree(tmp_path, class_folders(FACES))
    (tmp_path / "train" / "again").symlink_to(tmp_path)
    assert len(load(tmp_path)) == len(FACES)


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    write_tree(tmp_path, class_folders(FACES))
    scandir = os.scandir

    def refuse(place):
        if str(place).endswith("train"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"train.*: Permission denied; expected .*readable"):
        load(tmp_path)
