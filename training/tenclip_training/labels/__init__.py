"""Label spaces from hashtags: which tags stand for a label, and which videos carry them (IG-65M section 3.1). No torch.

::

    from tenclip_training.labels import action_space, match_labels, relevant_hashtags

    relevant_hashtags("catching a fish").tags  # acatchfish, ..., catchingafish, ..., fishcatching
    space = action_space(["catching a fish", "burning candles"])
    report = match_labels("videos.parquet", space, tags="hashtags", out="labelled.parquet")
    print(report.videos, report.videos_per_label, report.dropped)

It needs DuckDB and lemminflect: `pip install 'tenclip[labels]'`.
"""

from tenclip_training.labels.distribution import LabelDistribution, label_distribution
from tenclip_training.labels.hashtags import Hashtags, noun_hashtags, pair_hashtags, relevant_hashtags, verb_hashtags
from tenclip_training.labels.match import MatchReport, match_labels
from tenclip_training.labels.overlap import Overlap, label_overlap
from tenclip_training.labels.report import LabelReport, label_report, write_report
from tenclip_training.labels.spaces import (
    LabelSpace,
    action_space,
    noun_space,
    read_space,
    verb_noun_space,
    verb_space,
    write_space,
)
from tenclip_training.labels.subset import SubsetReport, choose_labels, write_subset

__all__ = [
    "relevant_hashtags",
    "verb_hashtags",
    "noun_hashtags",
    "pair_hashtags",
    "Hashtags",
    "action_space",
    "verb_space",
    "noun_space",
    "verb_noun_space",
    "read_space",
    "write_space",
    "LabelSpace",
    "match_labels",
    "MatchReport",
    "label_distribution",
    "LabelDistribution",
    "label_overlap",
    "Overlap",
    "label_report",
    "write_report",
    "LabelReport",
    "choose_labels",
    "write_subset",
    "SubsetReport",
]
