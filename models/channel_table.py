"""The declared channels and static variables; every source's values and every request's enter through them.

Canonical units are UCUM. A molar conversion needs the analyte, so it stands in the analyte's own row.

Limits: hard = the widest range in use by published pipelines (outside: rejected and counted); soft = the
narrowest (outside: kept and flagged). Rows marked "bound" have no published range: theirs is a bound that no
living patient or no laboratory's reporting range passes.

Source: LOINC codes and limits of mimic-code (MIT), mimic3-benchmarks and ricu's concept dictionary; SI factors
of the AMA Manual of Style's table.
"""

from __future__ import annotations

from models.channels import Channel, Conversion, StaticKind, StaticVariable
from models.errors import ConfigError, DataError

_SAME = Conversion()
_PERCENT = {"1": Conversion(100.0)}
_MMHG = {"kPa": Conversion(7.50062)}
_PER_LITRE = {"10*9/L": _SAME, "/uL": Conversion(1e-3)}
_MONOVALENT = {"meq/L": _SAME}  # one charge per ion: a milliequivalent is a millimole
_MASS_G_DL = {"g/L": Conversion(0.1)}
_SCORE = {"1": _SAME}
_ENZYME = {"[IU]/L": _SAME, "[iU]/L": _SAME}
_TROPONIN = {"ug/L": _SAME, "ng/L": Conversion(1e-3)}


def _si(factor: float) -> dict[str, Conversion]:
    """Millimoles a litre of a quantity whose conventional value times `factor` is the SI value."""
    return {"mmol/L": Conversion(1.0 / factor)}


_VITAL_SIGNS = (
    Channel(
        "heart_rate",
        "/min",
        (0, 390),
        ("8867-4",),
        (0, 300),
        {"{beats}/min": _SAME, "{Beats}/min": _SAME},
        "Heart rate",
    ),
    Channel("respiratory_rate", "/min", (0, 120), ("9279-1",), (0, 70), {"{breaths}/min": _SAME}, "Respiratory rate"),
    Channel("spo2", "%", (0, 100), ("59408-5", "2708-6"), (50, 100), _PERCENT, "Oxygen saturation, pulse oximetry"),
    Channel(
        "temperature",
        "Cel",
        (10, 50),
        ("8310-5",),
        (32, 42),
        {"[degF]": Conversion(5.0 / 9.0, -160.0 / 9.0)},
        "Body temperature",
    ),
    Channel("sbp", "mm[Hg]", (0, 400), ("8480-6",), (0, 300), _MMHG, "Systolic blood pressure"),
    Channel("dbp", "mm[Hg]", (0, 300), ("8462-4",), (0, 200), _MMHG, "Diastolic blood pressure"),
    Channel("map", "mm[Hg]", (0, 300), ("8478-0",), (0, 250), _MMHG, "Mean arterial pressure"),
    Channel("nisbp", "mm[Hg]", (0, 400), ("76534-7",), (0, 300), _MMHG, "Systolic blood pressure, non-invasive"),
    Channel("nidbp", "mm[Hg]", (0, 300), ("76535-4",), (0, 200), _MMHG, "Diastolic blood pressure, non-invasive"),
    Channel("nimap", "mm[Hg]", (0, 300), ("76536-2",), (0, 250), _MMHG, "Mean arterial pressure, non-invasive"),
    Channel("gcs", "{score}", (3, 15), ("9269-2",), None, _SCORE, "Glasgow coma scale, total"),
    Channel("gcs_eye", "{score}", (1, 4), ("9267-6",), None, _SCORE, "Glasgow coma scale, eyes"),
    Channel("gcs_verbal", "{score}", (1, 5), ("9270-0",), None, _SCORE, "Glasgow coma scale, verbal"),
    Channel("gcs_motor", "{score}", (1, 6), ("9268-4",), None, _SCORE, "Glasgow coma scale, motor"),
)

_BREATHING = (
    # Percent in use; a fraction is taken only where its unit says so, never by its magnitude.
    Channel("fio2", "%", (20, 110), ("3150-0",), (21, 100), _PERCENT, "Inspired oxygen"),
    Channel("o2_flow", "L/min", (0, 100), ("3151-8",), None, {}, "Oxygen flow"),  # bound: high-flow devices give 60-80
    Channel("mech_vent", "1", (0, 1), (), None, {}, "Mechanical ventilation, 0 or 1"),
    Channel(
        "etco2", "mm[Hg]", (0, 220), ("19891-1",), (10, 150), _MMHG, "End-tidal carbon dioxide"
    ),  # bound: as for blood
    Channel("ph", "[pH]", (6.3, 10), ("11558-4", "2744-1"), (6.8, 8), _SCORE, "pH of blood"),
    Channel("pao2", "mm[Hg]", (0, 770), ("11556-8", "2703-7"), (40, 600), _MMHG, "Oxygen partial pressure"),
    Channel("paco2", "mm[Hg]", (0, 220), ("11557-6", "2019-8"), (10, 150), _MMHG, "Carbon dioxide partial pressure"),
    Channel("sao2", "%", (0, 100), ("20564-1",), (50, 100), _PERCENT, "Oxygen saturation of blood"),
    Channel(
        "base_excess", "mmol/L", (-100, 100), ("11555-0", "1925-7"), (-50, 50), _MONOVALENT, "Base excess"
    ),  # bound
    Channel("bicarbonate", "mmol/L", (0, 66), ("1963-8",), (5, 50), _MONOVALENT, "Bicarbonate"),
)

