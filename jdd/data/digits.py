"""scikit-learn's 8×8 handwritten digits: part of the package, so always there."""

import numpy as np

from jdd.data.dataset import Split


def read() -> tuple[Split, Split]:
    """Train (1,437) and test (360): 8×8×1, the stored 0–16 scaled to 0–255."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.rint(digits.images * (255.0 / 16.0)).astype(np.uint8)[..., np.newaxis]
    train_images, test_images, train_labels, test_labels = train_test_split(
        images,
        digits.target.astype(np.int32),
        test_size=360,
        stratify=digits.target,
        random_state=0,
    )
    return Split(train_images, train_labels), Split(test_images, test_labels)
