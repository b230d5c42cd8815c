"""DistInit: a network of clips learns from networks of frames, on videos without labels (Girdhar et al. 2019).

frame_choice    which frames of a clip a teacher looks at
views           which part of them
networks        what runs a teacher: OpenVINO, ONNX Runtime, torch
teacher         a teacher with its own input
sources         teachers by package, checkpoint, ONNX file (`onnx_teacher`) and bundle
targets         mean logits, softmax, entropy, threshold
objective       the student's loss, a linear head for each teacher
cache           teachers' outputs in Parquet, resumable
videos          folders and lists without labels
dataset         clips with what their teachers see
config, method, run    settings, the training method, and `distill` itself
"""

from tenclip_training.distill.cache import OutputCache
from tenclip_training.distill.config import DistillConfig, TeachingConfig
from tenclip_training.distill.run import DistillResult, distill
from tenclip_training.distill.sources import load_teacher, load_teachers
from tenclip_training.distill.teacher import FrameTeacher
from tenclip_training.distill.videos import read_unlabelled

__all__ = [
    "DistillConfig",
    "TeachingConfig",
    "distill",
    "DistillResult",
    "load_teacher",
    "load_teachers",
    "FrameTeacher",
    "OutputCache",
    "read_unlabelled",
]
