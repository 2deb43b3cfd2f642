"""Whatever is wrong with a file: a correct result or one clear line, never a traceback or a hang.

``CORPUS`` makes each damaged file from a good one; no damaged file is stored.
"""

import contextlib
import gzip
import importlib
import io
import os
import resource
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
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

from fer_utils.data import VOTE_COLUMNS, DataError, archives, load, read_face
from fer_utils.data.faces import pixel_checksum
from fer_utils.data.ferplus import read_votes

# `describe` and `tables` of the package are functions' names too
describe_module = importlib.import_module("fer_utils.data.describe")
tables_module = importlib.import_module("fer_utils.data.tables")

FACES = some_faces(sizes=(4, 2, 1))
TEXT = csv_text(FACES)
ICML = csv_text(FACES, "emotion, Usage, pixels")
TRAIN = csv_text(FACES, "emotion,pixels", '"', "\r\n")
ROWS = TEXT.splitlines(keepends=True)
FACE = png(FACES.images[0])
GIB = 1 << 30


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
        "one line end": b"\n",
        "header alone": ROWS[0],
        "header without line end": ROWS[0].strip(),
        "header of one column without line end": b"pixels",
        "no header": b"".join(ROWS[1:]),
        "header twice": ROWS[0] + TEXT,
        "no pixels column": csv_text(FACES, "emotion,Usage"),
        "no emotion column": csv_text(FACES, "Usage,pixels").replace(b"Usage", b"mood", 1),
        "column twice": TEXT.replace(b"emotion", b"pixels", 1),
        "other column names": TEXT.replace(b"emotion,pixels,Usage", b"a,b,c"),
        "columns swapped in the header": TEXT.replace(b"emotion,pixels", b"pixels,emotion"),
        "columns swapped in a row": with_row(
            b",".join(reversed(ROWS[3].strip().split(b","))) + b"\n"
        ),
        "a field too many": edited(3, 2, b"Training,Training"),
        "a field too few": with_row(ROWS[3].rpartition(b",")[0] + b"\n"),
        "2303 numbers": edited(3, 1, lambda p: p.rpartition(b" ")[0]),
        "2305 numbers": edited(3, 1, lambda p: p + b" 0"),
        "2303 and 2305 numbers": edited(3, 1, lambda p: p.rpartition(b" ")[0]).replace(
            ROWS[4], ROWS[4].replace(b" ", b" 1 ", 1)
        ),
        "no numbers": edited(3, 1, b""),
        "one number": edited(3, 1, b"7"),
        "a quote that never closes": edited(3, 1, lambda p: b'"' + p),
        "a quote that never opens": edited(3, 1, lambda p: p + b'"'),
        "a quote inside": edited(3, 1, pixel(b'"7"')),
        "NULs inside": edited(3, 1, pixel(b"\0\0")),
        "NULs at the end": TEXT + b"\0" * 4096,
        "NULs alone": b"\0" * 100_000,
        "UTF-16": TEXT.decode().encode("utf-16"),
        "UTF-16 without mark": TEXT.decode().encode("utf-16-le"),
        "UTF-16 big-endian without mark": TEXT.decode().encode("utf-16-be"),
        "UTF-32": TEXT.decode().encode("utf-32"),
        "one endless row": ROWS[0] + b"0," + b"12 " * 3_000_000,
        "one endless word": ROWS[0] + b"0," + b"1" * 5_000_000,
        "endless header": b"emotion," * 1_000_000,
        "binary": bytes(range(256)) * 100,
        "a web page": b"<!DOCTYPE html>\n<html><body>Sign in to Kaggle</body></html>\n",
        "json": b'{"error": "403"}',
        "a pickle": b"\x80\x04\x95\x10\x00\x00\x00",
        "git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 301\n",
        "votes instead of faces": vote_table(FACES, np.ones((7, 10), int)),
        "ids and labels alone": b"id,label\n0,3\n",
    }
    odd_pixels = (
        b"256 -1 +5 300 1e2 1.5 0x10 NaN inf None ? 12a 1,2 65536 65541 4294967296 "
        b"18446744073709551616 99999999999999999999999 1_0 \xd9\xa3 \xff"
    )
    for value in odd_pixels.split(b" "):
        made[f"pixel {value!r}"] = edited(3, 1, pixel(value))
    for value in (b"8", b"-2", b"3.5", b"Glad", b"256", b"0 0", b"\xff", b"1e0"):
        made[f"label {value!r}"] = edited(3, 0, value)
    for value in (b"", b"Public", b"Trained", b"train and test", b"0", b"\0"):
        made[f"Usage {value!r}"] = edited(3, 2, value)
    middle = len(ROWS[0]) + len(ROWS[1])
    cuts = {
        "in the header": 10,
        "in the label column's comma": middle + 1,
        "in pixels": middle + 999,
    }
    cuts |= {"after pixels": len(TEXT) - 12, "in Usage": len(TEXT) - 4}
    for place, at in cuts.items():
        made[f"cut {place}"] = TEXT[:at]
    made["cut in the last pixel"] = ICML[:-2]
    made["cut before the last line end"] = ICML[:-1]
    made["cut in a quoted pixel"] = TRAIN[:-4]
    made["cut before the quote"] = TRAIN[:-3]
    return made


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def packed() -> dict[str, bytes]:
    """Damaged archives and parquet files that must be refused."""
    gz, zipped = gzip.compress(TEXT), pack_zip({"fer2013.csv": TEXT})
    tar = gzip.compress(pack_tar({"fer2013/fer2013.csv": TEXT}))
    shard = parquet(FACES, "image", "label", True)
    made = {}
    for kind, whole in {"gz": gz, "zip": zipped, "tar.gz": tar, "parquet": shard}.items():
        for share in (0.001, 0.1, 0.5, 0.9):
            made[f"{kind} cut at {share:.1%}"] = whole[: max(5, int(share * len(whole)))]
        made[f"{kind} cut before its last bytes"] = whole[:-6]
        made[f"{kind} with a flipped byte"] = flipped(whole, len(whole) // 2)
    deep = TEXT
    for _ in range(8):
        deep = gzip.compress(deep)
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr("fer2013.csv", TEXT)
    encrypted = bytearray(stored.getvalue())
    encrypted[6] |= 1
    encrypted[encrypted.rindex(b"PK\x01\x02") + 8] |= 1
    made |= {
        "gz with other length": gz[:-4] + b"\1\0\0\0",
        "gz in gz in gz …": deep,
        "gz of nothing": gzip.compress(b""),
        "zip whose entry has a name of 4,000 bytes": zipped[:26]
        + (4_000).to_bytes(2, "little")
        + zipped[28:],
        "zip of nothing": pack_zip({}),
        "zip of a text": pack_zip({"readme.txt": b"hello"}),
        "zip with a password": bytes(encrypted),
        "tar of nothing": gzip.compress(pack_tar({})),
        "tar of a text": pack_tar({"a.txt": b"a"}),
        "xz": b"\xfd7zXZ\0" + TEXT,
        "7z": b"7z\xbc\xaf\x27\x1c" + TEXT,
        "parquet mark alone": b"PAR1",
        "parquet mark twice": b"PAR1" + b"\0" * 100 + b"PAR1",
        "parquet of other columns": parquet(FACES, "text", "label", False),
        "parquet of no pictures": parquet(FACES, "image", "label", True).replace(
            b"\x89PNG", b"JUNK"
        ),
    }
    return made


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
        "1×5000": png(np.zeros((5000, 1), np.uint8)),
        "2147483647×2147483647": png_of_size(2**31 - 1, 2**31 - 1),
        "50000×50000": png_of_size(50_000, 50_000),
        "10000×10000": png_of_size(10_000, 10_000),
        "0×0": png_of_size(0, 0),
        "animated": animated_gif(),
        "text": b"this is no picture\n" * 10,
        "empty": b"",
        "cut": FACE[: len(FACE) // 2],
        "cut in the header": FACE[:20],
        "flipped": flipped(FACE, len(FACE) // 2),
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 48\n",
        "32-bit floats": float_tiff.getvalue(),
        "text bomb": FACE[:33]
        + chunk(b"zTXt", b"a\0\0" + zlib.compress(b"a" * 99_000_000))
        + FACE[33:],
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


def test_the_corpus_is_large():
    assert len(FILES) + len(TREES) + len(VOTE_FILES) >= 100


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
        ("1×5000", "1×5000 pixels; expected ≥ 16 a side; remove it"),
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


@pytest.mark.parametrize(
    ("name", "size", "read", "says"),
    [
        ("votes.csv", 16 << 20, read_votes, "more than 16 MiB; expected FER"),
        ("face.png", 64 << 20, read_face, "64 MB; expected at most 64; save it smaller"),
    ],
)
def test_a_file_too_large_is_told_by_the_limit(tmp_path, name, size, read, says):
    path = tmp_path / name
    path.touch()
    os.truncate(path, size)  # as large as may be: refused for what is in it
    with pytest.raises(DataError) as caught:
        read(path)
    assert says not in str(caught.value)
    os.truncate(path, size + 1)
    with pytest.raises(DataError, match=says):
        read(path)


def test_what_is_unpacked_is_limited_in_size_and_number(tmp_path, monkeypatch):
    tree = {f"{i}.csv": TEXT for i in range(3)}
    packed = {"zip": pack_zip(tree), "tar": pack_tar(tree), "tar.gz": gzip.compress(pack_tar(tree))}
    for limit, most, says in (
        ("MOST_UNPACKED", 3 * len(TEXT) - 1, "unpacks to more than 0 MiB; expected FER2013"),
        ("MOST_FILES", 2, "more than 2 files; expected FER2013"),
    ):
        for name, content in packed.items():
            (tmp_path / name).write_bytes(content)
            with monkeypatch.context() as patch, pytest.raises(DataError, match=says):
                patch.setattr(archives, limit, most)
                load(tmp_path / name)
            assert len(load(tmp_path / name)) == len(FACES)


@pytest.mark.parametrize("name", ["../out.csv", "/out.csv", "a/../../out.csv", "C:\\out.csv"])
def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path, name):
    for pack in (pack_zip, pack_tar):
        (tmp_path / "set").write_bytes(pack({"fer2013.csv": TEXT, name: TEXT}))
        with pytest.raises(DataError, match=r"set: .*out.csv' leads out of the archive; expected"):
            load(tmp_path / "set")


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


def test_nothing_is_left_of_what_was_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    for content in (pack_zip({"a.csv": TEXT}), pack_zip({"a.csv": TEXT[:-8]})):
        (tmp_path / "set").write_bytes(content)
        with contextlib.suppress(DataError):
            load(tmp_path / "set")
        assert list((tmp_path / "scratch").iterdir()) == []


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


def test_a_part_of_fer2013_is_recognised_by_its_first_hundred(monkeypatch):
    faces = some_faces(5, (120, 1, 1))
    assert describe_module.remarks(faces) == ()
    monkeypatch.setattr(describe_module, "FER2013_FIRST_100", pixel_checksum(faces.images[:100]))
    assert "begins as FER2013 does, but has 122 of" in describe_module.remarks(faces)[0]
    assert describe_module.remarks(faces[:99]) == () != describe_module.remarks(faces[:100])


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
    (tmp_path / "f.csv").write_bytes(edited(1, 1, lambda p: p + b" " * 2**20))
    with pytest.raises(DataError, match=r"f.csv: line 2: longer than \d+ bytes; expected 2304 num"):
        load(tmp_path / "f.csv")


@settings(max_examples=150)
@given(st.data())
def test_a_table_cut_anywhere_is_refused_or_gives_whole_first_rows(tmp_path_factory, data):
    text = data.draw(st.sampled_from([TEXT, ICML, TRAIN]))
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
    for path in ("", "a\0b", "/dev/zero", "/dev/null", "\udc80\ud800"):
        with pytest.raises(DataError) as caught:
            load(path)
        one_line(caught.value, "")


def test_a_loop_of_links_in_a_folder_is_walked_once(tmp_path):
    write_tree(tmp_path, class_folders(FACES))
    (tmp_path / "train" / "again").symlink_to(tmp_path)
    assert len(load(tmp_path)) == len(FACES)


def test_an_unreadable_folder_or_file_is_named(tmp_path, monkeypatch):
    write_tree(tmp_path, class_folders(FACES))
    scandir = os.scandir

    def refuse(place):
        if str(place).endswith("train"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"train.*: Permission denied; expected .*readable"):
        load(tmp_path)


# --- bombs: each is loaded in a process of its own


def dictionary_parquet() -> bytes:
    """Four hundred rows that all refer to one value of 15 MB."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    picture = pa.DictionaryArray.from_arrays(
        pa.array([0] * 400), pa.array([FACE + b"\0" * 15_000_000])
    )
    stream = io.BytesIO()
    pq.write_table(pa.table({"image": picture, "label": [1] * 400}), stream, compression="zstd")
    return stream.getvalue()


def long_list_of_files() -> bytes:
    """A zip whose list names 1.2 million empty files in 56 MB: 700 MB once zipfile has read it."""
    one = pack_zip({"a": b""})
    start, end = one.index(b"PK\1\2"), one.index(b"PK\5\6")
    listed = one[start:end] * 1_200_000
    sizes = len(listed).to_bytes(4, "little") + start.to_bytes(4, "little")
    return one[:start] + listed + one[end : end + 8] + b"\xff" * 4 + sizes + b"\0\0"


def bombs() -> dict[str, bytes]:
    zeros = gzip.compress(b"\0" * (16 << 20)) * 400  # a gzip file may have many members
    blank = gzip.compress(ROWS[0] + ROWS[1]) + gzip.compress(b"\n" * (16 << 20)) * 400
    header = bytearray(pack_tar({"big.csv": b""})[:512])
    header[124:136] = b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return {
        "6 GB of zeros in a gz": zeros,
        "6 GB of blank lines in a gz": blank,
        "6 GB of zeros in a gz in a zip": pack_zip({"fer2013.csv.gz": zeros}),
        "a picture of 100 MB in a zip": pack_zip({"train/happy/a.png": FACE + b"\0" * 100_000_000}),
        "a tar that says 8 GB": gzip.compress(bytes(header) + b"\0" * 1024),
        "a tar that says 8 GB, over zeros": gzip.compress(bytes(header)) + zeros,
        "one large value in many rows of a parquet": dictionary_parquet(),
        "a zip with a list of 1.2 million files": long_list_of_files(),
    }


@pytest.mark.whole
def test_bombs_are_refused_within_two_gigabytes(tmp_path):
    for name, content in bombs().items():
        (tmp_path / name).write_bytes(content)
    script = (
        "import resource, sys, pathlib\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({6 * GIB}, {6 * GIB}))\n"
        "from fer_utils.data import load, DataError\n"
        "for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
        "    try:\n"
        "        print('loaded', path)\n"
        "        load(path)\n"
        "    except DataError as error:\n"
        "        print('refused', error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    *told, peak = done.stdout.splitlines()
    assert sum(line.startswith("refused") for line in told) == len(bombs()), told
    assert int(peak) * 1024 < 2 * GIB


def test_the_corpus_itself_stayed_within_two_gigabytes():
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < 2 * GIB


def test_a_zip_whose_list_is_too_long_is_refused_before_it_is_read(tmp_path, monkeypatch):
    (tmp_path / "long.zip").write_bytes(long_list_of_files())
    monkeypatch.setattr(zipfile.ZipFile, "infolist", lambda self: pytest.fail("was read"))
    with pytest.raises(DataError, match="list of files takes 53 MiB"):
        load(tmp_path / "long.zip")


def test_a_set_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tables_module, "MOST_FACES", 5)
    (tmp_path / "many.csv").write_bytes(TEXT)
    with pytest.raises(DataError, match="more than 5 rows"):
        load(tmp_path / "many.csv")
