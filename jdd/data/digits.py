"""scikit-learn's 8×8 handwritten digits: part of that package, so always there.

Its file is read, as importing the package takes longer than all the rest of a short command.
"""

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from jdd.data.dataset import Split
from jdd.errors import UserError

# The rows in the order of `train_test_split(…, test_size=360, stratify=labels, random_state=0)`,
# those of the test split last; uint16.
_ORDER = Path(__file__).with_name("digits_order.npy")
_TEST = 360


def read() -> tuple[Split, Split]:
    """Train (1,437) and test (360): 8×8×1, the stored 0–16 scaled to 0–255.

    Raises:
      UserError: scikit-learn's file is not there.
    """
    package = importlib.util.find_spec("sklearn")
    place = Path(str(package.origin)).parent if package else Path("sklearn")
    path = place / "datasets" / "data" / "digits.csv.gz"
    try:
        with gzip.open(path, "rt") as file:
            rows = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; install scikit-learn again") from None
    rows = rows[np.load(_ORDER)]
    images = np.rint(rows[:, :64].reshape(-1, 8, 8, 1) * (255.0 / 16.0)).astype(np.uint8)
    labels = rows[:, 64].astype(np.int32)
    return Split(images[:-_TEST], labels[:-_TEST]), Split(images[-_TEST:], labels[-_TEST:])