_BODY = (
    Channel(
        "weight",
        "kg",
        (0, 500),
        ("29463-7",),
        (1, 250),
        {"[lb_av]": Conversion(0.45359237), "g": Conversion(1e-3)},
        "Body weight",
    ),
    Channel(
        "height",
        "cm",
        (0, 275),
        ("8302-2",),
        (10, 230),
        {"[in_i]": Conversion(2.54), "m": Conversion(100.0)},
        "Body height",
    ),
    Channel("urine_output", "mL", (0, 2445), ("9187-6",), (0, 2000), {"L": Conversion(1e3)}, "Urine output"),
)

_CHEMISTRY = (
    Channel("glucose", "mg/dL", (0, 2200), ("2345-7", "2339-0"), (0, 1000), _si(0.0555), "Glucose"),
    Channel(
        "lactate",
        "mmol/L",
        (0, 50),
        ("2524-7", "32693-4", "2518-9"),
        (0, 33),
        {"mg/dL": Conversion(0.111)},
        "Lactate",
    ),
    Channel("creatinine", "mg/dL", (0, 66), ("2160-0",), (0, 15), {"umol/L": Conversion(1 / 88.4)}, "Creatinine"),
    # 0.357 is for urea nitrogen as the channel counts it; 0.714 would be for molecules of nitrogen.
    Channel("bun", "mg/dL", (0, 275), ("3094-0",), (0, 200), _si(0.357), "Urea nitrogen"),
    Channel("sodium", "mmol/L", (0, 250), ("2951-2",), (110, 165), _MONOVALENT, "Sodium"),
    Channel("potassium", "mmol/L", (0, 15), ("2823-3",), (0, 10), _MONOVALENT, "Potassium"),
    Channel("chloride", "mmol/L", (0, 200), ("2075-0",), (80, 130), _MONOVALENT, "Chloride"),
    Channel(
        "calcium", "mg/dL", (0, 30), ("17861-6",), None, _si(0.2495), "Calcium, total"
    ),  # bound: lethal far below 30
    Channel(
        "magnesium",
        "mg/dL",
        (0, 30),
        ("19123-9",),
        None,
        {"mmol/L": Conversion(2.4305), "meq/L": Conversion(1.21525)},
        "Magnesium",
    ),  # bound: cardiac arrest near 18
    Channel("phosphate", "mg/dL", (0, 40), ("2777-1",), None, _si(0.323), "Phosphate"),  # bound
    Channel(
        "bilirubin_total", "mg/dL", (0, 100), ("1975-2",), (0, 66), {"umol/L": Conversion(1 / 17.1)}, "Bilirubin, total"
    ),
    Channel(
        "bilirubin_direct",
        "mg/dL",
        (0, 100),
        ("1968-7",),
        (0, 66),
        {"umol/L": Conversion(1 / 17.1)},
        "Bilirubin, direct",
    ),  # as the total, of which it is part
    Channel("albumin", "g/dL", (0, 12), ("1751-7",), None, _MASS_G_DL, "Albumin"),  # bound: above all plasma protein
    Channel("crp", "mg/L", (0, 1000), ("1988-5",), None, {"mg/dL": Conversion(10.0)}, "C-reactive protein"),  # bound
    Channel("cholesterol", "mg/dL", (0, 3000), ("2093-3",), None, _si(0.02586), "Cholesterol, total"),  # bound
    Channel("troponin_t", "ng/mL", (0, 1000), ("6598-7",), None, _TROPONIN, "Troponin T"),  # bound
    Channel("troponin_i", "ng/mL", (0, 5000), ("10839-9",), None, _TROPONIN, "Troponin I"),  # bound
    Channel("calcium_ionised", "mmol/L", (0, 10), ("1995-0", "1994-3"), None, {}, "Calcium, ionised"),  # bound
    Channel("ck", "U/L", (0, 1000000), ("2157-6",), None, _ENZYME, "Creatine kinase"),  # bound
    Channel("ckmb", "ng/mL", (0, 5000), ("13969-1",), None, {"ug/L": _SAME}, "Creatine kinase MB"),  # bound
    Channel("alp", "U/L", (0, 20000), ("6768-6",), None, _ENZYME, "Alkaline phosphatase"),  # bound
    Channel("alt", "U/L", (0, 50000), ("1742-6",), None, _ENZYME, "Alanine aminotransferase"),  # bound
    Channel("ast", "U/L", (0, 50000), ("1920-8",), None, _ENZYME, "Aspartate aminotransferase"),  # bound
)

