"""A prepared corpus in, the share of its texts with findings of the identifier scan out; and the scan's speed.

`python benchmarks/identifiers.py CORPUS...`. On published texts without identifiers the share is the false alarms'.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from models.record import to_plain
from pipelines.text.corpus_files import read_corpus
from pipelines.text.identifiers.scan import scan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpora", nargs="+", type=Path)
    for path in parser.parse_args().corpora:
        corpus = read_corpus(path)
        texts = tuple(dict.fromkeys(corpus.documents.text))
        start = time.process_time()
        report = scan(texts)
        seconds = time.process_time() - start
        characters = sum(map(len, texts))
        print(
            json.dumps(
                {
                    "corpus": corpus.source,
                    "share_of_texts": {
                        k: round(n / max(len(texts), 1), 4) for k, n in report.documents_by_kind.items()
                    },
                    "characters_a_second": round(characters / max(seconds, 1e-9)),
                    **to_plain(report),
                }
            )
        )


if __name__ == "__main__":
    main()
