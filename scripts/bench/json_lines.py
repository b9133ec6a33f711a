"""Files of one JSON value a line."""

import json


def read(path):
    # Not splitlines, which would cut texts at characters such as U+2028.
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write(path, rows):
    path.write_text("".join(line(row) for row in rows), encoding="utf-8")


def appended(path):
    """The rows of a file that is appended to, none where there is no file; a last line that was cut off is none."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def append(path, rows):
    """Adds rows, after whatever a stop left of the last line is gone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        text = path.read_bytes()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            path.write_bytes(text[:whole])
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(line(row) for row in rows)


def line(row):
    return json.dumps(row) + "\n"
