"""Building, checking and measuring the images with a real engine; `tenclip_image` is what runs inside of a build."""

import sys
from pathlib import Path

# It is no part of the wheel, and so is not installed.
sys.path.append(str(Path(__file__).resolve().parents[2] / "k8s" / "image"))
