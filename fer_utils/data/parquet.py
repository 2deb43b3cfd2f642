"""Reader of Hugging Face parquet files: a column of encoded pictures, a column of labels.

Column forms met: ``image`` (struct with ``bytes``) and ``label``; ``img_bytes`` and ``labels``;
``jpg`` and ``cls``. The names of the classes are taken from the file's own metadata where it
has them, otherwise labels count in FER2013's order. The file's name tells the split.
"""

import io
import json

import numpy as np

from .faces import EMOTIONS, MOST_FACES, SPLITS, DataError, Faces, reason, shown
from .folders import SPLIT_OF, class_of
from .pictures import read_picture
from .sources import Budget, Entry

PICTURES = ("image", "img_bytes", "jpg", "png", "img")
LABELS = ("label", "labels", "cls", "emotion")
LARGEST_FILE = 512 << 20
LARGEST_PICTURE = 16 << 20
MOST_DECODED = 1 << 30
# One picture that a whole row group refers to again and again is decoded once for each row of
# a batch, so the larger a group is, the fewer rows are decoded at a time.
LARGEST_GROUP = 256 << 20
MOST_ROWS_AT_ONCE = 512


def read_parquet(entries: list[Entry], name: str) -> Faces:
    """The faces of one or several parquet files (the shards of one set)."""
    parts = [read_file(entry, f"{name}/{entry.path}" if entry.path else name) for entry in entries]
    images, labels, splits, converted = (
        np.concatenate([part[k] for part in parts]) for k in range(4)
    )
    order = np.argsort([SPLITS.index(split) for split in splits], kind="stable")
    notes = ()
    if converted.any():
        notes = (f"{converted.sum()} of {len(images)} images converted to 48×48 grey",)
    return Faces(images[order], labels[order], splits[order], notes=notes)


def read_file(entry: Entry, name: str) -> tuple[np.ndarray, ...]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    images, labels, converted = [], [], []
    with entry.open() as stream:
        content = stream.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise DataError(
            f"{name}: more than {LARGEST_FILE >> 20} MiB; expected FER2013; split the file"
        )
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        picture, label, names = find_columns(file.schema_arrow, name)
        rows, budget = rows_at_once(file.metadata, name), Budget(name, MOST_DECODED)
        for batch in file.iter_batches(rows, columns=[picture, label], use_threads=False):
            at = f"{name}: row"
            for value, word in zip(
                batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True
            ):
                row = f"{at} {len(images)}"
                content = picture_bytes(value, row)
                budget.spend(len(content))
                image, changed = read_picture(io.BytesIO(content), row)
                images.append(image)
                converted.append(changed)
                labels.append(label_of(word, names, row))
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{name}: {reason(error)}; expected a whole parquet file; download it again"
        ) from None
    if not images:
        raise DataError(f"{name}: no row; expected a face in each; download it again")
    word = name.rpartition("/")[2].split("-")[0].split(".")[0].lower()
    split = np.full(len(images), SPLIT_OF.get(word, "Training"))
    return np.stack(images), np.array(labels, np.int64), split, np.array(converted)


def find_columns(schema, name: str) -> tuple[str, str, list[str] | None]:
    """The columns with pictures and labels, and the class names that the metadata gives."""
    picture = next((c for c in PICTURES if c in schema.names), None)
    label = next((c for c in LABELS if c in schema.names), None)
    if not picture or not label:
        raise DataError(
            f"{name}: columns {shown(', '.join(schema.names))}; expected image and label (or "
            "img_bytes and labels, or jpg and cls)"
        )
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = about["info"]["features"][label]["names"]
        names = list(names.values()) if isinstance(names, dict) else names
    except (ValueError, KeyError, TypeError):
        names = None
    return picture, label, names


def rows_at_once(metadata, name: str) -> int:
    if metadata.num_rows > MOST_FACES:
        raise DataError(
            f"{name}: {metadata.num_rows} rows; expected at most {MOST_FACES}; split it"
        )
    sizes = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
    if max(sizes, default=0) > LARGEST_GROUP:
        raise DataError(f"{name}: a row group of {max(sizes)} bytes; expected FER2013; wrong file")
    return max(1, min(MOST_ROWS_AT_ONCE, LARGEST_GROUP // max([1, *sizes])))


def picture_bytes(value, at: str) -> bytes:
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes) or len(content) > LARGEST_PICTURE:
        raise DataError(f"{at}: no embedded picture of sensible size; expected a PNG or JPEG file")
    return content


def label_of(word, names: list[str] | None, at: str) -> int:
    """Index into ``EMOTIONS`` of a label given as a number or a name."""
    if word is None or word == -1:
        return -1
    if isinstance(word, int) and names and 0 <= word < len(names):
        word = names[word]
    label = class_of(str(word))
    if label is None:
        raise DataError(
            f"{at}: label {shown(str(word))}; expected 0 to 6 or one of {', '.join(EMOTIONS)}"
        )
    return label
