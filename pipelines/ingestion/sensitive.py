"""Finding card numbers and US social security numbers in text.

A card number is 13–19 digits that stand alone and pass the Luhn check. Spaces and hyphens may
group them in any way; other signs only as cards are printed (4-4-4-4 and the like), for dates,
versions and sums have such signs as well. A social security number is three, two and four digits
with separators and none of the never-issued areas, groups and serials. Nine bare digits count only
where a column, a key or a word names them so: elsewhere they are too often something else.

Digits that letters touch are mostly part of a hash or of a processor's reference. They count only
where a word such as `PAN` or `card` leads to them and an issuer could have given them.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator

import polars as pl

from pipelines.errors import CardlineError

# Polars and `re` both read these: no look-around. Digits are ASCII, see `_plain`.
_BEFORE = r"(?:^|[^0-9A-Za-z]|[G-Zg-z][A-Fa-f]*)"
_AFTER = r"(?:$|[^0-9A-Za-z]|[A-Fa-f]*[G-Zg-z])"
_SIGN = r"[\s._/-]{1,3}"
_BARE = r"[0-9]{13,19}"
_GROUPED = r"[0-9](?:[ -]{0,2}[0-9]){12,18}"
_PRINTED = (
    rf"[0-9]{{4}}{_SIGN}(?:[0-9]{{4}}{_SIGN}(?:[0-9]{{5}}|[0-9]{{4}}{_SIGN}[0-9]{{1,4}}"
    rf"(?:{_SIGN}[0-9]{{1,3}})?)|[0-9]{{6}}{_SIGN}[0-9]{{4,5}})"
)
_SCIENTIFIC = r"[0-9]\.[0-9]{12,18}[eE]\+?1[2-8]"
_SSN = r"[0-9]{3}[\s._/-]{1,2}[0-9]{2}[\s._/-]{1,2}[0-9]{4}"
_BEFORE_SSN = r"(?:^|[^0-9A-Za-z-]|[G-Zg-z][A-Fa-f]*-?)"
_AFTER_SSN = r"(?:$|[^0-9A-Za-z-]|[A-Fa-f]*[G-Zg-z])"
_NAMED = r"(?:[Ss][Ss][Nn]|[Ss]ocial.?[Ss]ecurity|SOCIAL.?SECURITY|[Tt][Aa][Xx]_?[Ii][Dd])"
_NAMED_SSN = rf"{_NAMED}[^0-9,]{{0,24}}[0-9]{{7,9}}(?:$|[^0-9])"
# In a column named for them: the whole value, or one of a list or an object.
_BARE_SSN = r"""(?:^[\s'"=#]*|[\[:,]\s*"?)([0-9](?:[ -]?[0-9]){6,8})(?:\.0*)?['"\s]*(?:$|[,\]}])"""
_UNPLAIN = r"[\\\x{80}-\x{10FFFF}]"
_CANDIDATE = (
    rf"{_BEFORE}(?:{_GROUPED}|{_PRINTED}){_AFTER}|{_SCIENTIFIC}"
    rf"|{_BEFORE_SSN}{_SSN}{_AFTER_SSN}|{_NAMED_SSN}"
)
_SSN_COLUMN = re.compile(r"ssn|social_?security|tax_?id", re.IGNORECASE)
# A digit a month: one in ten of those of 13 to 19 months passes the check.
_HISTORY = "payment_history"
SHORTEST, SHORTEST_NAMED = len("ssn1234567"), len("1234567")
"""Bytes of what may be a number, and where the column says what it is."""
_NEVER_ISSUED_AREAS = ("000", "666")
CARD_NUMBER, SOCIAL_SECURITY_NUMBER = "a card number", "a social security number"

_GROUPED_PATTERN = re.compile(rf"{_BEFORE}({_GROUPED}){_AFTER}")
_CARD_PATTERNS = (
    re.compile(rf"{_BEFORE}({_BARE}){_AFTER}"),
    re.compile(rf"{_BEFORE}({_PRINTED}){_AFTER}"),
    _GROUPED_PATTERN,
    re.compile(rf"(?:^|[^0-9A-Za-z])({_SCIENTIFIC})"),
)
_SSN_PATTERN = re.compile(rf"{_BEFORE_SSN}({_SSN}){_AFTER_SSN}", re.ASCII)
_KEYED_SSN_PATTERN = re.compile(
    rf"{_NAMED}[^\":,]*\"\s*:[^0-9,]{{0,24}}(?<![0-9A-Za-z])([0-9]{{7,9}})(?:\.0*)?"
    r"(?:$|[^0-9A-Za-z.])"
)
_SPOKEN_SSN_PATTERN = re.compile(
    r"(?:^|[^a-z])(?:ssn|social.?security)(?:[^0-9,]{0,23}[^0-9a-f,])?([0-9]{9})(?:$|[^0-9a-z])",
    re.IGNORECASE,
)
_BARE_SSN_PATTERN = re.compile(_BARE_SSN)
_NINE_DIGITS = re.compile(r"\d(?:[\W_]{0,3}\d){8}")
_UUID = re.compile(
    r"(?<![0-9A-Za-z])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![0-9A-Za-z])"
)
_INVOICE = re.compile(r"[0-9]{3}[._/](?:0[1-9]|1[0-2])[._/](?:19|20)[0-9]{2}")
_WORDS = "(?:(?:pan|cards?|cc|visa|mastercard|amex|debit|credit)(?:no|nr|num|number)?)"
_CARD_WORDS = re.compile(f"{_WORDS}+", re.IGNORECASE)
_ISSUED = re.compile(
    r"4[0-9]{12}(?:[0-9]{3}){0,2}|(?:5[0-9]|2[2-7]|35|6[0-9]|8[12])[0-9]{14}"
    r"|3[47][0-9]{13}|3[0689][0-9]{12}|(?:5[06-8]|6[0-9])[0-9]{11,17}"
)
# As `_may_touch` has it, for all candidates at once: references may be as many as rows.
_LIKELY = (
    rf"(?:^|[^0-9A-Za-z])(?:{_GROUPED}|{_PRINTED})(?:$|[^0-9A-Za-z])"
    rf"|(?i:{_WORDS})(?:{_GROUPED}|{_PRINTED}){_AFTER}|{_SCIENTIFIC}"
    rf"|{_BEFORE_SSN}{_SSN}{_AFTER_SSN}|{_NAMED_SSN}"
)
# What may be either once its signs are read as ASCII: those beyond it stand in many names.
_ANY_SIGN = r"[\s._/\x{80}-\x{10FFFF}-]"
_UNREAD = (
    rf"\d(?:{_ANY_SIGN}{{0,3}}\d){{12}}|\d{{3}}{_ANY_SIGN}{{1,3}}\d{{2}}{_ANY_SIGN}{{1,3}}\d{{4}}"
    rf"|{_NAMED}[^,]{{0,24}}\d{{7}}"
)
_ESCAPES = (
    (r"\\+u(?:003|[fF][fF]1|066|06[fF])[0-9]", "0"),
    (r"\\+(?:u[0-9a-fA-F]{4}|[nrtbf])", " "),
)
_SIGNS = (
    (r"\p{Cf}", ""),
    (r"\p{Zs}", " "),
    (r"[\p{Pd}\x{2212}]", "-"),
    (r"[\d--[0-9]]", "0"),
)


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the Luhn check digit of the others."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit)
        if position % 2:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return total % 10 == 0


def is_card_number(text: str) -> bool:
    """Whether `text`, a run of digits that may be grouped, is a card number."""
    digits = _digits(text)
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and passes_luhn(digits)


def is_social_security_number(text: str) -> bool:
    """Whether `text`, nine digits that may be separated, can be a social security number."""
    digits = _digits(text)
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return (
        len(digits) == 9
        and area not in _NEVER_ISSUED_AREAS
        and area[0] != "9"
        and group != "00"
        and serial != "0000"
    )


def find_sensitive(values: pl.Series) -> str | None:
    """What a text column holds that must not land: a description without the value, or None."""
    # One pass for all kinds, and none over values that are all too short to be any.
    is_named = _SSN_COLUMN.search(values.name) is not None
    longest = values.str.len_bytes().max()
    if not isinstance(longest, int) or longest < (SHORTEST_NAMED if is_named else SHORTEST):
        return None
    named = f"|{_BARE_SSN}" if is_named else ""
    is_candidate = values.str.contains(f"{_CANDIDATE}{named}|{_UNPLAIN}")
    if not is_candidate.any():
        return None
    candidates = values.filter(is_candidate)
    likely = candidates.filter(_read(candidates, is_named).str.contains(f"{_LIKELY}{named}"))
    for text in likely.unique(maintain_order=True):
        for what, start, end in _found_in(text, is_named):
            if values.name != _HISTORY or _is_issued(_plain(text)[start:end]):
                return what
    return None


def _read(texts: pl.Series, is_named: bool) -> pl.Series:
    """`texts` with other signs as ASCII where they may make a number; other digits become 0."""
    is_unplain = texts.str.contains(_UNPLAIN)
    if not is_unplain.any():
        return texts
    read = texts.set(~is_unplain, None)
    unread = rf"{_UNREAD}|(?:\d\D{{0,2}}){{7}}" if is_named else _UNREAD
    if read.str.contains("\\", literal=True).any():
        for escape, plain in _ESCAPES:
            read = read.str.replace_all(escape, plain)
    read = read.set(~read.str.contains(unread), None)
    if read.null_count() < len(read):
        read = read.str.normalize("NFKC")
        for sign, plain in _SIGNS:
            read = read.str.replace_all(sign, plain)
    return texts.zip_with(~is_unplain, read)


def find_in_name(name: str) -> str | None:
    """What a file's or folder's name holds that must not be told, or None.

    Moments and serials are common in names: only a card number that an issuer could have given
    counts, and a social security number with hyphens or spaces.
    """
    if _NINE_DIGITS.search(name) is None:
        return None
    for what, start, end in _found_in(name, False):
        number = _plain(name)[start:end]
        if what == CARD_NUMBER and _is_issued(number):
            return what
        if what == SOCIAL_SECURITY_NUMBER and not re.search(r"[._/]", number):
            return what
    return None


def masked(text: str) -> str:
    """`text` with every card and social security number in it replaced by what it is."""
    spans = sorted((start, end, what) for what, start, end in _found_in(text, False))
    if not spans:
        return text
    text = _plain(text)
    parts: list[str] = []
    position = 0
    for start, end, what in spans:
        if end <= position:
            continue
        if start >= position:
            parts.append(text[position:start])
            parts.append(f"[{what.removeprefix('a ')}]")
        position = end
    return "".join([*parts, text[position:]])


def require_tokens(name: str, values: Iterable[str | None]) -> None:
    """Raise `CardlineError`, which names no value, where texts hold what must not be kept."""
    what = find_sensitive(pl.Series(name, list(values), pl.String))
    if what is not None:
        raise CardlineError(f"{name} holds {what}: send the token that stands for it")


def _digits(text: str) -> str:
    mantissa = re.split("[eE]", text)[0]
    return re.sub(r"[^0-9]", "", mantissa)


def _found_in(text: str, is_named: bool) -> Iterator[tuple[str, int, int]]:
    """What is found and where in `_plain(text)`; in a column that is named for it, bare as well."""
    plain = _plain(text)
    # The groups of a UUID may all be decimal.
    searched = _UUID.sub(lambda match: "x" * len(match.group()), plain)
    for pattern in _CARD_PATTERNS:
        for start, end in _spans(pattern, searched):
            if is_card_number(searched[start:end]) and _may_touch(searched, start, end):
                yield CARD_NUMBER, start, end
    for start, end in _spans(_SSN_PATTERN, searched):
        number = searched[start:end]
        if is_social_security_number(number) and not _INVOICE.fullmatch(number):
            yield SOCIAL_SECURITY_NUMBER, start, end
    named = [_KEYED_SSN_PATTERN, _SPOKEN_SSN_PATTERN, *([_BARE_SSN_PATTERN] if is_named else [])]
    for pattern in named:
        for start, end in _spans(pattern, searched):
            # A number in a table has lost the zeros that it began with.
            if is_social_security_number(_digits(searched[start:end]).zfill(9)):
                yield SOCIAL_SECURITY_NUMBER, start, end


def _may_touch(text: str, start: int, end: int) -> bool:
    """Whether the letters next to the digits, if any, leave them a card number.

    References are letters and digits, and one in ten passes the check: after letters digits count
    only where these say that it is a card's and an issuer could have given the number.
    """
    before = re.search(r"[A-Za-z]*$", text[max(0, start - 40) : start])
    word = before.group() if before else ""
    if not word and not text[end : end + 1].isalpha():
        return True
    return _CARD_WORDS.fullmatch(word) is not None and _is_issued(text[start:end])


def _is_issued(number: str) -> bool:
    """Whether an issuer could have given `number`, by how it begins and how long it is."""
    return _ISSUED.fullmatch(_digits(number)) is not None


def _spans(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    """Where the digits of all candidates stand; what ends one may begin the next."""
    position = 0
    while match := pattern.search(text, position):
        yield match.span(1)
        # Printed groups of four may follow other four digits: a year, say.
        position = match.end(1) if pattern is _GROUPED_PATTERN else match.start(1) + 1


def _plain(text: str) -> str:
    """`text` with the digits, blanks and dashes of all scripts as ASCII, and JSON escapes read."""
    if "\\" in text:
        text = re.sub(r"\\+u([0-9a-fA-F]{4})", lambda match: chr(int(match.group(1), 16)), text)
        text = re.sub(r"\\+[nrtbf]", " ", text)
    if text.isascii():
        return text
    return "".join(map(_plain_sign, unicodedata.normalize("NFKC", text)))


def _plain_sign(sign: str) -> str:
    if sign.isascii():
        return sign
    if sign.isdecimal():
        return str(unicodedata.decimal(sign))
    kind = unicodedata.category(sign)
    if kind == "Pd" or sign == "\N{MINUS SIGN}":
        return "-"
    if kind == "Cf":
        return ""
    if kind == "Zs":
        return " "
    return sign
