"""Pairwise comparison of two sets of answers by a judge model (Zheng et al., 2023).

The judge sees each pair of answers in both orders, because judges favour a position. An answer wins
if it is preferred in both; all else is a tie and stays in the counts. Any endpoint that speaks
OpenAI's chat completions can judge. Every verdict goes to a journal, so an interrupted comparison
goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from engine.client.chat_client import ChatClient
from engine.errors import InputError
from engine.files import LineJournal
from engine.tasks import Record
from engine.unicode_text import other_encoding, without_mark
from engine.validation import first_fault
from training.evaluation.evaluator import Output
from training.tables.lock import RunLock

Choice = Literal["first", "second", "tie", "unclear"]

PROMPT = """Compare two answers to the same instruction. Judge how well each follows the \
instruction, whether it is correct, and whether it is useful. Do not let the order or the length \
of the answers sway you.

[Instruction]
{instruction}

[Answer A]
{first}

[Answer B]
{second}

Reply with [[A]] if answer A is better, [[B]] if answer B is better, or [[C]] for a tie."""

_VERDICT = re.compile(r"\[\[([ABC])\]\]")
_MEANING: dict[str, Choice] = {"A": "first", "B": "second", "C": "tie"}
REPLY_TOKENS = 512
"""Most tokens of a reply; a judge may reason before it decides."""


class Verdict(Record):
    """One reply of the judge, a line of the journal.

    Attributes:
        key: Names the two answers, the judge and the prompt.
        task_id: The task.
        instance_id: The instance.
        swapped: Whether the right-hand answer was shown first.
        choice: What the judge preferred, by position as shown; `unclear` if it did not say.
        reply: What it said.
    """

    key: str
    task_id: str
    instance_id: str
    swapped: bool
    choice: Choice
    reply: str


class Judgement(Record):
    """What all verdicts come to.

    Attributes:
        pairs: Pairs of answers compared.
        wins: Pairs in which the left answer was preferred in both orders.
        losses: The same of the right answer.
        ties: All other pairs.
        unclear: Verdicts, of two per pair, in which the judge named no preference in the way it was
            asked to; their pairs are ties.
        inconsistent: Pairs in which the judge preferred the same position both times.
        win_rate: (wins + ties / 2) / pairs, in [0, 1]; none without pairs.
    """

    pairs: int
    wins: int
    losses: int
    ties: int
    unclear: int
    inconsistent: int
    win_rate: float | None


def read_outputs(path: Path) -> list[Output]:
    """The lines of an `outputs.jsonl`, at least one; blank ones are passed over.

    Raises:
        InputError: If the file cannot be read, holds no answer, a line is broken, or answers what
            another one answers.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
    if problem := other_encoding(raw):
        raise InputError(problem, file=path)
    outputs: dict[tuple[str, str], Output] = {}
    for number, line in enumerate(without_mark(raw).splitlines(), start=1):
        if not line.strip():
            continue
        record = f"line {number}"
        try:
            output = Output.model_validate_json(line)
        except ValidationError as error:
            problem, field = first_fault(error)
            problem = f"broken line: {problem}"
            raise InputError(problem, file=path, record=record, field=field) from error
        name = (output.task_id, output.instance_id)
        if name in outputs:
            problem = f"{'/'.join(name)} is answered by an earlier line, too"
            raise InputError(problem, file=path, record=record, field="instance_id")
        outputs[name] = output
    if not outputs:
        raise InputError("holds no answer", file=path)
    return list(outputs.values())


