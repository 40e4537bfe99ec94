"""A pool format: questions about a text, in the form of SQuAD (Rajpurkar et al., 2016).

{"id": "1", "title": "Rivers", "context": "The Elbe ...", "question": "Where ...?",
"answers": {"text": ["In the Giant Mountains"], "answer_start": [31]}}
"""

from __future__ import annotations

from engine.pools.checks import Checker
from engine.pools.formats import InstanceFormat
from engine.pools.instances import RowParts
from engine.pools.options import Columns
from engine.pools.rows import Row

DEFINITION = "Answer the question with words of the text."


def _parse(row: Row, columns: Columns, check: Checker) -> RowParts:
    values = row.values
    text = check.text(values.get("context"), "context")
    question = check.text(values.get("question"), "question")
    answers = check.mapping(values.get("answers"), "answers")
    outputs = check.outputs(answers.get("text"), "answers.text")
    return RowParts(DEFINITION, f"{text}\n\n{question}", outputs)


SQUAD = InstanceFormat(
    name="squad",
    keys=lambda columns: ("context", "question", "answers"),
    parse=_parse,
    task_column="title",
)
