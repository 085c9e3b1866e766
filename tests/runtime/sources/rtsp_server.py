"""A camera that serves RTSP, for tests; run by the system's Python, which has GStreamer.

rtsp_server.py PORT WIDTH HEIGHT CODEC TRANSPORT: CODEC is jpeg, h264 or h265, TRANSPORT is tcp, udp or any. It shows colour
bars (and H.264 has sound), and after the line 'WIDTH HEIGHT' on standard input a red picture of that size. It prints 'ready',
and the transport that each client asks for. As with many cameras, all clients get the same stream, and none a key frame of its
own.
"""

import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

KEY_FRAMES = 40  # frames, at 20 a second
QUICK = f"tune=zerolatency speed-preset=ultrafast key-int-max={KEY_FRAMES}"
ENCODED = {
    "jpeg": ("jpegenc", "jpegenc name=encoder ! rtpjpegpay name=pay0"),
    # Two slices a frame. The byte stream holds the key frames' parameter sets; the payloader would repeat them between slices.
    "h264": (
        "x264enc",
        f"x264enc name=encoder threads=2 {QUICK} pass=quant quantizer=15 ! video/x-h264,stream-format=byte-stream "
        "! rtph264pay name=pay0 audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay1",
    ),
    "h265": ("x265enc", f"x265enc name=encoder {QUICK} ! video/x-h265,stream-format=byte-stream ! rtph265pay name=pay0"),
}
TRANSPORTS = {
    "tcp": GstRtsp.RTSPLowerTrans.TCP,
    "udp": GstRtsp.RTSPLowerTrans.UDP,
    "any": GstRtsp.RTSPLowerTrans.TCP | GstRtsp.RTSPLowerTrans.UDP,
}


def shape(width: str, height: str) -> str:
    return f"video/x-raw,format=I420,width={width},height={height},framerate=20/1"


def of_its_own(_: Gst.Pad, probe: Gst.PadProbeInfo) -> Gst.PadProbeReturn:
    """Drops what asks the encoder for a key frame."""
    asked = probe.get_event().get_structure()
    return Gst.PadProbeReturn.DROP if asked and asked.get_name() == "GstForceKeyUnit" else Gst.PadProbeReturn.OK


def configure(_: GstRtspServer.RTSPMediaFactory, media: GstRtspServer.RTSPMedia) -> None:
    medias.append(media)
    media.get_element().get_by_name("encoder").get_static_pad("src").add_probe(Gst.PadProbeType.EVENT_UPSTREAM, of_its_own)


def connected(_: GstRtspServer.RTSPServer, client: GstRtspServer.RTSPClient) -> None:
    client.connect("setup-request", asked_for)


def asked_for(_: GstRtspServer.RTSPClient, context: GstRtspServer.RTSPContext) -> None:
    print(context.request.get_header(GstRtsp.RTSPHeaderField.TRANSPORT, 0)[1], flush=True)


def obey() -> None:
    for line in sys.stdin:
        for media in medias:
            named = media.get_element().get_by_name
            named("picture").set_property("pattern", "red")
            named("size").set_property("caps", Gst.Caps.from_string(shape(*line.split())))


port, first_width, first_height, codec, transport = sys.argv[1:]
Gst.init(None)
needed, encoded = ENCODED[codec]
if not Gst.ElementFactory.find(needed):
    raise SystemExit(f"there is no {needed}")
medias: list[GstRtspServer.RTSPMedia] = []
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    "( videotestsrc name=picture is-live=true pattern=smpte100 "
    f"! capsfilter name=size caps={shape(first_width, first_height)} ! {encoded} )"
)
factory.set_shared(True)
factory.set_protocols(TRANSPORTS[transport])
factory.connect("media-configure", configure)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(port)
server.get_mount_points().add_factory("/cam", factory)
server.connect("client-connected", connected)
if not server.attach(None):
    raise SystemExit("the port is taken")
print("ready", flush=True)
threading.Thread(target=obey, daemon=True).start()
GLib.MainLoop().run()