def compare(
    left: Sequence[Output],
    right: Sequence[Output],
    judge: ChatClient,
    journal: Path,
    *,
    at_once: int = 8,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Judgement:
    """Have a judge compare two sets of answers to the same instances, by its greedy replies.

    Args:
        left: Answers of one model.
        right: Answers of the other, in any order.
        journal: File of verdicts; those that are there already are not asked for again. It is held
            while this goes on, by a lock file beside it.
        at_once: Requests under way together.
        on_progress: Called with verdicts done and verdicts in all.

    Raises:
        InputError: If the two sets do not answer the same instances, the journal is broken or
            another file, or another process is at it, which is named.
        EngineError: If the judge fails; verdicts that came before stay in the journal.
    """
    pairs = _match(left, right)
    _check_journal(journal)
    asked = {
        _key(one, other, judge.model, swapped): (one, other, swapped)
        for one, other in pairs
        for swapped in (False, True)
    }
    with RunLock(journal.with_name(f"{journal.name}.lock"), "comparison", journal):
        known = _verdicts(asked, judge, LineJournal(journal, Verdict), at_once, on_progress)
    return summarise(_by_pair(pairs, known, judge.model))


def _check_journal(path: Path) -> None:
    """That a file which is there is a journal: the torn end of one is cut off."""
    begins = b'{"key":'
    if path.is_file():
        with path.open("rb") as stream:
            if not begins.startswith(stream.read(len(begins))):
                raise InputError("is there and no journal of verdicts; name another", file=path)


def _verdicts(
    asked: Mapping[str, tuple[Output, Output, bool]],
    judge: ChatClient,
    lines: LineJournal[Verdict],
    at_once: int,
    on_progress: Callable[[int, int], None],
) -> dict[str, Verdict]:
    """The verdict of each key, those that the journal lacks asked for and added to it."""
    known = {verdict.key: verdict for verdict in lines.records() if verdict.key in asked}
    waiting = [key for key in asked if key not in known]
    on_progress(len(known), len(asked))
    stopped = threading.Event()

    def work(key: str) -> Verdict | None:
        return None if stopped.is_set() else _ask(judge, key, *asked[key])

    failure: BaseException | None = None
    with lines, ThreadPoolExecutor(at_once) as pool:
        try:
            for future in as_completed([pool.submit(work, key) for key in waiting]):
                error = future.exception()
                if error is not None:
                    failure = failure or error
                    stopped.set()
                elif (verdict := future.result()) is not None:  # also after a failure: it is paid
                    lines.append(verdict)
                    known[verdict.key] = verdict
                    on_progress(len(known), len(asked))
        finally:
            stopped.set()
    if failure is not None:
        raise failure
    return known


def _match(left: Sequence[Output], right: Sequence[Output]) -> list[tuple[Output, Output]]:
    others = {(each.task_id, each.instance_id): each for each in right}
    names = [(each.task_id, each.instance_id) for each in left]
    for name in sorted(set(names) ^ others.keys()):
        side = "left" if name in others else "right"
        raise InputError(f"the {side} side has no answer", record="/".join(name))
    return [(each, others[name]) for each, name in zip(left, names, strict=True)]


def _key(left: Output, right: Output, model: str, swapped: bool) -> str:
    text = "\0".join((PROMPT, model, _instruction(left), left.output, right.output, str(swapped)))
    name = f"{left.task_id}\0{left.instance_id}\0"
    return hashlib.sha256((name + text).encode()).hexdigest()


def _instruction(output: Output) -> str:
    return f"{output.definition}\n\n{output.input}" if output.input else output.definition


def _ask(judge: ChatClient, key: str, left: Output, right: Output, swapped: bool) -> Verdict:
    first, second = (right, left) if swapped else (left, right)
    prompt = PROMPT.format(instruction=_instruction(left), first=first.output, second=second.output)
    reply = judge.ask(prompt, temperature=0.0, max_tokens=REPLY_TOKENS).text
    said = _VERDICT.findall(reply)
    return Verdict(
        key=key,
        task_id=left.task_id,
        instance_id=left.instance_id,
        swapped=swapped,
        choice=_MEANING[said[-1]] if said else "unclear",
        reply=reply,
    )


def _by_pair(
    pairs: Sequence[tuple[Output, Output]], known: Mapping[str, Verdict], model: str
) -> Iterator[tuple[Choice, Choice]]:
    for left, right in pairs:
        straight, swapped = (
            known[_key(left, right, model, order)].choice for order in (False, True)
        )
        yield straight, swapped


def summarise(choices: Iterator[tuple[Choice, Choice]]) -> Judgement:
    """Wins, losses and ties from the choice in each order, by position as shown."""
    wins = losses = ties = unclear = inconsistent = 0
    for straight, swapped in choices:
        unclear += (straight == "unclear") + (swapped == "unclear")
        if (straight, swapped) == ("first", "second"):
            wins += 1
        elif (straight, swapped) == ("second", "first"):
            losses += 1
        else:
            ties += 1
            inconsistent += straight == swapped and straight in ("first", "second")
    pairs = wins + losses + ties
    return Judgement(
        pairs=pairs,
        wins=wins,
        losses=losses,
        ties=ties,
        unclear=unclear,
        inconsistent=inconsistent,
        win_rate=(wins + ties / 2) / pairs if pairs else None,
    )
