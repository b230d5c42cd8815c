"""A real RTSP server, on Debian's GStreamer: `/usr/bin/python3 rtsp_server.py PORT`. Prints a line when it listens.

It shows one colour, so that a model that tells colours has one long event. Nothing of tenclip is imported here: the
system's Python runs it.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PICTURES = (
    "( videotestsrc is-live=true pattern=solid-color foreground-color={color} "
    "! video/x-raw,width=64,height=48,framerate=20/1 "
    "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 "
    "! rtph264pay name=pay0 pt=96 config-interval=1 )"
)
SOUND = "( audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay0 pt=8 )"


def main() -> None:
    port = sys.argv[1]
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    for path, launch in (("/red", PICTURES.format(color="0xffc81e00")), ("/sound", SOUND)):
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(launch)
        factory.set_shared(True)
        server.get_mount_points().add_factory(path, factory)
    if not server.attach(None):
        sys.exit(f"cannot listen on {port}")
    print("listening", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
