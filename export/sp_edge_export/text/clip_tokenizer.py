"""open_clip's tokenizer as a file of the library tokenizers, so that a device needs neither torch nor ftfy."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from sp_edge.errors import ExportError

BEGIN, END = "<start_of_text>", "<end_of_text>"
# As in CLIP's published code: contractions, words, single digits, and what is left.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
# Rust's lower case knows no context: a capital sigma that ends a word has a form of its own.
_LAST_SIGMA = r"(?<=\p{L})\u03a3(?![\p{Mn}\u2019']*\p{L})"


def clip_tokenizer(original: Any) -> Tokenizer:
    """The tokenizer that gives the ids of an open_clip `SimpleTokenizer`, its marks of beginning and end included.

    Of what ftfy mends there, what it makes of single characters is kept (curly quotes, ligatures, full-width letters). Text
    that was once decoded wrongly ('cafÃ©') and HTML's entities ('&eacute;') are taken as they stand.

    Raises:
        ExportError: the original is no such tokenizer.
    """
    try:
        vocabulary: dict[str, int] = dict(original.encoder)
        merges = [(a, b) for a, b in original.bpe_ranks]
        ends = [(token, vocabulary[token]) for token in (BEGIN, END)]
    except (AttributeError, KeyError, ValueError) as cause:
        raise ExportError("cannot convert CLIP's tokenizer", expected="open_clip's SimpleTokenizer", got=str(cause)) from cause
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=END, end_of_word_suffix="</w>", fuse_unk=False))
    tokenizer.normalizer = normalizers.Sequence(
        [
            *(normalizers.Replace(odd, plain) for odd, plain in _mended().items()),
            normalizers.NFC(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Replace(Regex(_LAST_SIGMA), "\u03c2"),
            normalizers.Lowercase(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A {END}", special_tokens=ends)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token, _ in ends])
    return tokenizer


def _mended() -> dict[str, str]:
    """What ftfy makes of each single character that it changes and that a name may hold."""
    from ftfy import fixes

    mended = {}
    for odd in map(chr, [*range(0xA0, 0xD800), *range(0xE000, 0x10000)]):
        plain = fixes.fix_character_width(fixes.fix_latin_ligatures(fixes.remove_control_chars(odd)))
        mended[odd] = fixes.uncurl_quotes(plain)
    return {odd: plain for odd, plain in mended.items() if plain != odd}
