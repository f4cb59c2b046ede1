"""A text in, findings of dates, telephones, record numbers, e-mail and postal addresses out: rules for both languages.

Rules read the text with full-width letters and digits made narrow, character by character, so that places hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipelines.text.identifiers.kinds import Finding, IdentifierKind
from pipelines.text.identifiers.names_ja import PREFECTURES

_NARROW = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20, 0x2010: 0x2D, 0x2212: 0x2D}
_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sep(?:t(?:ember)?)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)\.?"
)
_DAY, _NUMBER_OF_MONTH = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])"
_STATES = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|DC|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND|OH|OK|"
    "OR|PA|RI|SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY"
)
_NUMBERED = (
    r"MRN|SSN|social\ security|(?:medical\ )?record|chart|account|acct|accession|patient\ id|hospital\ id|insurance"
    r"|policy|member\ id|medicare|medicaid"
)
_NUMBERED_JA = (
    "患者番号|カルテ番号|カルテ(?=\\s?[Nn][Oo])|診察券番号|診察番号|診療録番号|患者ID|患者id|ID番号|登録番号|保険証番号|被保険者番号|保険者番号"
    "|受付番号|マイナンバー|個人番号"
)

_RULES: tuple[tuple[IdentifierKind, str], ...] = (
    # From the first character of the address alone: elsewhere a long run of letters would be read once a letter.
    (IdentifierKind.EMAIL, r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"),
    # 03/17/2008, 3-17-08, 2008-03-17, 2008.3.17
    (IdentifierKind.DATE, rf"(?<![\d/.-]){_NUMBER_OF_MONTH}([/-]){_DAY}\1(?:19|20)?\d\d(?![\d/-])"),
    (IdentifierKind.DATE, rf"(?<![\d/.-]){_DAY}([/.-]){_NUMBER_OF_MONTH}\1(?:19|20)\d\d(?![\d/-])"),
    (IdentifierKind.DATE, rf"(?<![\d/.-])(?:19|20)\d\d([/.-]){_NUMBER_OF_MONTH}\1{_DAY}(?![\d/-])"),
    # March 17, 2008; 17 March 2008; March 17th; March 2008
    (IdentifierKind.DATE, rf"\b{_MONTH}\s+{_DAY}(?:st|nd|rd|th)?\b(?!\s*(?:%|mg|to\b|/))(?:,?\s*(?:19|20)\d\d\b)?"),
    (IdentifierKind.DATE, rf"\b{_DAY}(?:st|nd|rd|th)?(?:\s+of)?\s+{_MONTH},?\s+(?:19|20)\d\d\b"),
    (IdentifierKind.DATE, rf"\b{_MONTH},?\s+(?:19|20)\d\d\b"),
    (
        IdentifierKind.DATE,
        rf"(?:(?:19|20)\d\d|(?:明治|大正|昭和|平成|令和)\s?(?:\d{{1,2}}|元))\s?年\s?{_NUMBER_OF_MONTH}\s?月"
        rf"(?:\s?{_DAY}\s?日)?",
    ),
    (IdentifierKind.DATE, rf"(?<!\d){_NUMBER_OF_MONTH}\s?月\s?{_DAY}\s?日"),
    (IdentifierKind.DATE, rf"(?<![A-Za-z0-9])(?:S[2-6]\d|H[1-3]?\d|R\d{{1,2}})\.{_NUMBER_OF_MONTH}\.{_DAY}(?!\.?\d)"),
    # (555) 123-4567, 555-123-4567, +1 555 123 4567; 03-1234-5678, 090-1234-5678
    (IdentifierKind.PHONE, r"(?<![\d-])(?:\+?1[-. ]?)?(?:\(\d{3}\)\s?|\d{3}[-.])\d{3}[-.]\d{4}(?![\d-])"),
    (
        IdentifierKind.PHONE,
        r"(?<![\d-])(?:\+81[- ]?|0(?=(?:[-()]?\d){9,10}(?!\d)))\d{1,4}[-(]\d{1,4}[-)]\d{3,4}(?![\d-])",
    ),
    (IdentifierKind.PHONE, r"(?<![\d.])0[789]0\d{8}(?!\d)"),
    (IdentifierKind.PHONE, r"(?<!\d)\(0\d{1,4}\)\s?\d{1,4}-\d{4}(?!\d)"),
    (IdentifierKind.PHONE, r"\+(?:[2-9]\d{0,2})(?:[- ]\d{2,5}){2,4}(?!\d)"),
    (
        IdentifierKind.PHONE,
        r"(?i:\b(?:tel|telephone|phone|cell|mobile|fax|pager)\b|電話(?:番号)?|携帯|ＦＡＸ|FAX)"
        r"(?:\s(?:number|no\.?|is))*[\s:.#]*\(?\d{3,5}\)?[-. ]?\d{2,4}[-. ]?\d{3,4}\b",
    ),
    # MRN 1234567, chart no. AB-12345, social security 123-45-6789
    (IdentifierKind.RECORD_NUMBER, r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"),
    (
        IdentifierKind.RECORD_NUMBER,
        rf"(?i:(?<![A-Za-z0-9])(?:{_NUMBERED})(?![A-Za-z]))(?i:\s*(?:number|no\.?|num|nr|id|is|was|\#|:|\.))*\s*"
        r"[A-Za-z]{0,3}-?\d[\d-]{3,}\d",
    ),
    (IdentifierKind.RECORD_NUMBER, rf"(?:{_NUMBERED_JA})\s?(?:は|:|;|\.|No\.?|#)*\s*[A-Za-z]{{0,3}}-?\d[\d-]{{3,}}"),
    (IdentifierKind.RECORD_NUMBER, r"(?<![A-Za-z])ID\s?[:#]\s?[A-Za-z]{0,3}-?\d[\d-]{3,}"),
    (IdentifierKind.RECORD_NUMBER, r"(?<![A-Za-z])ID\s?\d{6,}"),
    # 12 Oak Street, P.O. Box 12, Springfield, IL 62704; 〒100-0001, 東京都千代田区, 1丁目2番地
    (
        IdentifierKind.ADDRESS,
        r"\b\d{1,5}\s+(?:[NSEW]\.?\s+)?(?:[A-Z][a-z]+\s+){1,3}(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|"
        r"Blvd|Lane|Ln|Drive|Court|Ct|Terrace|Highway|Hwy|Parkway|Pkwy|Square|Sq)\b\.?",
    ),
    (IdentifierKind.ADDRESS, r"(?i:\bP\.?\s?O\.?\s?Box)\s+\d+"),
    (IdentifierKind.ADDRESS, rf"\b(?:{_STATES})\s+\d{{5}}(?:-\d{{4}})?(?!\d)"),
    (IdentifierKind.ADDRESS, r"〒\s?\d{3}-?\d{4}"),
    (IdentifierKind.ADDRESS, rf"(?:{'|'.join(PREFECTURES)})[\s]?[一-龥ぁ-んァ-ヶ]{{1,8}}?[市区町村郡]"),
    (
        IdentifierKind.ADDRESS,
        r"[一-龥ぁ-んァ-ヶ]{1,8}[市区町村][一-龥ぁ-んァ-ヶ]{0,10}\s?[0-9一二三四五六七八九十]+\s?(?:丁目|番地|-\d+-\d+)",
    ),
)
_COMPILED = tuple((kind, re.compile(pattern)) for kind, pattern in _RULES)


def narrow(text: str) -> str:
    """The text with full-width letters, digits and marks made narrow; as long as before."""
    return text.translate(_NARROW)


def find_by_rules(narrowed: str) -> Iterator[Finding]:
    """Findings of every rule, in any order; they may overlap.

    Args:
        narrowed: a text that `narrow` made.
    """
    for kind, pattern in _COMPILED:
        for match in pattern.finditer(narrowed):
            yield Finding(match.start(), match.end(), kind)
