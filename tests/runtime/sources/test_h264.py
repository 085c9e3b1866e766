"""H.264 pictures that never arrived are noticed by their numbers, whatever the encoder did; whole streams have none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_edge.errors import SourceError
from sp_edge_runtime.sources.h264 import Gaps
from sp_edge_runtime.sources.recorded import VideoFileSource
from videos import COUNT, make, number_in

av = pytest.importorskip("av")

PLAIN = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "12")
WAYS = {
    "plain.mkv": (*PLAIN, "-bf", "0"),
    "b-frames.mp4": (*PLAIN, "-bf", "3", "-b-pyramid", "normal"),
    "byte-stream.ts": (*PLAIN, "-bf", "2"),
    "raw.h264": (*PLAIN, "-bf", "0"),
    "fields.mkv": (*PLAIN, "-flags", "+ildct+ilme", "-x264-params", "tff=1", "-bf", "0"),
    "slices.mkv": (*PLAIN, "-x264-params", "slices=4:cqm=jvt", "-bf", "2"),
    "planes.mkv": ("-c:v", "libx264", "-pix_fmt", "yuv444p", "-g", "12", "-x264-params", "cqm=jvt", "-bf", "2"),
    "refresh.mkv": (*PLAIN, "-x264-params", "intra-refresh=1", "-bf", "0"),
    "baseline.mp4": (*PLAIN, "-profile:v", "baseline", "-bf", "0"),
}


def packets(path: Path) -> tuple[bytes, list[bytes]]:
    """The stream's parameter sets, and its packets."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        every = [bytes(packet) for packet in container.demux(video) if packet.size]
        return video.codec_context.extradata or b"", every


@pytest.mark.parametrize("name", WAYS)
def test_every_lost_picture_on_which_others_are_built_is_noticed(name: str, tmp_path: Path) -> None:
    extradata, every = packets(make(tmp_path / name, *WAYS[name]))
    whole = Gaps(extradata)
    assert not any(map(whole.before, every))
    unnoticed = []
    for lost in range(1, len(every) - 1):
        gaps = Gaps(extradata)
        told = [place for place, packet in enumerate(every) if place != lost and gaps.before(packet)]
        assert told in ([], [lost + 1])
        unnoticed += [] if told else [lost]
    if (
        WAYS[name][-1] == "0" or WAYS[name][WAYS[name].index("-bf") + 1] == "0"
    ):  # all others are built on each picture, until the next key frame
        assert unnoticed == ([] if "refresh" in name else [11])
    assert len(unnoticed) < 2 * COUNT // 3


def test_what_is_built_on_a_lost_picture_is_left_out(tmp_path: Path) -> None:
    path, holed = make(tmp_path / "whole.mkv", *WAYS["plain.mkv"]), tmp_path / "holed.mkv"
    with av.open(str(path)) as source, av.open(str(holed), "w") as target:
        video = source.streams.video[0]
        copy = target.add_stream_from_template(video)
        for place, packet in enumerate(source.demux(video)):
            if packet.size and place != 5:
                packet.stream = copy
                target.mux(packet)
    seen = []
    with pytest.raises(SourceError, match="is damaged") as caught:
        for frame in VideoFileSource(holed):
            seen.append(number_in(frame.image_rgb))  # noqa: PERF401 - those before the error count
    assert seen == [*range(5), *range(12, COUNT)]
    assert "7 damaged ones left out" in caught.value.got


def golomb(value: int) -> str:
    written = f"{value + 1:b}"
    return "0" * (len(written) - 1) + written


def signed(value: int) -> str:
    return golomb(2 * value - 1 if value > 0 else -2 * value)


def unit(head: int, bits: str) -> bytes:
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    content = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
    return b"\0\0\1" + bytes([head]) + content.replace(b"\0\0", b"\0\0\3")


def of_sequence(order: str, *, gaps: str, profile: int = 66, more: str = "", bits: int = 5, name: int = 0) -> bytes:
    """A sequence's parameter set: numbers of five bits, the order of pictures in one of three ways."""
    start = f"{profile:08b}" + "0" * 16 + golomb(name) + more + golomb(bits - 4)
    return unit(0x67, start + order + golomb(4) + gaps)


def of_picture(name: int = 0, sequence: int = 0) -> bytes:
    """A picture's parameter set."""
    return unit(0x68, golomb(name) + golomb(sequence) + "00")


def parameters(order: str, *, gaps: str, profile: int = 66, more: str = "", bits: int = 5) -> bytes:
    """The parameter sets of a stream that has one of each kind."""
    return of_sequence(order, gaps=gaps, profile=profile, more=more, bits=bits) + of_picture()


def picture(number: int, head: int = 0x61, *, bits: int = 5, name: int = 0) -> bytes:
    """One that is built on others (0x61), by the picture's parameter set of that name; 0x65: a key frame."""
    return unit(head, golomb(0) * 2 + golomb(name) + f"{number:0{bits}b}" + "10110")


