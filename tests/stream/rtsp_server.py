"""An RTSP server for tests: loops an H.264 video at /live. Run by the system's Python.

    /usr/bin/python3 rtsp_server.py VIDEO PORT

Prints "ready" once it listens. Its own file, because GStreamer's bindings are Debian packages and
not in the environment of the tests. The video is sent as it is: no encoder takes the cores.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

FORMAT = "video/x-h264,stream-format=byte-stream,alignment=au"


def pictures_of(video: str) -> list:
    """Return (bytes, presentation, decoding time in ns) of every coded picture."""
    pipeline = Gst.parse_launch(
        f'filesrc location="{video}" ! qtdemux ! h264parse config-interval=-1 '
        f"! {FORMAT} ! appsink name=sink sync=false"
    )
    sink = pipeline.get_by_name("sink")
    pipeline.set_state(Gst.State.PLAYING)
    found = []
    while (sample := sink.emit("pull-sample")) is not None:
        buffer = sample.get_buffer()
        found.append((buffer.extract_dup(0, buffer.get_size()), buffer.pts, buffer.dts))
    pipeline.set_state(Gst.State.NULL)
    return found


class Loop:
    """Feeds a media's source with the pictures, over and over, with times that go on."""

    def __init__(self, pictures: list) -> None:
        self.pictures = pictures
        step = (pictures[-1][2] - pictures[0][2]) // (len(pictures) - 1)
        self.length = pictures[-1][2] - pictures[0][2] + step

    def configure(self, _factory: object, media: object) -> None:
        """Begin anew for a media that the first client has asked for."""
        source = media.get_element().get_by_name("source")
        source.connect("need-data", self.push, [0])

    def push(self, source: object, _size: int, count: list) -> None:
        """Give the next picture."""
        turn, number = divmod(count[0], len(self.pictures))
        data, shown, decoded = self.pictures[number]
        buffer = Gst.Buffer.new_wrapped(data)
        buffer.pts, buffer.dts = shown + turn * self.length, decoded + turn * self.length
        count[0] += 1
        source.emit("push-buffer", buffer)


def main() -> None:
    """Serve until killed."""
    video, port = sys.argv[1:3]
    Gst.init(None)
    loop = Loop(pictures_of(video))
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        f'( appsrc name=source format=time max-bytes=100000 caps="{FORMAT}" ! h264parse '
        "! rtph264pay name=pay0 pt=96 config-interval=-1 )"
    )
    factory.set_shared(True)
    factory.connect("media-configure", loop.configure)
    server.get_mount_points().add_factory("/live", factory)
    if server.attach(None) == 0:
        sys.exit(f"cannot listen at port {port}")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
