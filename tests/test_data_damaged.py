"""Whatever is wrong with a file: a correct result or one clear line, never a traceback or a hang.

``CORPUS`` makes each damaged file from a good one; no damaged file is stored.
"""

import contextlib
import gzip
import io
import os
import struct
import tarfile
import tempfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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

from fer_utils.data import VOTE_COLUMNS, DataError, load, readers
from fer_utils.data import tables as tables_module

FACES = some_faces(sizes=(4, 2, 1))
TEXT = csv_text(FACES)
TRAIN = csv_text(FACES, "emotion,pixels", '"', "\r\n")
ROWS = TEXT.splitlines(keepends=True)
FACE = png(FACES.images[0])


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.setenv("FER_CACHE", "")


def with_row(row: bytes, at: int = 3) -> bytes:
    return b"".join([*ROWS[:at], row, *ROWS[at + 1 :]])


def edited(row: int, old, new) -> bytes:
    """The table with one field edited: 0 emotion, 1 pixels, 2 Usage."""
    fields = ROWS[row].rstrip(b"\n").split(b",")
    fields[old] = new(fields[old]) if callable(new) else new
    return with_row(b",".join(fields) + b"\n", row)


def pixel(value: bytes, at: int = 7):
    def change(pixels: bytes) -> bytes:
        numbers = pixels.split(b" ")
        numbers[at] = value
        return b" ".join(numbers)

    return change


