"""Files that name other files and addresses, and witnesses of whether anyone follows them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak._mutations import boxes

# What lets FFmpeg follow the kinds for which that takes little: the control that a file is hostile at all. Not every
# build of FFmpeg has a reader of DASH, so that has none.
CONTROLS = {
    "hls": {"protocol_whitelist": "file,http,tcp", "extension_picky": "0", "allowed_extensions": "ALL"},
    "hls of a file": {"protocol_whitelist": "file", "extension_picky": "0", "allowed_extensions": "ALL"},
    "hls key": {"protocol_whitelist": "file,http,tcp,crypto", "extension_picky": "0", "allowed_extensions": "ALL"},
    "ffconcat": {"protocol_whitelist": "file,http,tcp", "safe": "0"},
    "ffconcat of a file": {"protocol_whitelist": "file", "safe": "0"},
    "ffconcat of a part": {"protocol_whitelist": "file,subfile", "safe": "0"},
    "mov alias": {"protocol_whitelist": "file", "enable_drefs": "1", "use_absolute_path": "1"},
}


def hostile_files(mp4: bytes, target: Path, port: int) -> dict[str, bytes]:
    """By kind: each points to `target` on this machine, or to a port of it."""
    url = f"http://127.0.0.1:{port}/video.mp4"
    texts = {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n",
        "hls of a file": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:{target}\n#EXT-X-ENDLIST\n",
        "hls master": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}\n",
        "hls key": f'#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-KEY:METHOD=AES-128,URI="{url}"\n'
        f"#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n",
        "m3u": f"{url}\n{target}\n",
        "ffconcat": f"ffconcat version 1.0\nfile '{url}'\n",
        "ffconcat of a file": f"ffconcat version 1.0\nfile 'file:{target}'\n",
        "ffconcat of a part": f"ffconcat version 1.0\nfile 'subfile,,start,0,end,0,,:{target}'\n",
        "ffconcat of crypto": f"ffconcat version 1.0\nfile 'crypto:{target}'\n",
        "dash": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT9S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">\n<Period>'
        '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1" codecs="avc1.42c00d">'
        f"<BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period></MPD>\n",
        "sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n",
        "rtsp redirect": f"rtsp://127.0.0.1:{port}/video\n",
        "asx": f'<asx version="3.0"><entry><ref href="{url}"/></entry></asx>',
        "smil": f'<smil><body><video src="{url}"/></body></smil>',
        "windows reference": f"[Reference]\nRef1={url}\nRef2=file://{target}\n",
        "image sequence": f"{target.parent}/%03d.png\n",
        "avisynth": f'DirectShowSource("{url}")\n',
        "vobsub": "# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n"
        "timestamp: 00:00:00:000, filepos: 000000000\n",
    }
    return {**{kind: text.encode() for kind, text in texts.items()}, "mov alias": with_alias(mp4, target)}


def with_alias(mp4: bytes, target: Path) -> bytes:
    """A QuickTime track whose frames lie in another file, named by an absolute path (data reference of type alis)."""
    path = os.fsencode(target)
    record = bytes(10) + bytes([0]) + bytes(27) + bytes(12) + bytes([0]) + bytes(63) + bytes(16)
    record += (0xFFFF).to_bytes(2, "big") * 2 + bytes(16)
    record += (2).to_bytes(2, "big") + len(path).to_bytes(2, "big") + path + bytes(len(path) % 2)
    record += b"\xff\xff\0\0"
    entry = (12 + len(record)).to_bytes(4, "big") + b"alis" + bytes(4) + record
    found = list(boxes(mp4))
    dref = next(b for b in found if b.kind == b"dref")
    old_size = dref.size - 16  # without the header, the version and the count of entries
    changed = bytearray(mp4)
    for box in found:
        if box.start <= dref.start < box.start + box.size:
            changed[box.start : box.start + 4] = (box.size + len(entry) - old_size).to_bytes(4, "big")
    changed[dref.start + 16 : dref.start + dref.size] = entry
    return bytes(changed)


@dataclass
class Witness:
    """What was touched since the last look."""

    connections: list[str] = field(default_factory=list)
    port: int = 0
    _inotify: int = -1

    def touched(self) -> list[str]:
        """Ports that were connected to and files that were opened, since the last call."""
        found, self.connections[:] = list(self.connections), []
        with contextlib.suppress(BlockingIOError):
            if os.read(self._inotify, 1 << 16):
                found.append("the file")
        return found


@contextlib.contextmanager
def witness(target: Path) -> Iterator[Witness]:
    """Watches `target` for being opened, and a port of this machine for connections, to which it says nothing."""
    libc = ctypes.CDLL(None, use_errno=True)
    inotify = libc.inotify_init1(os.O_NONBLOCK)
    with socket.create_server(("127.0.0.1", 0)) as server:
        seen = Witness(port=server.getsockname()[1], _inotify=inotify)

        def accept() -> None:
            while True:
                try:
                    connection, address = server.accept()
                except OSError:
                    return
                seen.connections.append(f"port, from {address}")
                connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            if libc.inotify_add_watch(inotify, os.fsencode(target), 0x20) < 0:  # IN_OPEN
                raise OSError(ctypes.get_errno(), "inotify_add_watch")
            yield seen
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            os.close(inotify)
