"""Notices H.264 pictures that never arrived: FFmpeg's decoder shows what is built on them without a word."""

from __future__ import annotations

from dataclasses import dataclass

_SLICE, _IDR, _SPS = 1, 5, 7
_HIGH = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}  # profiles whose parameters tell the color format
_HEAD = 48  # bytes of a slice that hold its number, with room to spare


class _Bits:
    """Reads a NAL unit's bits (ITU-T H.264, 7.3 and 9.1), without the bytes that keep start codes out of it.

    Raises:
        ValueError: it ends before.
    """

    def __init__(self, unit: bytes) -> None:
        content = unit[1:].replace(b"\0\0\3", b"\0\0")
        self._bits, self._left = int.from_bytes(content, "big"), 8 * len(content)

    def read(self, count: int) -> int:
        """An unsigned number of so many bits."""
        self._left -= count
        return self._bits >> self._left & ((1 << count) - 1)  # a shift by less than nothing raises the ValueError

    def golomb(self) -> int:
        """An unsigned Exp-Golomb number."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)

    def signed(self) -> int:
        """A signed Exp-Golomb number."""
        code = self.golomb()
        return (code + 1) // 2 if code % 2 else -(code // 2)


@dataclass(frozen=True)
class _Parameters:
    """What a sequence's parameter set says of the numbers of its pictures."""

    number_bits: int
    planes: bool
    gaps_allowed: bool

    @classmethod
    def read(cls, unit: bytes) -> _Parameters:
        """A parameter set (7.3.2.1.1); raises ValueError where it is cut."""
        bits = _Bits(unit)
        profile, planes = bits.read(8), False
        bits.read(16)
        bits.golomb()
        if profile in _HIGH:
            chroma = bits.golomb()
            planes = chroma == 3 and bool(bits.read(1))
            bits.golomb()
            bits.golomb()
            bits.read(1)
            if bits.read(1):
                for place in range(12 if chroma == 3 else 8):
                    if bits.read(1):
                        _pass_scaling(bits, 16 if place < 6 else 64)
        number_bits = 4 + bits.golomb()
        order = bits.golomb()
        if order == 0:
            bits.golomb()
        elif order == 1:
            bits.read(1)
            bits.signed()
            bits.signed()
            for _ in range(bits.golomb()):
                bits.signed()
        bits.golomb()
        return cls(number_bits, planes, bool(bits.read(1)))


def _pass_scaling(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


class Gaps:
    """Tells of each packet of an H.264 stream, in the order of decoding, whether a picture before it is missing.

    Pictures that others are built on are counted (frame_num, 7.4.3); a number that is left out was lost, unless the stream says
    that it leaves some out. Where the numbers cannot be read nothing is missing.

    Args:
        extradata: of the stream: its parameter sets, as an MP4 or as a byte stream holds them.
    """

    def __init__(self, extradata: bytes | None) -> None:
        extradata = extradata or b""
        self._length = (extradata[4] & 3) + 1 if len(extradata) > 6 and extradata[0] == 1 else 0
        self._parameters: _Parameters | None = None
        self._latest: int | None = None  # of the last picture that others may be built on
        first = _sized(extradata[6:], 2)[:1] if self._length else _started(extradata)
        for unit in first:
            self._learn(unit)

    def before(self, packet: bytes) -> bool:
        """Whether a picture is missing before this packet's."""
        for unit in _sized(packet, self._length) if self._length else _started(packet):
            kind, counts = unit[0] & 31, bool(unit[0] & 0x60)
            if kind == _SPS:
                self._learn(unit)
            elif kind in (_SLICE, _IDR):
                return self._missing(unit, idr=kind == _IDR, counts=counts)
        return False

    def _missing(self, unit: bytes, *, idr: bool, counts: bool) -> bool:
        known = self._parameters
        if known is None:
            return False
        try:
            bits = _Bits(unit[:_HEAD])
            for _ in range(3):
                bits.golomb()
            if known.planes:
                bits.read(2)
            number = bits.read(known.number_bits)
        except ValueError:
            self._latest = None
            return False
        most, before = 1 << known.number_bits, self._latest
        missing = not (idr or before is None or known.gaps_allowed or number in (before, (before + 1) % most))
        if counts:
            self._latest = number
        elif missing:
            self._latest = (number - 1) % most
        return missing

    def _learn(self, unit: bytes) -> None:
        if unit[0] & 31 == _SPS:
            try:
                self._parameters = _Parameters.read(unit)
            except ValueError:
                self._parameters = None


def _sized(content: bytes, length: int) -> list[bytes]:
    """Units that stand behind their length, a number of so many bytes."""
    units, at = [], 0
    while at + length < len(content):
        size = int.from_bytes(content[at : at + length], "big")
        at += length
        if size:
            units.append(content[at : at + size])
        at += size
    return units


def _started(content: bytes) -> list[bytes]:
    """Units that stand behind start codes."""
    return [unit for unit in content.split(b"\0\0\1")[1:] if unit]