def tables() -> dict[str, bytes]:
    """Damaged tables that must be refused."""
    made = {
        "empty": b"",
        "only line ends": b"\n" * 5000,
        "header alone": ROWS[0],
        "header without line end": ROWS[0].strip(),
        "no header": b"".join(ROWS[1:]),
        "header twice": ROWS[0] + TEXT,
        "no pixels column": csv_text(FACES, "emotion,Usage"),
        "no emotion column": csv_text(FACES, "Usage,pixels").replace(b"Usage", b"mood", 1),
        "column twice": TEXT.replace(b"emotion", b"pixels", 1),
        "columns swapped in the header": TEXT.replace(b"emotion,pixels", b"pixels,emotion"),
        "a field too many": edited(3, 2, b"Training,Training"),
        "many fields too many": edited(3, 2, b"Training" + b",x" * 9),
        "a field too few": with_row(ROWS[3].rpartition(b",")[0] + b"\n"),
        "2303 numbers": edited(3, 1, lambda p: p.rpartition(b" ")[0]),
        "2305 numbers": edited(3, 1, lambda p: p + b" 0"),
        "no numbers": edited(3, 1, b""),
        "a quote that never closes": edited(3, 1, lambda p: b'"' + p),
        "a quote inside": edited(3, 1, pixel(b'"7"')),
        "NULs inside": edited(3, 1, pixel(b"\0\0")),
        "NULs alone": b"\0" * 100_000,
        "UTF-16": TEXT.decode().encode("utf-16"),
        "UTF-16 without mark": TEXT.decode().encode("utf-16-le"),
        "one endless row": ROWS[0] + b"0," + b"12 " * 3_000_000,
        "binary": bytes(range(256)) * 100,
        "json": b'{"error": "403"}',
        "votes instead of faces": vote_table(FACES, np.ones((7, 10), int)),
        "ids and labels alone": b"id,label\n0,3\n",
        "cut in pixels": TEXT[: len(ROWS[0]) + len(ROWS[1]) + 999],
        "cut in Usage": TEXT[:-4],
        "cut in a quoted pixel": TRAIN[:-4],
    }
    for value in b"256 -1 +5 1e2 1.5 NaN ? 12a 65541 99999999999999999999999 \xd9\xa3 \xff".split():
        made[f"pixel {value!r}"] = edited(3, 1, pixel(value))
    for value in (b"8", b"-2", b"3.5", b"Glad", b"0 0", b"\xff"):
        made[f"label {value!r}"] = edited(3, 0, value)
    for value in (b"", b"Public", b"train and test", b"0"):
        made[f"Usage {value!r}"] = edited(3, 2, value)
    return made


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def packed() -> dict[str, bytes]:
    """Damaged archives and parquet files that must be refused."""
    whole = {
        "gz": gzip.compress(TEXT),
        "zip": pack_zip({"fer2013.csv": TEXT}),
        "tar.gz": gzip.compress(pack_tar({"fer2013/fer2013.csv": TEXT})),
        "parquet": parquet(FACES, "image", "label", True),
    }
    made = {}
    for kind, content in whole.items():
        for share in (0.1, 0.9):
            made[f"{kind} cut at {share:.0%}"] = content[: int(share * len(content))]
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
        "xz": b"\xfd7zXZ\0" + TEXT,
        "parquet mark alone": b"PAR1",
        "parquet of other columns": parquet(FACES, "text", "label", False),
        "parquet of no rows": parquet(FACES[:0], "image", "label", False),
        "parquet of no pictures": whole["parquet"].replace(b"\x89PNG", b"JUNK"),
    }


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png_of_size(width: int, height: int) -> bytes:
    """A small file that says that it is large."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    lines = zlib.compress(b"\0" * 100_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


def animated_gif() -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    frames = [Image.fromarray(image) for image in FACES.images[:3]]
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    return stream.getvalue()


def trees() -> dict[str, dict[str, bytes]]:
    """Image folders with one bad file in them, which must be refused."""
    from PIL import Image

    float_tiff = io.BytesIO()
    Image.new("F", (48, 48)).save(float_tiff, "TIFF")
    bad = {
        "1×1": png(np.zeros((1, 1), np.uint8)),
        "10000×10000": png_of_size(10_000, 10_000),
        "animated": animated_gif(),
        "text": b"this is no picture\n" * 10,
        "empty": b"",
        "cut": FACE[: len(FACE) // 2],
        "flipped": flipped(FACE, len(FACE) // 2),
        "32-bit floats": float_tiff.getvalue(),
    }
    made = {
        name: class_folders(FACES) | {"train/happy/bad.png": content}
        for name, content in bad.items()
    }
    made |= {
        "unknown class": class_folders(FACES) | {"train/smile/a.png": FACE},
        "picture beside the classes": class_folders(FACES) | {"train/a.png": FACE},
        "nothing readable": {"a.bin": b"\1\2\3", "b.doc": b"x"},
        "ids twice": {"train.csv": b"id,label\n0,1\n0,2\n", "img/0.png": FACE},
        "label 9": {"train.csv": b"id,label\n0,9\n", "img/0.png": FACE},
        "ids without picture": {"train.csv": b"id,label\n0,1\n9,2\n", "img/0.png": FACE},
    }
    return made


def vote_tables() -> dict[str, bytes]:
    good = vote_table(FACES, np.ones((7, 10), int))
    return {
        "empty": b"",
        "faces instead of votes": TEXT,
        "cut in a row": good[:-8],
        "a row less": good[: good.rstrip().rindex(b"\n")],
        "negative vote": good.replace(b",1,", b",-1,", 1),
        "fraction": good.replace(b",1,", b",0.5,", 1),
        "unknown usage": good.replace(b"PublicTest", b"Test", 1),
        "column missing": good.replace(f",{VOTE_COLUMNS[-1]}".encode(), b"", 1),
        "UTF-16": good.decode().encode("utf-16"),
        "right shape, other set": good,
        "nothing": b"\n",
    }


def one_line(error: DataError, name: str) -> None:
    message = str(error)
    assert name in message and "\n" not in message and message.isprintable()
    assert len(message) < 700 and ("expected" in message or "needs" in message)


FEW = csv_text(FACES[:2])
WHOLE = [b"", FEW, gzip.compress(FEW), pack_zip({"a.csv": FEW}), pack_tar({"a.csv": FEW}), FACE]
WHOLE.append(parquet(FACES[:2], "image", "label", True))
FILES = tables() | packed()
TREES, VOTE_FILES = trees(), vote_tables()


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
        one_line(caught.value, "damaged")


@pytest.mark.parametrize("name", VOTE_FILES)
def test_damaged_votes_are_refused_in_one_line(tmp_path, name):
    (tmp_path / "faces.csv").write_bytes(TEXT)
    (tmp_path / "damaged.csv").write_bytes(VOTE_FILES[name])
    with pytest.raises(DataError) as caught:
        load(tmp_path / "faces.csv", votes=tmp_path / "damaged.csv")
    one_line(caught.value, "damaged.csv")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("label 9", r"img/0.png: label '9'; expected 0 to 6 or one of Angry"),
        ("ids twice", r"train.csv: row 1 \(line 3\): '0,2'; expected id,label, each id once"),
        ("ids without picture", r"train.csv: no image for id 9 in img/; expected one folder"),
        ("10000×10000", "bad.png: Image size .* could be decompression bomb"),
        ("1×1", "1×1 pixels; expected ≥ 16 a side; remove it"),
    ],
)
def test_what_is_wrong_in_a_folder_is_named_with_its_place(tmp_path, name, says):
    write_tree(tmp_path, TREES[name])
    with pytest.raises(DataError, match=says):
        load(tmp_path)


def test_all_bad_pictures_of_a_folder_are_counted(tmp_path):
    write_tree(tmp_path, {f"happy/{i}.png": FACE[: len(FACE) // 2] for i in range(3)})
    with pytest.raises(DataError, match=r"happy/0.png: .* remove it \(2 more are bad\)"):
        load(tmp_path)


def test_what_is_unpacked_is_limited_in_size(tmp_path, monkeypatch):
    tree = {f"{i}.csv": TEXT for i in range(3)}
    packed = {"zip": pack_zip(tree), "tar": pack_tar(tree), "gz": gzip.compress(TEXT)}
    packed["tars"] = pack_tar({"a.tar": pack_tar(tree), "b.tar": pack_tar(tree)})
    for name, content in packed.items():
        (tmp_path / name).write_bytes(content)
        with monkeypatch.context() as patch, pytest.raises(DataError, match="unpacks to more than"):
            patch.setattr(readers, "MOST_UNPACKED", len(TEXT) - 1 if name == "gz" else 40_000)
            load(tmp_path / name)
        assert len(load(tmp_path / name)) == len(FACES)


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


def test_unlabelled_rows_of_both_test_splits_are_told_apart_by_their_number(tmp_path, monkeypatch):
    monkeypatch.setattr(tables_module, "TEST_SPLIT", 2)
    rows = [ROWS[1].split(b",")[1] + b"\n"] * 5
    (tmp_path / "test.csv").write_bytes(b"pixels\n" + b"".join(rows[:4]))
    assert load(tmp_path / "test.csv").split.tolist() == ["PublicTest"] * 2 + ["PrivateTest"] * 2
    (tmp_path / "any.csv").write_bytes(b"pixels\n" + b"".join(rows))
    assert set(load(tmp_path / "any.csv").split) == {"PublicTest"}


def test_two_folders_that_fit_the_ids_are_told_apart_by_train_alone(tmp_path):
    files = {"train.csv": b"id,label\n0,1\n", "train_img/0.png": FACE, "test_img/0.png": FACE}
    write_tree(tmp_path / "named", files)
    assert "left out: 1 images in test_img/, which have no label" in load(tmp_path / "named").notes
    write_tree(tmp_path / "other", {k.replace("train_", "more_"): v for k, v in files.items()})
    with pytest.raises(DataError, match="two folders fit"):
        load(tmp_path / "other")


def test_an_error_names_row_line_value_and_what_was_expected(tmp_path):
    (tmp_path / "f.csv").write_bytes(edited(3, 1, pixel(b"256")))
    with pytest.raises(
        DataError, match=r"f.csv: row 2 \(line 4\): pixel 7 is '256'; expected an int"
    ):
        load(tmp_path / "f.csv")
    (tmp_path / "f.csv").write_bytes(edited(3, 1, lambda p: p + b" 0"))
    with pytest.raises(DataError, match=r"row 2 \(line 4\): 2305 numbers; expected 2304"):
        load(tmp_path / "f.csv")
    (tmp_path / "f.csv").write_bytes(edited(3, 0, b"9"))
    with pytest.raises(DataError, match=r"row 2 \(line 4\): label '9'; expected 0 to 6 or one of"):
        load(tmp_path / "f.csv")
    (tmp_path / "f.csv").write_bytes(edited(3, 2, b"T"))
    with pytest.raises(DataError, match=r"row 2 .*: split 'T'; expected one of Training, Public"):
        load(tmp_path / "f.csv")
    (tmp_path / "f.csv").write_bytes(edited(3, 2, b"Training,x"))
    with pytest.raises(DataError, match=r"row 2 .*: more than 3 fields; expected emotion, pixels"):
        load(tmp_path / "f.csv")


@settings(max_examples=150)
@given(st.data())
def test_a_table_cut_anywhere_is_refused_or_gives_whole_first_rows(tmp_path_factory, data):
    text = data.draw(st.sampled_from([TEXT, TRAIN]))
    cut = data.draw(
        st.one_of(st.integers(0, len(text) - 1), st.integers(len(text) - 9, len(text) - 1))
    )
    path = tmp_path_factory.getbasetemp() / "cut.csv"
    path.write_bytes(text[:cut])
    try:
        faces = load(path)
    except DataError as error:
        one_line(error, "cut.csv")
    else:
        np.testing.assert_array_equal(faces.images, FACES.images[: len(faces)])
        np.testing.assert_array_equal(faces.labels, FACES.labels[: len(faces)])


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
