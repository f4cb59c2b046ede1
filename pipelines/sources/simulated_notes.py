"""Severity at the minutes of notes in, short English or Japanese nursing notes out.

Words depend on severity, so that notes carry what a network can learn; a few notes hold an invented
name that belongs to one patient alone, so that the vocabulary's guard against names, and the scan for
identifiers, have work to do: a run that reads these notes has to allow `name` under `[identifiers]`, as
`configs/demo.toml` does.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from models.stay import Floats, Ints

NAME_SHARE = 0.06
LEVELS = 5


class Language(StrEnum):
    """Language of the notes; `both` draws one of the two for every stay."""

    ENGLISH = "en"
    JAPANESE = "ja"
    BOTH = "both"


# domain -> severity level, mild to grave -> wordings of equal meaning
_ENGLISH: tuple[tuple[tuple[str, ...], ...], ...] = (
    (
        ("Breathing easily on room air.", "No shortness of breath, lungs clear."),
        ("Slightly short of breath on exertion.", "Shallow breathing after mobilisation, settles at rest."),
        ("Oxygen by nasal cannula, moderate secretions.", "Productive cough, oxygen 3 L by cannula."),
        ("Tachypnoeic, oxygen requirement rising.", "Laboured breathing, mask oxygen increased."),
        ("Severe respiratory distress, physician called.", "Exhausted, using accessory muscles, intubation discussed."),
    ),
    (
        ("Skin warm and dry, pulse regular.", "Haemodynamically stable, good perfusion."),
        ("Blood pressure a little low, drinking well.", "Pulse slightly fast, no complaints."),
        ("Extremities cool, fluid bolus given.", "Blood pressure labile, fluids running."),
        ("Hypotensive despite fluids, vasopressor started.", "Mottled knees, noradrenaline increased."),
        ("Cold and mottled, vasopressors at high rate.", "Refractory shock, lactate rising."),
    ),
    (
        ("Awake and oriented, reading.", "Alert, talks with visitors."),
        ("Tired but oriented.", "Slept most of the shift, answers well."),
        ("Drowsy, opens eyes to voice.", "Intermittently confused, reoriented."),
        ("Agitated and disoriented.", "Responds to pain only at times."),
        ("Unresponsive to voice.", "Comatose, pupils sluggish."),
    ),
    (
        ("Eats well, walked in the corridor.", "Planned for the ward tomorrow."),
        ("Ate half of the meal, sits in the chair.", "Some pain, paracetamol given."),
        ("No appetite, stays in bed.", "Urine output falling, to be watched."),
        ("Oliguric, diuretic without effect.", "Febrile with rigors, cultures taken."),
        ("Anuric, dialysis considered.", "Family meeting held, prognosis poor."),
    ),
)

_JAPANESE: tuple[tuple[tuple[str, ...], ...], ...] = (
    (
        ("室内気で呼吸平静。", "息切れなし、肺音清。"),
        ("労作時に軽度の息切れあり。", "離床後に浅い呼吸、安静で改善。"),
        ("経鼻酸素投与中、痰中等量。", "湿性咳嗽あり、酸素3Lカニューラ。"),
        ("頻呼吸、酸素需要増加。", "努力呼吸あり、マスク酸素増量。"),
        ("重度の呼吸困難、医師へ報告。", "呼吸補助筋使用、挿管を検討。"),
    ),
    (
        ("皮膚温かく乾燥、脈拍整。", "循環動態安定、末梢循環良好。"),
        ("血圧やや低め、飲水良好。", "脈拍やや速いが訴えなし。"),
        ("四肢冷感あり、補液施行。", "血圧不安定、輸液継続中。"),
        ("補液にても低血圧、昇圧剤開始。", "膝に網状皮斑、ノルアドレナリン増量。"),
        ("四肢冷感著明、昇圧剤高用量。", "難治性ショック、乳酸値上昇。"),
    ),
    (
        ("意識清明、見当識あり。読書して過ごす。", "覚醒良好、面会者と会話。"),
        ("倦怠感あるが見当識保たれる。", "入眠がちだが返答良好。"),
        ("傾眠、呼名で開眼。", "時に混乱あり、声かけで落ち着く。"),
        ("不穏、見当識障害あり。", "時に痛み刺激のみに反応。"),
        ("呼名に反応なし。", "昏睡、対光反射緩慢。"),
    ),
    (
        ("食事全量摂取、廊下を歩行。", "明日一般病棟へ転棟予定。"),
        ("食事半量、椅子に座って過ごす。", "疼痛あり、アセトアミノフェン投与。"),
        ("食欲なし、床上で過ごす。", "尿量減少傾向、経過観察。"),
        ("乏尿、利尿薬の効果なし。", "悪寒戦慄を伴う発熱、培養採取。"),
        ("無尿、透析を検討。", "家族面談施行、予後不良と説明。"),
    ),
)

_PHRASES = {Language.ENGLISH: _ENGLISH, Language.JAPANESE: _JAPANESE}
_FAMILY = {Language.ENGLISH: "Family of {name} informed.", Language.JAPANESE: "{name}様の家族へ連絡。"}
_SYLLABLES = {
    Language.ENGLISH: [
        "ba",
        "ce",
        "dov",
        "fel",
        "gri",
        "hus",
        "jov",
        "kel",
        "lun",
        "mav",
        "nor",
        "ost",
        "pav",
        "quil",
        "rov",
        "sev",
        "tul",
        "urn",
        "vex",
        "wol",
        "yst",
        "zar",
    ],
    Language.JAPANESE: [
        "阿久",
        "井良",
        "卯木",
        "江尾",
        "加瀬",
        "木原",
        "玖波",
        "気仙",
        "古座",
        "佐波",
        "志賀",
        "須磨",
        "瀬名",
        "曽良",
        "多摩",
        "知多",
        "都留",
        "手取",
        "十和",
        "奈須",
    ],
}


def note_texts(
    rng: np.random.Generator, severity: Floats, patient: Ints, japanese: NDArray[np.bool_]
) -> tuple[str, ...]:
    """One text a note.

    Args:
        rng: source of randomness.
        severity: (notes,) latent severity, about -3 to 4.
        patient: (notes,) index of the patient, which decides the invented name.
        japanese: (notes,) True = Japanese, False = English.

    Example:
        >>> note_texts(np.random.default_rng(1), np.array([3.0]), np.array([0]), np.array([False]))[0][-1]
        '.'
    """
    notes, domains = len(severity), len(_ENGLISH)
    heard = severity[:, None] + rng.normal(0.0, 0.7, (notes, domains))
    level = np.clip(np.rint(heard + 1.0), 0, LEVELS - 1).astype(np.int64)
    mentioned = rng.random((notes, domains)) < 0.6
    mentioned[np.arange(notes), rng.integers(0, domains, notes)] = True
    wording = rng.integers(0, 2, (notes, domains))
    named = rng.random(notes) < NAME_SHARE
    return tuple(
        _text(Language.JAPANESE if japanese[i] else Language.ENGLISH, level[i], wording[i], mentioned[i])
        + (_family(Language.JAPANESE if japanese[i] else Language.ENGLISH, int(patient[i])) if named[i] else "")
        for i in range(notes)
    )


def invented_name(language: Language, patient: int) -> str:
    """A name that belongs to one patient alone, made of syllables; no real person's."""
    syllables = _SYLLABLES[language]
    digits = []
    # A full-cycle multiplier scatters neighbouring patients, so that their names share no beginning.
    rest = (patient * 7919 + 104_729) % len(syllables) ** 4
    for _ in range(4):
        rest, digit = divmod(rest, len(syllables))
        digits.append(syllables[digit])
    return "".join(digits).capitalize()


def _text(language: Language, level: Ints, wording: Ints, mentioned: NDArray[np.bool_]) -> str:
    phrases = _PHRASES[language]
    separator = "" if language is Language.JAPANESE else " "
    return separator.join(phrases[d][level[d]][wording[d]] for d in np.flatnonzero(mentioned))


def _family(language: Language, patient: int) -> str:
    separator = "" if language is Language.JAPANESE else " "
    return separator + _FAMILY[language].format(name=invented_name(language, patient))