_BLOOD = (
    Channel("wbc", "10*3/uL", (0, 1100), ("6690-2",), None, _PER_LITRE, "White blood cells"),
    Channel("platelets", "10*3/uL", (0, 2200), ("777-3",), (5, 1200), _PER_LITRE, "Platelets"),
    Channel("hemoglobin", "g/dL", (0, 30), ("718-7",), (4, 18), _MASS_G_DL, "Haemoglobin"),
    Channel("hematocrit", "%", (0, 100), ("4544-3", "20570-8"), (15, 60), _PERCENT | {"L/L": Conversion(100.0)}, "Hct"),
    Channel("neutrophils", "%", (0, 100), ("770-8", "26511-6"), None, _PERCENT, "Neutrophils, share of white cells"),
    Channel("lymphocytes", "%", (0, 100), ("736-9", "26478-8"), None, _PERCENT, "Lymphocytes, share of white cells"),
    Channel("bands", "%", (0, 100), ("764-1", "26508-2"), None, _PERCENT, "Band forms, share of white cells"),
    Channel("mch", "pg", (0, 100), ("785-6",), None, {}, "Haemoglobin of a red cell"),  # bound
    Channel("mchc", "g/dL", (0, 100), ("786-4",), None, _MASS_G_DL | {"%": _SAME}, "Haemoglobin in red cells"),  # bound
    Channel("mcv", "fL", (0, 250), ("787-2",), None, {}, "Volume of a red cell"),  # bound
    Channel("methemoglobin", "%", (0, 100), ("2614-6",), None, _PERCENT, "Methaemoglobin"),
    Channel("inr", "{INR}", (0, 50), ("6301-6", "34714-6"), None, _SCORE, "International normalised ratio"),  # bound
    Channel("ptt", "s", (0, 500), ("14979-9", "3173-2"), None, {}, "Partial thromboplastin time"),  # bound
    Channel("fibrinogen", "mg/dL", (0, 5000), ("3255-7",), None, {"g/L": Conversion(100.0)}, "Fibrinogen"),  # bound
)

CHANNELS: tuple[Channel, ...] = _VITAL_SIGNS + _BREATHING + _BODY + _CHEMISTRY + _BLOOD

STATICS: tuple[StaticVariable, ...] = (
    StaticVariable("age", unit="a", hard=(0, 130)),
    StaticVariable("sex", StaticKind.CATEGORICAL, categories=("female", "male")),
    StaticVariable("height", unit="cm", hard=(0, 275), accepts={"[in_i]": Conversion(2.54), "m": Conversion(100.0)}),
    StaticVariable(
        "admission_weight",
        unit="kg",
        hard=(0, 500),
        accepts={"[lb_av]": Conversion(0.45359237), "g": Conversion(1e-3)},
    ),
    StaticVariable(
        "icu_type", StaticKind.CATEGORICAL, categories=("coronary_care", "cardiac_surgery", "medical", "surgical")
    ),
    StaticVariable("unit_2019", StaticKind.CATEGORICAL, categories=("micu", "sicu")),
    StaticVariable(
        "unit_type",
        StaticKind.CATEGORICAL,
        categories=("med_surg", "medical", "surgical", "cardiac", "ccu_cticu", "csicu", "cticu", "neuro"),
    ),
    # Ten years: a bound on one hospital admission; below 0 where the ICU precedes the admission's paperwork.
    StaticVariable("hours_before_icu", unit="h", hard=(-87600, 87600)),
)


def channel_by_name(name: str) -> Channel:
    """The declared channel of this name.

    Raises:
        DataError: if none has it.

    Example:
        >>> channel_by_name("heart_rate").unit
        '/min'
    """
    channel = _BY_NAME.get(name)
    if channel is None:
        raise DataError("channel must be the name of a declared channel, got another name; see models/channel_table.py")
    return channel


def channel_by_loinc(code: str) -> Channel:
    """The declared channel that accepts this LOINC code.

    Raises:
        DataError: if none does.

    Example:
        >>> channel_by_loinc("2708-6").name
        'spo2'
    """
    channel = _BY_LOINC.get(code)
    if channel is None:
        raise DataError(
            "loinc must be a code that a declared channel accepts, got another code; see models/channel_table.py"
        )
    return channel


def static_by_name(name: str) -> StaticVariable:
    """The declared static variable of this name.

    Raises:
        DataError: if none has it.
    """
    variable = _STATIC_BY_NAME.get(name)
    if variable is None:
        raise DataError(
            "static variable must be the name of a declared one, got another name; see models/channel_table.py"
        )
    return variable


def _loinc_index(channels: tuple[Channel, ...]) -> dict[str, Channel]:
    """Channels by code.

    Raises:
        ConfigError: if two channels accept one code.
    """
    index: dict[str, Channel] = {}
    for channel in channels:
        for code in channel.loinc:
            if code in index:
                raise ConfigError(
                    f"loinc {code} must belong to one channel, got {index[code].name} and {channel.name}; "
                    "take it from one of them"
                )
            index[code] = channel
    return index


_BY_NAME = {channel.name: channel for channel in CHANNELS}
_BY_LOINC = _loinc_index(CHANNELS)
_STATIC_BY_NAME = {variable.name: variable for variable in STATICS}
