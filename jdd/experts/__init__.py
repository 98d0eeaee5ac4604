"""Expert trajectories: train many, store them, sample segments."""

from jdd.experts.labels import class_means as class_means
from jdd.experts.labels import label_logits as label_logits
from jdd.experts.labels import rightly_classified as rightly_classified
from jdd.experts.settings import ExpertSettings as ExpertSettings
from jdd.experts.settings import ExpertSpec as ExpertSpec
from jdd.experts.settings import default_directory as default_directory
from jdd.experts.store import ExpertStore as ExpertStore
from jdd.experts.store import Segment as Segment
from jdd.experts.store import SegmentSource as SegmentSource
from jdd.experts.store import check_window as check_window
from jdd.experts.train import fitting as fitting
from jdd.experts.train import prepare as prepare
from jdd.experts.train import train_experts as train_experts
