"""Synthetic sets: what is stored, what it decodes to, and what a run starts from."""

from jdd.synthetic.decoders import DECODERS as DECODERS
from jdd.synthetic.decoders import IDENTITY as IDENTITY
from jdd.synthetic.decoders import Dct as Dct
from jdd.synthetic.decoders import Decoder as Decoder
from jdd.synthetic.decoders import MultiFormation as MultiFormation
from jdd.synthetic.info import SetInfo as SetInfo
from jdd.synthetic.set import SyntheticSet as SyntheticSet
from jdd.synthetic.set import described as described
from jdd.synthetic.set import storage_in_words as storage_in_words
from jdd.synthetic.settings import StorageSettings as StorageSettings
from jdd.synthetic.settings import decoder_for as decoder_for
from jdd.synthetic.starts import check_ipc as check_ipc
from jdd.synthetic.starts import from_noise as from_noise
from jdd.synthetic.starts import from_real as from_real
