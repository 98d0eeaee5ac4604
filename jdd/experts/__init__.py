"""Expert trajectories: train many, store them, sample segments."""

from jdd.experts.labels import class_means as class_means
from jdd.experts.labels import correctly_classified as correctly_classified
from jdd.experts.labels import label_logits as label_logits
from jdd.experts.sampling import Segment as Segment
from jdd.experts.sampling import SegmentSampler as SegmentSampler
from jdd.experts.sampling import SegmentWindow as SegmentWindow
from jdd.experts.settings import ExpertSettings as ExpertSettings
from jdd.experts.settings import ExpertSpec as ExpertSpec
from jdd.experts.settings import default_directory as default_directory
from jdd.experts.store import ExpertStore as ExpertStore
from jdd.experts.train import epoch_of_many as epoch_of_many
from jdd.experts.train import open_compatible as open_compatible
from jdd.experts.train import open_or_create as open_or_create
from jdd.experts.train import train_experts as train_experts
