"""A text in, findings of people's names out: words beside a title or a label, and frequent names beside each other."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipelines.text.identifiers import names_en, names_ja
from pipelines.text.identifiers.kinds import Finding, IdentifierKind

# No longer than any name, and never from within a word, so that a long run of letters takes no quadratic time. Japanese
# text puts no space before a name: what counts is that no letter stands there.
_BEGINS = "(?<![A-Za-z])"
_WORD = r"(?!X+\b)[A-Z](?:['’][A-Z])?[A-Za-z-]{1,40}(?:['’]s)?"
_NAME = rf"(?:[A-WYZ]\.\s?)*{_WORD}(?:\s+[A-Z]\.)?(?:\s+{_WORD})?"
_LABEL = (
    r"(?:patient(?:'s)?\ name|name\ of\ (?:the\ )?patient|name|dictated\ by|signed(?:\ by)?|attending(?:\ physician)?|"
    r"referring\ physician|transcribed\ by|next\ of\ kin|emergency\ contact)"
)
_PARTICLES = r"(?:(?:van|von|de|den|der|del|della|di|da|du|la|le)\s+){0,3}"
_TITLED = re.compile(rf"{_BEGINS}(?:Mr|Mrs|Ms|Miss|Dr|Prof|Doctor|Nurse)\b\.?\s+{_PARTICLES}(?P<name>{_NAME})")
_LABELLED = re.compile(rf"{_BEGINS}(?i:{_LABEL})\s*:\s*(?P<name>{_NAME})")
_KIN = r"wife|husband|spouse|son|daughter|mother|father|brother|sister(?!\s+Mary\s+Joseph)"
# Whose kin someone is.
_OF_KIN = re.compile(rf"{_BEGINS}(?i:family|relatives|{_KIN})\ of\ (?P<name>{_NAME})")
# What kin is called.
_KIN_CALLED = re.compile(rf"{_BEGINS}(?i:{_KIN}),?\s+(?P<name>{_WORD})")
_WITH_DEGREE = re.compile(
    rf"{_BEGINS}(?P<name>{_WORD}(?:\s+[A-Z]\.?)?\s+{_WORD}),?\s+(?:M\.?D|D\.?O|Ph\.?D|R\.?N|N\.?P)\b"
)
_PAIR = re.compile(rf"{_BEGINS}(?P<first>{_WORD}),?(?:\s+[A-Z]\.?)?\s+(?=(?P<second>{_WORD}))")
_INITIAL = re.compile(rf"{_BEGINS}[A-Z]\.\s?(?:[A-Z]\.\s?)?(?P<second>{_WORD})")
# What stands for a name that was removed, and what a title or label introduces besides names.
_NO_NAME_TEXT = """
abc abcd abcde abcdef xyz xxx xxxx doe sample unknown none normal not see please and the this that
she he patient physician doctor nurse name first last brand drug procedure operation facility age
date time blood origin
"""
_NO_NAME = frozenset(_NO_NAME_TEXT.split())
# Devices, signs and methods are called after people too.
_EPONYM = re.compile(
    r"\s+(?:catheter|syndrome|disease|sign|test|score|scale|classification|procedure|method|technique|clamp|forceps|"
    r"retractor|drain|suture|incision|stain|position|criteria|maneuver|rod|pin|tube|knife|scissors|needle|graft|trial)"
)

_JAPANESE = re.compile("[ぁ-んァ-ヶ一-龥ｦ-ﾟ]")
_KANJI = "[一-龥々ヶ]"
_TITLE_JA = "(?:さん|様|氏|殿|先生|医師|医員|看護師|技師|君|くん|ちゃん)"
_BEFORE_TITLE_JA = re.compile(
    rf"(?P<name>{_KANJI}{{1,5}}\s?{_KANJI}{{0,4}})\s?(?:さん|氏(?!名)|殿(?!部|筋|裂)|先生)"
    # Behind a symptom the same letter means "like"; a person is what something is said of.
    rf"|(?<!{_KANJI})(?P<person>{_KANJI}{{2,4}})様(?=[はがをにと、。\s]|$)"
    rf"|(?<!{_KANJI})(?P<kin>{_KANJI}{{1,8}})様(?=のご?(?:家族|両親|妻|夫|娘|息子|母|父|兄|姉|弟|妹))"
)
_LABEL_JA = "(?:患者氏名|患者名|氏名|名前|主治医|担当医|執刀医|記載者|紹介医|キーパーソン)"
_LABELLED_JA = re.compile(rf"{_LABEL_JA}\s?[:は]\s?(?P<name>{_KANJI}{{1,5}}\s?{_KANJI}{{0,4}})")
# A name in kana of either width; hiragana beside the surest labels alone, as others are answered by なし.
_KATAKANA = "[ァ-ヶーｦ-ﾟ]"
_READING_JA = re.compile(
    rf"{_LABEL_JA}\s?:\s?{_KATAKANA}{{2,12}}(?:\s?{_KATAKANA}{{2,12}})?"
    rf"|(?:氏名|フリガナ|ﾌﾘｶﾞﾅ|ふりがな|カナ)\s?:\s?[ぁ-んァ-ヶーｦ-ﾟ]{{2,12}}(?:\s?[ぁ-んァ-ヶーｦ-ﾟ]{{2,12}})?"
)
_SURNAME_JA = "|".join(sorted(names_ja.SURNAMES, key=lambda name: (-len(name), name)))
_GIVEN_JA = "|".join(sorted(names_ja.GIVEN_NAMES, key=lambda name: (-len(name), name)))
_FULL_JA = re.compile(
    rf"(?:{_SURNAME_JA})\s?(?:{_GIVEN_JA})(?!{_KANJI})|(?:{_SURNAME_JA})\s?{_TITLE_JA}"
    rf"|(?<={_KANJI}{{2}}医)\s?(?:{_SURNAME_JA})(?!{_KANJI})"
)
_SPACED_JA = re.compile(rf"(?<!{_KANJI})(?:{_SURNAME_JA})\s{_KANJI}{{1,3}}(?!{_KANJI})")
# Words before a title that name nobody: kin, callings, and words that merely end like a title.
_NOBODY_JA = re.compile(
    r"(?:患者|家族|母|父|兄|姉|弟|妹|祖父|祖母|息子|娘|奥|嫁|孫|旦那|主人|主治医|担当医|医師|医者|看護師|薬剤師|技師|皆|客|"
    r"各位|王|神|子供|赤|何|同|多|一|異|模|仕|有|文|各|両|前|別|唯|左|右|上|下|薬屋|歯医者|先輩|友達|彼|担任|本人|"
    r"摂|華|セ|両|某|諸|当|担当|病院|保健室|学校|美人|隣|沢山|店員|お客|外|貴)$"
)


def find_names(narrowed: str) -> Iterator[Finding]:
    """Findings of names in either language, in any order; they may overlap.

    Args:
        narrowed: a text that `pipelines.text.identifiers.rules.narrow` made.
    """
    for start, end in (*_english(narrowed), *_japanese(narrowed)):
        yield Finding(start, end, IdentifierKind.NAME)


def _english(text: str) -> Iterator[tuple[int, int]]:
    for pattern in (_TITLED, _LABELLED, _OF_KIN, _WITH_DEGREE):
        for match in pattern.finditer(text):
            words = re.findall(r"[A-Za-z'’-]+", match["name"])
            if not any(_plain(word).lower() in _NO_NAME for word in words) and any(len(word) > 1 for word in words):
                yield match.span("name")
    for match in _KIN_CALLED.finditer(text):
        if _plain(match["name"]) in names_en.GIVEN_NAMES:
            yield match.span("name")
    for match in _PAIR.finditer(text):
        first, second = _plain(match["first"]), _plain(match["second"])
        comma = "," in match[0]
        given, surname = (second, first) if comma else (first, second)
        if given in names_en.GIVEN_NAMES and surname in names_en.SURNAMES and given != surname:
            yield match.start("first"), match.end("second")
    for match in _INITIAL.finditer(text):
        if _plain(match["second"]) in names_en.SURNAMES and not _EPONYM.match(text, match.end()):
            yield match.span()


def _plain(word: str) -> str:
    """The word as the lists write it: SMITH and Smith's are Smith."""
    bare = re.sub(r"['’]s$", "", word)
    return bare.capitalize() if bare.isupper() else bare


def _japanese(text: str) -> Iterator[tuple[int, int]]:
    if not _JAPANESE.search(text):
        return
    for match in _BEFORE_TITLE_JA.finditer(text):
        group = str(match.lastgroup)
        if not _NOBODY_JA.search(match[group].strip()):
            yield match.span(group)
    for pattern in (_LABELLED_JA, _READING_JA, _FULL_JA, _SPACED_JA):
        for match in pattern.finditer(text):
            yield match.span()
