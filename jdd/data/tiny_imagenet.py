"""Tiny ImageNet in its folders."""

from collections.abc import Sequence
from pathlib import Path

from jdd.data import image_files
from jdd.data.dataset import Split
from jdd.errors import UserError
from jdd.files import read_bytes

_LONGEST_NAME = 255  # bytes, of most file systems


def read(
    directories: Sequence[Path],
) -> tuple[Split, Split, tuple[str, ...]] | None:
    """Tiny ImageNet from the first directory that holds its `wnids.txt`; None where none does.

    The test images are those of `val/`. The classes are in the order of their WordNet ids, as
    folders are read elsewhere, and named by `words.txt` where it is there, else by the ids.

    Raises:
      UserError: a class or table that is missing or damaged.
    """
    for root in directories:
        classes = root / "wnids.txt"
        if not classes.is_file():
            continue
        names = sorted(_name(name, classes) for name in _text(classes).split())
        label = {name: i for i, name in enumerate(names)}
        train = [
            (path, label[name])
            for name in names
            for path in image_files.below(root / "train" / name)
        ]
        table = root / "val" / "val_annotations.txt"
        try:
            rows = [line.split("\t")[:2] for line in _text(table).splitlines()]
            place = root / "val" / "images"
            test = [(place / _name(image, table), label[name]) for image, name in rows]
        except UserError:
            raise
        except (KeyError, ValueError) as error:
            raise UserError(f"{table}: damaged ({error!r:.120})") from None
        splits = image_files.read(
            image_files.wanted(root, [train, test]), [train, test], len(names), None
        )
        words = _words(root / "words.txt")
        return splits[0], splits[1], tuple(words.get(name, name) for name in names)
    return None


def _words(table: Path) -> dict[str, str]:
    if not table.is_file():
        return {}
    rows = (line.partition("\t") for line in _text(table).splitlines())
    return {name: words.partition(",")[0] for name, _, words in rows}


def _name(text: str, table: Path) -> str:
    too_long = len(text.encode()) > _LONGEST_NAME
    if Path(text).name != text or text == ".." or "\0" in text or too_long:
        raise UserError(f"{table}: {text[:80]!r} is no name of a file or folder")
    return text


def _text(path: Path) -> str:
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
