"""The interface of packet counters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from av.packet import Packet
from av.video.stream import VideoStream

# Returned for a packet whose number of frames its headers do not tell.
ONLY_DECODING_TELLS: Final = -1

# Takes the packets of one stream in decoding order, and gives the number of frames that the decoder gives for each.
PacketCounter: TypeAlias = "Callable[[Packet[VideoStream]], int]"
