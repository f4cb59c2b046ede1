"""The words that every answer with a risk carries, in English and Japanese; nothing else words them."""

DISCLAIMER_EN = (
    "Research use only. Not a medical device. Not for diagnosis, treatment or alarms. "
    "A qualified professional must verify every score independently."
)
DISCLAIMER_JA = (
    "研究目的に限る。医療機器ではない。診断、治療、警報に用いてはならない。"
    "すべてのスコアは、有資格の専門家が独立に検証しなければならない。"
)
DISCLAIMERS = {"en": DISCLAIMER_EN, "ja": DISCLAIMER_JA}

# HTTP header carried by every response, with or without a risk in its body.
HEADER_NAME = "X-Research-Use-Only"
HEADER_VALUE = "true"
