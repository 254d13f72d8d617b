"""The texts that select a way to split the persons; `split_ways.py` says what each way does."""

import re
from typing import NamedTuple


class SplitTexts(NamedTuple):
    """Texts that select a way to split.

    Attributes:
        pattern: Regular expression of the texts.
        example: Example of such a text, with the other allowed values.
    """

    pattern: str
    example: str


K_FOLD = SplitTexts(r"([2-9]|[1-9][0-9]+)-fold", "5-fold (any number from 2)")
SITES = SplitTexts("leave-one-site-out", "leave-one-site-out")
SHARE = SplitTexts(r"0?\.[0-9]*[1-9][0-9]*", "0.2 (any share between 0 and 1)")
LIST = SplitTexts(r"(?i:.+\.csv)", "FILE.csv (a list with the columns subject and fold, or subject alone)")
SPLIT_FORMS = (K_FOLD, SITES, SHARE, LIST)
EXAMPLES = ", ".join(form.example for form in SPLIT_FORMS)


def is_split(text: str) -> bool:
    """Return whether a text selects a way to split."""
    return any(re.fullmatch(form.pattern, text) for form in SPLIT_FORMS)
