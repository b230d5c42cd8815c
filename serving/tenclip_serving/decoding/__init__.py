"""From an encoded video to clips, in expendable worker processes."""
