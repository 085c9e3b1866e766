import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_edge.errors import SourceError
from sp_edge_runtime.sources.address import distinct, is_name, redact, redact_within, source_kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("0", "camera"),
        ("12", "camera"),
        ("/dev/video1", "camera"),
        ("v4l2:///dev/video1", "camera"),
        ("v4l2://1", "camera"),
        ("/dev/v4l/by-id/usb-046d_HD_Pro-video-index0", "camera"),
        ("csi://0", "csi"),
        ("test://", "test"),
        ("test://?fail=3", "test"),
        ("rtsp://cam/1", "stream"),
        ("RTSPS://cam/1", "stream"),
        ("http://cam/video.mjpg", "stream"),
        ("https://cam", "stream"),
        ("videotestsrc ! videoconvert ! appsink", "gstreamer"),
        ("rtspsrc location=rtsp://cam/1 ! decodebin !appsink name=x", "gstreamer"),
        ("./0", "file"),
        ("-1", "file"),
        ("0.mp4", "file"),
        ("2026", "file"),
        ("shots/*.jpg", "file"),
        ("c:/videos", "file"),
        ("½", "file"),
        ("what ! a file", "file"),
    ],
)
def test_kinds(text: str, kind: str) -> None:
    assert source_kind(text) == kind


@pytest.mark.parametrize("text", ["ftp://user:secret@host/a.mp4", "file:///a.mp4", "csi://a:secret@x", "csi://", "v4l2://x"])
def test_addresses_that_are_not_supported(text: str) -> None:
    with pytest.raises(SourceError, match=r"not supported|no such camera") as caught:
        source_kind(text)
    assert "secret" not in str(caught.value)
    assert "://" in caught.value.expected


ALL = "v4l2://, csi://, test://, rtsp://, rtsps://, http://, https://"


@pytest.mark.parametrize(
    ("text", "expected", "got"),
    [
        ("", "a camera, stream, video, picture, folder or glob", "''"),
        (" \n", "a camera, stream, video, picture, folder or glob", r"' \n'"),
        ("csi://a:secret@x", "for instance csi://0", "csi://***@x"),
        ("CSI://100", "for instance csi://0", "CSI://100"),
        ("v4l2://" + "x" * 300, "for instance v4l2:///dev/video0", "v4l2://" + "x" * 193),
        ("ftp://user:secret@host", ALL, "ftp://"),
        ("Tests://?fail=3", ALL, "Tests://"),
    ],
)
def test_what_is_said_of_addresses_that_are_none(text: str, expected: str, got: str) -> None:
    with pytest.raises(SourceError) as caught:
        source_kind(text)
    assert (caught.value.expected, caught.value.got) == (expected, got)


@given(st.text(max_size=400))
def test_any_text_is_a_kind_or_our_error(text: str) -> None:
    try:
        kind = source_kind(text)
    except SourceError:
        return
    if kind == "file" and not set(text) & set(":="):
        assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://admin:secret@10.0.0.7:554/live", "rtsp://***@10.0.0.7:554/live"),
        ("rtsp://admin@10.0.0.7/live", "rtsp://***@10.0.0.7/live"),
        ("rtsp://10.0.0.7/live", "rtsp://10.0.0.7/live"),
        ("http://cam/v?user=admin&pwd=secret&c=1", "http://cam/v?***"),
        ("http://cam/v?secret", "http://cam/v?***"),
        ("http://u:se/cr@et@cam/v#secret", "http://***@cam/v#***"),
        ("http://u:se?cr@et@cam/v", "http://***"),
        ("http://cam/v?token=se@cret", "http://***"),
        ("http://cam/v;secret", "http://cam/v;***"),
        ("rtsp://cam/user=admin_password=secret_channel=1.sdp", "rtsp://cam/user=***"),
        (
            "rtspsrc location=rtsp://admin:secret@cam/1 user-id=admin user-pw='se cret' latency=0 ! appsink",
            "rtspsrc location=rtsp://***@cam/1 user-id=*** user-pw=*** latency=0 ! appsink",
        ),
        ('souphttpsrc location="http://cam/?secret" ! appsink', 'souphttpsrc location="http://cam/?***" ! appsink'),
        ("src location=rtsp://a:secret@cam!appsink", "src location=rtsp://***@cam!appsink"),
        ("test://?fail=3", "test://?fail=3"),
        ("photo@home.jpg", "photo@home.jpg"),
        ("0", "0"),
        # What is mistyped is shown in the error that says so.
        (" rtsp://admin:se cret@cam/1", "rtsp://***@cam/1"),
        ("rtsp:/admin:secret@cam/1", "rtsp://***@cam/1"),
        ("rtsp:admin:secret@cam/1", "***@cam/1"),
        ("admin:secret@cam:554/1", "***@cam:554/1"),
        (
            "rtspsrc location=rtsp://admin:secret@cam/1 user-pw=secret ! fakesink",
            "rtspsrc location=rtsp://***@cam/1 user-pw=*** ! fakesink",
        ),
        ("c:/videos", "c:/videos"),
    ],
)
def test_redact(text: str, shown: str) -> None:
    assert redact(text) == shown


