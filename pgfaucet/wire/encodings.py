"""PostgreSQL's names of encodings, and the codecs that read them. Source: src/common/encnames.c."""

from __future__ import annotations

import re
from typing import Final

UTF8: Final = "utf-8"
_NOT_ALPHANUMERIC: Final = re.compile(r"[^a-z0-9]")
_CODECS: Final = {
    "big5": "cp950",
    "eucjis2004": "euc_jis_2004",
    "euccn": "gb2312",
    "eucjp": "euc_jp",
    "euckr": "euc_kr",
    "gb18030": "gb18030",
    "gbk": "cp936",
    "iso88595": "iso8859-5",
    "iso88596": "iso8859-6",
    "iso88597": "iso8859-7",
    "iso88598": "iso8859-8",
    "johab": "johab",
    "koi8": "koi8-r",
    "koi8r": "koi8-r",
    "koi8u": "koi8-u",
    "latin1": "iso8859-1",
    "latin2": "iso8859-2",
    "latin3": "iso8859-3",
    "latin4": "iso8859-4",
    "latin5": "iso8859-9",
    "latin6": "iso8859-10",
    "latin7": "iso8859-13",
    "latin8": "iso8859-14",
    "latin9": "iso8859-15",
    "latin10": "iso8859-16",
    "mskanji": "cp932",
    "shiftjis": "cp932",
    "shiftjis2004": "shift_jis_2004",
    "sjis": "cp932",
    "uhc": "cp949",
    "win866": "cp866",
    "win874": "cp874",
    **{f"win{number}": f"cp{number}" for number in range(1250, 1259)},
    **{f"windows{number}": f"cp{number}" for number in range(1250, 1259)},
    **{f"iso8859{number}": f"iso8859-{number}" for number in (1, 2, 3, 4, 9, 10, 13, 14, 15, 16)},
}


def codec_of(encoding: str) -> str:
    """Return the Python codec for a value of client_encoding; UTF-8 for UTF8, SQL_ASCII and what Python has no codec for."""
    if encoding in {"", "UTF8"}:
        return UTF8
    return _CODECS.get(_NOT_ALPHANUMERIC.sub("", encoding.lower()), UTF8)