def sized(content: bytes, length: int) -> bytes:
    """Units behind their length, a number of so many bytes, instead of behind start codes."""
    return b"".join(len(one).to_bytes(length, "big") + one for one in content.split(b"\0\0\1")[1:])


def header(*sequences: bytes, pictures: tuple[bytes, ...], size: int = 4) -> bytes:
    """An MP4's: version, profile (3 bytes), size of lengths less 1, how many sets of sequences, these, those of pictures."""
    counted = [bytes([more | len(units)]) + sized(b"".join(units), 2) for more, units in ((0xE0, sequences), (0, pictures))]
    return b"\x01\x42\0\x1e" + bytes([0xFC | size - 1]) + b"".join(counted)  # ISO/IEC 14496-15, 5.3.3.1


ORDERS = {
    "by itself": golomb(0) + golomb(3),
    "in a cycle": golomb(1) + "0" + signed(-7) + signed(2) + golomb(3) + signed(1) + signed(-1) + signed(4),
    "in the longest cycle": golomb(1) + "1" + signed(1) * 2 + golomb(255) + signed(1 - (1 << 31)) * 255,
    "as decoded": golomb(2),
}
# Two lists end early, as their next value would be 0 (of 256); the sixth, of 16 values, and the seventh, of 64, are whole.
STEPS = signed(3) + signed(-3)
LISTS = "1" + signed(5) + signed(-3) + signed(-10) + "1" + signed(127) + signed(121) + "0" * 3
LISTS += "1" + STEPS * 8 + "1" + STEPS * 32
HIGH = golomb(1) + golomb(0) * 2 + "0" + "1" + LISTS + "0"
# Of colors in full there are twelve lists, the last of them whole.
FULL = golomb(2) + golomb(1) + "0" + "1" + LISTS + "0" * 4 + "1" + STEPS * 32
PROFILES = [*((profile, "") for profile in (66, 77, 88)), (100, HIGH), (244, golomb(3) + "0" + FULL)]
HIGHER = [(profile, golomb(0) * 3 + "00") for profile in (44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244)]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("profile", "more"), PROFILES + HIGHER)
def test_parameters_as_the_standard_writes_them(order: str, profile: int, more: str) -> None:
    for gaps, told in (("0", [False, False, False, True, False, False, True]), ("1", [False] * 7)):
        known = Gaps(parameters(ORDERS[order], gaps=gaps, profile=profile, more=more))
        # One that nothing is built on (0x01) has the number of the next; 31 is followed by 0.
        every = [picture(29), picture(30), picture(31, 0x01), picture(3), picture(3), picture(4), picture(6)]
        assert [known.before(one) for one in every] == told
    around = Gaps(parameters(ORDERS[order], gaps="0", profile=profile, more=more))
    assert [around.before(picture(number)) for number in (31, 0, 1)] == [False] * 3
    assert not around.before(picture(0, 0x65)), "a key frame begins anew"


def told(gaps: Gaps, *every: bytes) -> list[bool]:
    return [gaps.before(one) for one in every]


def test_planes_that_are_coded_apart_stand_before_the_number() -> None:
    gaps = Gaps(parameters(ORDERS["by itself"], gaps="0", profile=244, more=golomb(3) + "1" + FULL))
    every = [unit(0x61, golomb(0) * 3 + f"{plane:02b}{number:05b}" + "1011") for number in (1, 2, 4, 5) for plane in range(3)]
    assert told(gaps, *every) == [number == 6 for number in range(12)]


PARAMETERS = parameters(ORDERS["as decoded"], gaps="0")


@pytest.mark.parametrize("weight", [0x20, 0x40, 0x60])
def test_pictures_on_which_none_is_built_leave_the_numbers_alone(weight: int) -> None:
    some = weight | 1
    assert told(Gaps(PARAMETERS), picture(1, some), picture(2, 1), picture(2, 1), picture(2, some), picture(4, some)) == [
        *[False] * 4, True,
    ]  # fmt: skip
    assert told(Gaps(PARAMETERS), picture(1, some), picture(2, 1), picture(3, some)) == [False, False, True]
    # A loss is told once, at the first picture that comes after it, around the largest number, too.
    for late, last in ((5, 6), (0, 1)):
        every = [picture(1, some), picture(late, 1), picture(late, some), picture(last, 1)]
        assert told(Gaps(PARAMETERS), *every) == [False, True, False, False]


@pytest.mark.parametrize("bits", [4, 8, 12, 16])
def test_numbers_go_around(bits: int) -> None:
    most = (1 << bits) - 1
    every = [picture(number, bits=bits) for number in (most - 1, most, 0, 1, 3, most)]
    gaps = Gaps(parameters(ORDERS["as decoded"], gaps="0", bits=bits))
    assert told(gaps, *every) == [False, False, False, False, True, True]