@given(
    password=st.text("0123456789/:?#@&=%.~;äß ", min_size=3),
    place=st.sampled_from(["user", "query", "both"]),
    scheme=st.sampled_from(["rtsp://", " rtsp://", "rtsp:/"]),
)
def test_no_password_survives(password: str, place: str, scheme: str) -> None:
    user = "" if place == "query" else f"admin:{password}@"
    query = "" if place == "user" else f"?token={password}"
    shown = redact(f"{scheme}{user}cam/live{query}")
    assert not set(shown) & set("0123456789%~äß ")
    assert "admin" not in shown


@pytest.mark.parametrize(
    "said",
    [
        "401 for rtsp://admin:s%40cret@cam/live?key=abc",
        "user admin, password s%40cret",
        "password s@cret is wrong",
        "GET /live?key=abc failed",
    ],
)
def test_what_a_library_says_is_shown_without_credentials(said: str) -> None:
    shown = redact_within(said, "rtsp://admin:s%40cret@cam/live?key=abc")
    assert not any(secret in shown for secret in ("admin", "s%40cret", "s@cret", "abc"))
    assert redact_within("no such device", "/dev/video0") == "no such device"
    pipeline = "rtspsrc location=rtsp://cam/1 user-pw=topsecret ! appsink"
    assert "topsecret" not in redact_within("syntax error near user-pw=topsecret", pipeline)


@pytest.mark.parametrize(
    ("address", "said", "shown"),
    [
        ("rtsp://admin:pass@cam/1", "rtsp://admin:pass@cam/1: 401", "rtsp://***@cam/1: 401"),
        ("rtsp://admin:pass@cam/1", "no user admin with pass at cam", "no user *** with *** at cam"),
        ("rtsp://admin:admin2@cam/1", "user admin, password admin2", "user ***, password ***"),
        ("rtsp://admin:pa:ss@cam/1", "pa:ss is wrong", "*** is wrong"),
        ("rtsp://ad%40min@cam/1", "user ad@min, ad%40min", "user ***, ***"),
        ("http://cam/1?a=b#c", "GET /1?a=b#c", "GET /1?***"),
        ("http://cam/1;a=b", "no /1;a=b", "no /1;***"),
        ("http://cam/1?", "GET /1", "GET /1"),
        (
            "src user-pw='se cret' location=rtsp://admin:pass@c/d ! appsink",
            "'se cret' at rtsp://admin:pass@c/d",
            "'***' at ***",
        ),
        ("src location=rtsp://cam/1 ! appsink", "rtsp://cam/1: 404", "rtsp://cam/1: 404"),
    ],
)
def test_of_what_a_library_says_the_credentials_alone_are_hidden(address: str, said: str, shown: str) -> None:
    assert redact_within(said, address) == shown


def test_names_that_are_taken_get_a_number() -> None:
    assert distinct(["a", "b", "a", "a (2)", "a"]) == ["a", "b", "a (2)", "a (2) (2)", "a (3)"]
    assert distinct([]) == []


@pytest.mark.parametrize("name", ["door", "door 2", "入口"])
def test_a_name_of_a_source(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\0", 3, None, b"door"])
def test_what_is_no_name_of_a_source(name: object) -> None:
    assert not is_name(name)
