"""Where data of the user's are now that a set was made from."""

import os
from pathlib import Path

from jdd.data.class_names import imagenet_subset
from jdd.data.registry import ARRAYS, FOLDER
from jdd.errors import UserError
from jdd.files import check_path


def located(name: str, where: str | Path, data_dir: str | None, of_run: str | None) -> str:
    """The dataset's name, with the new place of a folder or file that has moved.

    Args:
      name: of the dataset, as the set has it.
      where: the set's place.
      data_dir: names the new folder, or the one that it is in; None: not given.
      of_run: the `data_dir` of the run that made the set.

    Raises:
      UserError: it is not where it was, and no `data_dir` is given.
    """
    if not name.startswith((FOLDER, ARRAYS)):
        return name
    kind, _, text = name.partition(":")
    mark = f"#{subset}" if (subset := imagenet_subset(name)) else ""
    text = text.removesuffix(mark)
    root = data_dir or os.environ.get("JDD_DATA_DIR") or of_run or ""
    try:
        path, place = Path(text).expanduser(), Path(root).expanduser().absolute()
    except RuntimeError as error:
        raise UserError(f"{where} is a set of {name}: {error}") from None
    check_path(place / path)
    if (place / path).exists():
        return name
    if data_dir is None:
        raise UserError(
            f"{where} is a set of {name}, which does not exist: name its new folder by `data_dir`"
        )
    moved = place / path.name
    if kind == "folder" and not moved.exists():
        moved = place
    return f"{kind}:{moved}{mark}"
