import sys
from pathlib import Path

# What builds the images is no part of the wheel, and so is not installed.
sys.path.append(str(Path(__file__).resolve().parent.parent / "k8s" / "image"))
