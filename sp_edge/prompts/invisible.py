"""Takes out of text what nobody sees: it makes one name look like another, or two look like one."""

from __future__ import annotations

import re
import unicodedata

# Format characters that show, or place what shows: signs of Arabic, Syriac and Kaithi numbers, Egyptian hieroglyphs.
_SHOWN = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x13430, 0x13440)}
_JOINERS = {0x200C, 0x200D}  # which emoji, Persian and the scripts of India need
_FLAG = re.compile("(\U0001f3f4[\U000e0020-\U000e007f]+)")  # that of England, for instance, is spelt with controls
_JOINED = re.compile("([^\u200c\u200d]?)([\u200c\u200d]+)(?=(.?))")


def without_unseen(text: str) -> str:
    """The text without marks of direction, characters of no width, soft hyphens, and other controls that nobody sees."""
    if text.isascii():
        return text
    parts = _FLAG.split(text)  # every second one is a flag
    return "".join(part if place % 2 else "".join(filter(_is_seen, part)) for place, part in enumerate(parts))


def without_idle_joiners(text: str) -> str:
    """The text with joiners only where they can have an effect: one at a time, between characters beyond ASCII."""
    return _JOINED.sub(lambda found: found[1] + ("" if found[1].isascii() or found[3].isascii() else found[2][0]), text)


def _is_seen(character: str) -> bool:
    return unicodedata.category(character) != "Cf" or ord(character) in _SHOWN | _JOINERS
