"""How long nothing of a stream was watched that should have been. Pure arithmetic.

What the step leaves out between two windows is no absence, nor the regular distance of two frames, however long they
are. Frames that are missing are one, and windows that were skipped.
"""

from __future__ import annotations

# A frame that is late by less than this share of the distance of two is no sign that one is missing: times are rounded.
_JITTER = 0.75


class Absence:
    """Of one connection, told of everything in the order of time; all in seconds on the stream's clock."""

    def __init__(self) -> None:
        # Of the newest frame: its place, its distance from the one before, and when another one is due.
        self._seconds: float | None = None
        self._distance: float | None = None
        self._due = 0.0
        self._lost: float | None = None  # when the next frame was due where the stream broke off
        self._follows = True  # the next frame follows the newest one
        self._longest = 0.0  # since the newest window
        self._watched = 0.0  # end of what was taken
        self._skipped: float | None = None  # where windows that were skipped begin that nobody has seen
        self._longest_skipped = 0.0

    def frame(self, seconds: float, end_seconds: float) -> None:
        """The next frame; the same one again changes nothing."""
        if seconds == self._seconds:
            return
        if not self._follows and self._lost is not None:
            self._longest = max(self._longest, seconds - self._lost)
        elif self._seconds is not None:
            if self._distance is not None:
                self._longest = max(self._longest, self._beyond_jitter(seconds - self._due))
            self._distance = seconds - self._seconds
        self._seconds, self._follows = seconds, True
        self._due = max(end_seconds, seconds + (self._distance or 0.0))

    def restart(self) -> None:
        """The stream broke off: until there is a window again, all that comes is lost, too."""
        self._follows = False
        if self._lost is None and self._seconds is not None:
            self._lost = self._due

    def window(self) -> float:
        """A window is whole. How long frames were missing at a stretch, since the window before it."""
        longest, self._longest, self._lost = self._longest, 0.0, None
        return longest

    def skipped(self, start_seconds: float, missing: float) -> None:
        """A window will not be taken; missing: as `window` said."""
        self._longest_skipped = max(self._longest_skipped, missing)
        if self._skipped is None:
            self._skipped = max(self._watched, start_seconds)

    def taken(self, start_seconds: float, end_seconds: float, missing: float) -> float:
        """A window is taken. The longest stretch that was not watched, since the one taken before it."""
        since_skipped = 0.0 if self._skipped is None else self._beyond_jitter(start_seconds - self._skipped)
        longest = max(missing, self._longest_skipped, since_skipped)
        self._skipped, self._longest_skipped = None, 0.0
        self._watched = max(self._watched, end_seconds)
        return longest

    def _beyond_jitter(self, seconds: float) -> float:
        return seconds if seconds > _JITTER * (self._distance or 0.0) else 0.0