def test_what_cannot_be_read_is_not_called_missing() -> None:
    assert told(Gaps(None), picture(1), picture(9)) == [False] * 2
    assert told(Gaps(b""), PARAMETERS + picture(1), picture(9)) == [False, True], "parameters may come with a picture"
    cut = PARAMETERS[:6]
    assert told(Gaps(PARAMETERS), picture(1), cut, picture(9)) == [False] * 3, "parameters that say nothing"
    again = PARAMETERS + picture(9)
    assert told(Gaps(PARAMETERS), picture(1), cut, picture(7), again, picture(11)) == [*[False] * 4, True]
    unknown = picture(5, name=1)
    assert told(Gaps(PARAMETERS), picture(1), unknown, picture(9), picture(11)) == [False, False, False, True]
    short = b"\0\0\1\x61" + bytes([0b11010001])  # three of the number's five bits
    assert told(Gaps(PARAMETERS), picture(1), short, picture(9), picture(11)) == [False, False, False, True]
    for broken in (of_sequence(ORDERS["as decoded"], gaps="0", name=32), of_picture(256)):
        for healed in (of_sequence(ORDERS["as decoded"], gaps="0"), of_picture()):
            told_there = told(Gaps(PARAMETERS), picture(1), broken, picture(9), healed + picture(11), picture(13))
            assert told_there == [*[False] * 4, broken[3] == healed[3]], "a number that no set has breaks one kind alone"
    other = b"\0\0\1\x09\xf0"  # the mark between two pictures
    assert told(Gaps(PARAMETERS), picture(1), other, other + picture(3)) == [False, False, True]
    assert told(Gaps(PARAMETERS), picture(1), picture(3) + picture(9), picture(4)) == [False, True, False], "a second slice"


@pytest.mark.parametrize("size", [1, 2, 4])
def test_units_behind_their_length(size: int) -> None:
    of_a_sequence = of_sequence(ORDERS["as decoded"], gaps="0")
    every = [sized(one, size) for one in (picture(1), PARAMETERS + picture(2), picture(4, 0x65), picture(6))]
    whole = header(of_a_sequence, pictures=(of_picture(),), size=size)
    for more in (b"", b"\xfd\xf8\xf8\0"):  # as the standard's high profiles add
        assert told(Gaps(whole + more), *every) == [False, False, False, True]
        assert told(Gaps(whole + more), *(bytes(size) + one for one in every)) == [False, False, False, True]
    cut = [bytes(size), (9).to_bytes(size, "big"), bytes(size) + (9).to_bytes(size, "big")]  # behind a length
    assert told(Gaps(whole), *every[:1], *cut, *every[1:]) == [*[False] * 6, True]
    every = [sized(one, size) for one in (picture(1), PARAMETERS + picture(2), picture(4))]
    for bare in (header(pictures=(), size=size), header(of_a_sequence, pictures=(), size=size), whole[:-1]):
        assert told(Gaps(bare), *every) == [False, False, True]
    start = header(pictures=(), size=size)[:6]
    assert told(Gaps(start), picture(1), PARAMETERS + picture(2), picture(4)) == [False, False, True], "a byte stream"


@pytest.mark.parametrize("first", [0, 1])
def test_a_picture_names_which_of_several_parameter_sets_it_follows(first: int) -> None:
    sequences = [of_sequence(ORDERS["as decoded"], gaps="0", bits=bits, name=name) for name, bits in ((0, 4), (1, 8))]
    pictures = of_picture(0, 0), of_picture(5, 1), of_picture(2, 0)
    in_order = [sequences[first], sequences[1 - first]]
    byte_stream = Gaps(b"".join((*in_order, *pictures)))
    for gaps, length in ((byte_stream, 0), (Gaps(header(*in_order, pictures=pictures)), 4)):
        long = [picture(number, head, bits=8, name=5) for number, head in ((0, 0x65), (1, 0x61), (2, 0x61), (18, 0x61))]
        short = [picture(number, head, bits=4, name=2) for number, head in ((0, 0x65), (1, 0x61), (3, 0x61), (4, 0x61))]
        others = [picture(5, bits=4), picture(7, bits=4)]
        every = long + short + others
        assert told(gaps, *(sized(one, length) if length else one for one in every)) == [
            *(False, False, False, True), *(False, False, True, False), *(False, True),
        ]  # fmt: skip


@given(st.binary(max_size=80), st.lists(st.binary(max_size=60), max_size=4))
def test_any_bytes(extradata: bytes, every: list[bytes]) -> None:
    for start in (b"", b"\x01\x64\x00\x1f\xff\xe1\x00\x09\x67", b"\0\0\1\x67"):
        gaps = Gaps(start + extradata)
        for packet in every:
            assert gaps.before(packet) in (True, False)
            gaps.before(b"\0\0\1\x67" + packet)
            gaps.before(b"\0\0\1\x41" + packet)
