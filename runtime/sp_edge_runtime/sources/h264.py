"""Notices H.264 pictures that never arrived: FFmpeg's decoder shows what is built on them without a word."""

from __future__ import annotations

from dataclasses import dataclass

_SLICE, _IDR, _SPS, _PPS = 1, 5, 7, 8
_HIGH = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}  # profiles whose parameters tell the color format
_SEQUENCES, _PICTURES = 32, 256  # parameter sets that a stream may hold
_HEAD = 48  # bytes of a slice that hold its number, with room to spare


class _Bits:
    """Reads a NAL unit's bits (ITU-T H.264, 7.3 and 9.1), without the bytes that keep start codes out of it.

    Raises:
        ValueError: it ends before.
    """

    def __init__(self, unit: bytes) -> None:
        content = unit[1:].replace(b"\0\0\3", b"\0\0")
        self._bits, self._at = "".join(f"{byte:08b}" for byte in content), 0

    def read(self, count: int) -> int:
        """An unsigned number of so many bits."""
        start, self._at = self._at, self._at + count
        if self._at > len(self._bits):
            raise ValueError
        return int(self._bits[start : self._at], 2)

    def golomb(self) -> int:
        """An unsigned Exp-Golomb number."""
        zeros = self._bits.index("1", self._at) - self._at
        self._at += zeros
        return self.read(zeros + 1) - 1

    def signed(self) -> int:
        """A signed Exp-Golomb number."""
        code = self.golomb()
        return (code + 1) // 2 if code % 2 else -(code // 2)


@dataclass(frozen=True)
class _Parameters:
    """What a sequence's parameter set says of the numbers of its pictures."""

    sequence: int
    number_bits: int
    planes: bool
    gaps_allowed: bool

    @classmethod
    def read(cls, unit: bytes) -> _Parameters:
        """A parameter set (7.3.2.1.1); raises ValueError where it is cut."""
        bits = _Bits(unit)
        profile, planes = bits.read(8), False
        bits.read(16)
        sequence = bits.golomb()
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
        return cls(sequence, number_bits, planes, bool(bits.read(1)))


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
        self._sequences: dict[int, _Parameters] = {}
        self._pictures: dict[int, int] = {}  # which sequence a picture's parameter set belongs to
        self._latest: int | None = None  # of the last picture that others may be built on
        for unit in _listed(extradata[5:]) if self._length else _started(extradata):
            self._learn(unit)

    def before(self, packet: bytes) -> bool:
        """Whether a picture is missing before this packet's."""
        for unit in _sized(packet, self._length) if self._length else _started(packet):
            kind, counts = unit[0] & 31, bool(unit[0] & 0x60)
            if kind in (_SPS, _PPS):
                self._learn(unit)
            elif kind in (_SLICE, _IDR):
                return self._missing(unit, idr=kind == _IDR, counts=counts)
        return False

    def _missing(self, unit: bytes, *, idr: bool, counts: bool) -> bool:
        try:
            bits = _Bits(unit[:_HEAD])
            bits.golomb()
            bits.golomb()
            known = self._sequences[self._pictures[bits.golomb()]]
            if known.planes:
                bits.read(2)
            number = bits.read(known.number_bits)
        except (KeyError, ValueError):
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
        kind = unit[0] & 31
        try:
            if kind == _SPS:
                parameters = _Parameters.read(unit)
                self._sequences[_within(parameters.sequence, _SEQUENCES)] = parameters
            elif kind == _PPS:
                bits = _Bits(unit)
                picture = _within(bits.golomb(), _PICTURES)
                self._pictures[picture] = bits.golomb()
        except ValueError:  # which one it replaces may be unknown
            (self._sequences if kind == _SPS else self._pictures).clear()


def _within(number: int, count: int) -> int:
    """A number below `count`; else the ValueError of what cannot be read."""
    if number < count:
        return number
    raise ValueError


def _listed(content: bytes) -> list[bytes]:
    """Parameter sets of an MP4's header (ISO/IEC 14496-15, 5.3.3.1): of sequences behind their count, then of pictures."""
    units, at = [], 0
    for most in (31, 255):  # the upper bits of the first count mean nothing
        count = int.from_bytes(content[at : at + 1], "big") & most
        at += 1
        for _ in range(count):
            size = int.from_bytes(content[at : at + 2], "big")
            units.append(content[at + 2 : at + 2 + size])
            at += 2 + size
    return [unit for unit in units if unit]


def _sized(content: bytes, length: int) -> list[bytes]:
    """Units that stand behind their length, a number of so many bytes."""
    units, at = [], 0
    while at < len(content):
        size = int.from_bytes(content[at : at + length], "big")
        at += length
        units.append(content[at : at + size])
        at += size
    return [unit for unit in units if unit]


def _started(content: bytes) -> list[bytes]:
    """Units that stand behind start codes."""
    return [unit for unit in content.split(b"\0\0\1")[1:] if unit]
