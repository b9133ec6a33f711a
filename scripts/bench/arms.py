"""What benchmarks that compare several command lines share: reading them, and tables of what came out."""

import argparse
import csv


def arm_but(*reserved):
    """A reader of NAME="FLAGS" for argparse; `reserved` are names of sides that are no arms."""

    def arm(text):
        name, separator, flags = text.partition("=")
        if not separator or not name.replace("-", "").replace("_", "").isalnum() or name in reserved:
            raise argparse.ArgumentTypeError(f'`{text}` is no NAME="FLAGS"')
        return name, flags

    return arm


def read_csv(path):
    """The rows of a table, as objects."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_csv(path, rows):
    """Rows with the columns of the first, and the directory where it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
