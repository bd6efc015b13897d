"""Find the encoding of a text file, without guessing: an encoding that is not certain is an error that asks for it.

UTF-8 and a byte order mark decide by themselves. Else charset-normalizer proposes encodings, and one is taken only if nothing
else reads the bytes as a language too. Japanese and Korean are recognized by their scripts, and the two code pages of Latin
letters by the alphabets of their languages, as charset-normalizer often cannot tell those apart.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from vertical_sdk.errors import DataError, did_you_mean

__all__ = ["encoding_title", "find_encoding"]

MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
CANDIDATES = (
    "gb18030", "big5hkscs", "cp932", "euc_jp", "cp949", "cp1251", "koi8_r", "cp1250", "cp1252", "cp1253", "cp1254", "cp1255",
    "cp1256", "cp874",
)  # fmt: skip
TITLES = {
    "utf-8": "UTF-8",
    "utf-8-sig": "UTF-8",
    "utf-16": "UTF-16",
    "gb18030": "GB18030",
    "big5hkscs": "Big5",
    "cp932": "Shift JIS",
    "euc_jp": "EUC-JP",
    "cp949": "EUC-KR",
    "koi8_r": "KOI8-R",
    "cp1252": "Windows-1252 (Latin-1)",
}
ALPHABETS = {
    "cp1252": ("àâçèéêëîïôœùûü«»", "äöüß„“", "áéíñóúü¿¡", "áâãàçéêíóôõú", "àèéìíòóùú", "æøåéôòü", "åäöé", "éëïöüá"),
    "cp1254": ("çğıöşüâîû",),
    "cp1250": ("ąćęłńóśźż„”", "áčďéěíňóřšťúůýž„“", "áäčďéíĺľňóôŕšťúýž„“", "áéíóöőúüű„”", "čćđšž", "ăâîşţ"),
}
"""The letters of the languages that a code page is used for, in small letters."""
MARKS_OF_ALL = "’‘–—…“”€°§©®™«»·½²\xa0"
SAMPLE = 64 << 10
RECOGNIZED = 0.1
"""The coherence, by charset-normalizer, from which a text counts as one of a known language."""
AHEAD = 0.05
"""How much more coherent than the second the first encoding must be."""
ENOUGH = 40
"""Bytes beyond ASCII from which the coherence of a text counts."""
RARE = {"cp874", "cp1253", "cp1255", "cp1256"}
"""Encodings in which short Chinese texts may look like a language. They need ten times as many bytes."""

OF_NAMES = frozenset({"punycode", "idna"})
"""Codecs of Python for host names: they take more than linear time, and read no files."""


def encoding_title(encoding: str) -> str:
    """Return the name of an encoding for people."""
    return TITLES.get(encoding, encoding.replace("cp125", "Windows-125"))


def find_encoding(path: Path, declared: str | None = None) -> str:
    """Find the encoding of a text file. A byte order mark comes before the declared encoding.

    Raises DataError for bytes that the encoding cannot have, and for an encoding that is neither declared nor certain.
    """
    with path.open("rb") as file:
        head = file.read(4)
    marked = next((encoding for mark, encoding in MARKS if head.startswith(mark)), None)
    if marked or declared:
        encoding = marked or check_encoding(declared or "", path)
        problem = _first_bad_byte(path, encoding)
        if problem:
            byte, offset, line = problem
            raise DataError(
                f"byte {byte} at offset {offset} is not {encoding_title(encoding)}"
                f"{'' if marked else ', the declared encoding'}. Correct the file, or data.reader.encoding.",
                where=f"{path}:{line}",
            )
        return encoding
    problem = _first_bad_byte(path, "utf-8")
    if problem is None:
        return "utf-8"
    sample = _take_sample(path)
    encoding_found = None if _is_broken_utf8(sample) else _guess(sample)
    if encoding_found and _first_bad_byte(path, encoding_found) is None:
        return encoding_found
    byte, offset, line = problem
    raise DataError(
        f"byte {byte} at offset {offset} is not UTF-8, and the encoding cannot be recognized for certain. "
        "Save the file as UTF-8, or set data.reader.encoding: NAME, such as gb18030, big5, cp1252 or latin-1.",
        where=f"{path}:{line}",
    )


def check_encoding(name: str, where: str | Path) -> str:
    """Return the name by which Python knows a text encoding.

    Raises DataError for an unknown one. GBK and GB2312 become GB18030, which contains them; Latin-1 stays what it is.
    """
    try:
        info = codecs.lookup(name)
        "".encode(name)  # refuses codecs that are not of texts, such as base64
        if info.name in OF_NAMES:
            raise LookupError(name)
    except (LookupError, TypeError, ValueError):
        known = (
            "utf-8",
            "utf-16",
            "gb18030",
            "gbk",
            "big5",
            "shift_jis",
            "euc_jp",
            "euc_kr",
            "latin-1",
            "cp1250",
            "cp1251",
            "cp1252",
        )
        raise DataError(
            f"no encoding is called {name!r}.{did_you_mean(name, known)} Known are {', '.join(known)} and others of Python.",
            where=where,
        ) from None
    wider = {"gbk": "gb18030", "gb2312": "gb18030", "big5": "big5hkscs", "shift_jis": "cp932", "euc_kr": "cp949"}
    return wider.get(info.name, info.name)


def _first_bad_byte(path: Path, encoding: str) -> tuple[str, int, int] | None:
    """Find the first byte that the encoding cannot have: the byte, its offset, and its line. None if all is well."""
    decoder = codecs.getincrementaldecoder(encoding)()
    offset, line = 0, 1
    with path.open("rb") as file:
        while True:
            chunk = file.read(1 << 20)
            held = decoder.getstate()[0]
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                start = offset - len(held) + error.start
                line += (held + chunk)[: error.start].count(b"\n")
                return f"0x{error.object[error.start]:02x}", start, line
            if not chunk:
                return None
            offset += len(chunk)
            line += chunk.count(b"\n")


def _take_sample(path: Path) -> bytes:
    """Take lines that are not ASCII, from the start of the file, as far as they fit."""
    lines: list[bytes] = []
    size = 0
    with path.open("rb") as file:
        while size < SAMPLE and (line := file.readline(SAMPLE)):
            if not line.isascii():
                lines.append(line if line.endswith(b"\n") else line + b"\n")
                size += len(line)
    return b"".join(lines)


def _is_broken_utf8(sample: bytes) -> bool:
    """Whether most bytes beyond ASCII are valid UTF-8, so that the rest is damage and not another encoding."""
    valid = sample.decode("utf-8", errors="ignore").encode()
    beyond = sum(byte > 127 for byte in sample)
    return sum(byte > 127 for byte in valid) > 0.6 * beyond


def _guess(sample: bytes) -> str | None:
    """Return the encoding of bytes that are not UTF-8; None if two read them as different texts, or none as a language."""
    readings: dict[str, tuple[float, str]] = {}  # text → (coherence, encoding)
    for encoding, coherence in _propose(sample):
        try:
            text = sample.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding in ALPHABETS and not _fits_a_language(text, encoding):
            continue
        readings[text] = max(readings.get(text, (0.0, "")), (coherence, encoding))
    ranked = sorted(readings.values(), reverse=True)
    if not ranked or (len(ranked) > 1 and ranked[0][0] - ranked[1][0] < AHEAD):
        return None
    return ranked[0][1]


def _propose(sample: bytes) -> Iterator[tuple[str, float]]:
    """Propose encodings that read the bytes as a language, with a coherence from 0 to 1."""
    from charset_normalizer import from_bytes

    beyond = sum(byte > 127 for byte in sample)
    matches = {m.encoding: m.coherence for m in from_bytes(sample, cp_isolation=list(CANDIDATES), steps=10, chunk_size=1024)}
    latin = max((matches.get(encoding, 0.0) for encoding in ALPHABETS), default=0.0)
    for encoding, coherence in {**dict.fromkeys(ALPHABETS, latin), **matches}.items():
        enough = 0 if encoding in ALPHABETS else 10 * ENOUGH if encoding in RARE else ENOUGH
        if coherence >= RECOGNIZED and beyond >= enough:
            yield encoding, coherence
    for encoding, strict, script, share in (
        ("euc_jp", "euc_jp", "[\u3041-\u309f]", 0.2),
        ("cp932", "cp932", "[\u3041-\u309f]", 0.2),
        ("cp949", "euc_kr", "[\uac00-\ud7a3]", 0.9),
    ):
        try:
            letters = "".join(re.findall(r"[^\W\d_a-zA-Z]", sample.decode(strict)))
        except UnicodeDecodeError:
            continue
        if len(letters) > 9 and len(re.findall(script, letters)) >= share * len(letters):
            yield encoding, 0.5


def _fits_a_language(text: str, encoding: str) -> bool:
    """Whether all letters beyond ASCII are of one language that the code page is used for."""
    letters = {character for character in text.lower() if ord(character) > 127} - set(MARKS_OF_ALL)
    return any(letters <= set(alphabet) for alphabet in ALPHABETS.get(encoding, ()))
