"""A note's text in, the same without the sections that a rule excludes out: text that states the outcome is not read.

A section begins with a heading: what stands before a colon at the beginning of a line, within 【】 or behind #
signs, or a short line in capitals. It ends at the next heading. A phrase that states the outcome wherever it stands
takes its line along.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from models.errors import ConfigError

_HEADING = re.compile(
    r"""^\s*(?:
        \#+\s*(?P<hash>.{1,60}?)\s*\#*$
      | 【(?P<bracket>[^】]{1,60})】
      | (?P<colon>[^:\n]{1,120}?)\s*:
      | (?P<capitals>[A-Z][A-Z0-9 /&,()-]{2,59})$
    )""",
    re.VERBOSE,
)


class SectionRule:
    r"""Which sections and lines are left out.

    Args:
        exclude: phrases; a section is left out whose heading holds one of them as whole words, whatever the case.
        exclude_lines: phrases; a line is left out that holds one of them, in its heading or behind it.

    Raises:
        ConfigError: for an empty phrase.

    Example:
        >>> SectionRule(["discharge"]).kept("Plan: fluids\nDischarge diagnosis: dead\n at 9 pm\nExam: clear")
        'Plan: fluids\nExam: clear'
        >>> SectionRule([], ["comfort care"]).kept("Plan: comfort care only\nExam: clear")
        'Exam: clear'
    """

    def __init__(self, exclude: Sequence[str], exclude_lines: Sequence[str] = ()) -> None:
        self.exclude, self.exclude_lines = tuple(exclude), tuple(exclude_lines)
        if any(not phrase.strip() for phrase in self.exclude):
            raise ConfigError("notes.exclude must hold words of headings, got an empty text; remove it")
        if any(not phrase.strip() for phrase in self.exclude_lines):
            raise ConfigError("notes.exclude_lines must hold words of lines, got an empty text; remove it")
        self._headings, self._phrases = _any_of(self.exclude), _any_of(self.exclude_lines)
        self._anywhere = tuple(_plain(phrase) for phrase in (*self.exclude, *self.exclude_lines))

    def kept(self, text: str) -> str:
        """The text without the excluded sections and lines; empty where nothing is left."""
        if not self._anywhere:
            return text
        whole = _plain(text)
        # Most notes hold none of the phrases, and need not be read line by line.
        if not any(phrase in whole for phrase in self._anywhere):
            return "\n".join(text.splitlines())
        lines: list[str] = []
        excluded = False
        for line in text.splitlines():
            heading = _heading(line)
            if heading is not None:
                excluded = self._headings is not None and self._headings.search(heading) is not None
            if not excluded and (self._phrases is None or not self._phrases.search(_plain(line))):
                lines.append(line)
        return "\n".join(lines)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _any_of(phrases: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(_whole_words(_plain(phrase)) for phrase in phrases)) if phrases else None


def _whole_words(phrase: str) -> str:
    """Whole words where words have edges: a Japanese phrase is found within a heading."""
    before = r"(?<![a-z0-9])" if phrase[0].isascii() else ""
    after = r"(?![a-z0-9])" if phrase[-1].isascii() else ""
    return before + re.escape(phrase) + after


def _heading(line: str) -> str | None:
    found = _HEADING.match(unicodedata.normalize("NFKC", line))
    if found is None:
        return None
    return _plain(next(text for text in found.groups() if text is not None))
