"""What a set stores: pixels, several smaller images in one, or coefficients of a transform."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from jdd.data import Dataset, Split
from jdd.errors import SettingError
from jdd.settings import Settings, setting
from jdd.synthetic.decoders import FORMATIONS, IDENTITY, Dct, Decoder, MultiFormation

_MOST = 10_000  # real images that coefficients are chosen by


@dataclass(frozen=True)
class StorageSettings(Settings):
    """What is stored for each image of the set; `jdd.synthetic.decoders` has the maps."""

    decoder: str = setting(
        "pixels",
        "what is stored: pixels, or dct, the coefficients of each channel's cosine transform that "
        "vary most over the real images (FreD)",
        choices=("pixels", "dct"),
    )
    factor: int = setting(
        1, "a stored image holds factor × factor smaller ones (IDC's multi-formation)", min=1
    )
    formation: str = setting(
        "uniform",
        "which of them: those of the factor, or of every factor up to it (multi)",
        choices=FORMATIONS,
    )
    coefficients: int = setting(
        0,
        "stored of each channel of an image, by dct; 0: a quarter of its pixels, for four times as "
        "many images",
        min=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decoder == "dct" and self.factor > 1:
            raise SettingError(
                "factor", self.factor, "`decoder` dct stores no pixels, leave it out"
            )
        if self.decoder != "dct" and self.coefficients:
            raise SettingError("coefficients", self.coefficients, "`decoder` dct alone has any")
        if self.formation == "multi" and self.factor == 1:
            raise SettingError("formation", "multi", "it takes a `factor` of 2 or more")


def decoder_for(settings: StorageSettings, dataset: Dataset, train: Split) -> Decoder:
    """The decoder of a run.

    Args:
      settings: what is stored.
      dataset: whose images.
      train: the real images that coefficients are chosen by.

    Raises:
      SettingError: a factor or a number of coefficients that does not fit the images.
    """
    height, width, _ = dataset.image_shape
    if settings.decoder == "dct":
        some = np.linspace(0, len(train) - 1, min(len(train), _MOST)).astype(int)
        images = dataset.preprocess(jnp.asarray(train.images[some]))
        return Dct.of(images, settings.coefficients or height * width // 4)
    if settings.factor > 1:
        return MultiFormation(settings.factor, height, width, settings.formation)
    return IDENTITY
