"""What README and docs say of speed and cost stands in `benchmarks/RESULTS.md`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.common.result_file import RESULTS
from benchmarks.results_page import PAGE, section

ROOT = Path(__file__).parent.parent.parent
NUMBER = r"-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?"

Source = Callable[[str], float]
"""Finds a figure in the text of a result."""


def number(text: str) -> float:
    return float(text.replace(",", ""))


def cell(row: str, before: int, times: float = 1, after: str = "") -> Source:
    """A cell of the first row of that name behind some text, so many cells behind the name."""
    pattern = rf"│ {re.escape(row)} +│" + r"[^│\n]*│" * before + rf" *({NUMBER})"
    return lambda text: times * number(found(pattern, text[text.index(after) :]))


def ratios(row: str, pick: Callable[[list[float]], float], after: str = "") -> Source:
    """The least or largest of all ratios in a row, which stand second in their cells."""

    def find(text: str) -> float:
        cells = found(rf"│ {re.escape(row)} +│([^\n]*)", text[text.index(after) :])
        return pick([float(each) for each in re.findall(r"\d  (\d\.\d\d) ", cells)])

    return find


def of_tasks(way: str, pick: Callable[[list[float]], float]) -> Source:
    """The least or largest ratio of a way to jostle over the harness' tasks."""
    return lambda text: pick([cell(way, 1, after=task)(text) for task in HARNESS_TASKS])


def line(pattern: str, times: float = 1) -> Source:
    """What stands in the place of (#)."""
    pattern = pattern.replace("(#)", f"({NUMBER})")
    return lambda text: times * number(found(pattern, " ".join(text.split())))


def of_fastest_turn(pattern: str) -> Source:
    """The same behind what is said of jostle's fastest turn."""

    def find(text: str) -> float:
        seconds = re.escape(f"{cell('jostle', 0)(text):.1f}")
        return line(rf"jostle's turn of {seconds} s: {pattern}")(text)

    return find


def accepted(pick: Callable[[list[float]], float]) -> Source:
    """The least or largest share of good loads in bfloat16, in percent."""
    row = r"\| bfloat16 \|(?: [^|]+ \|){4} ([\d.]+) \|"
    return lambda text: 100 * pick([float(each) for each in re.findall(row, text)])


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, pattern
    return match[1]


PADDED = "transformers, a padded loop (the authors' way)"
SCORING = {
    PADDED: "transformers, padded loop, all rows",
    "lm-evaluation-harness on vLLM": "lm-evaluation-harness on vLLM",
    "jostle, logits for all computed rows": "jostle, logits for all computed rows",
    "jostle, only whole blocks of the cache shared": "jostle, only whole blocks shared",
    "jostle": "jostle",
}
HARNESS_TASKS = ("four_answers", "classification", "drawn_shots")
ROW_OF_56 = "56 tasks that come with jostle"

CLAIMS: list[tuple[str, str, list[Source]]] = [
    *(
        (rf"\| {re.escape(says)} \| # \| #(?: x)? \|", "scoring", [cell(way, 1), cell(way, 2)])
        for says, way in SCORING.items()
    ),
    (
        r"float32 \| 2 CPU cores \| # pairs/s \| transformers, .*?: # \| # x",
        "scoring",
        [cell("jostle", 1), cell(SCORING[PADDED], 1), cell("jostle", 2)],
    ),
    (
        r"the same \| 2 CPU cores \| # pairs/s \| lm-evaluation-harness on vLLM: # \| # x",
        "scoring",
        [cell("jostle", 1), cell("lm-evaluation-harness on vLLM", 1), cell("jostle", 3)],
    ),
    (
        r"5 shots, in the harness \| 2 CPU cores \| # s \| .*?: # \| # x",
        "harness",
        [cell("jostle", 0), cell("vllm", 0), cell("vllm", 1)],
    ),
    (
        r"the same \| 2 CPU cores \| # s \| .*? transformers, batches of 8: # \| # x",
        "harness",
        [cell("jostle", 0), cell("transformers_8", 0), cell("transformers_8", 1)],
    ),
    (
        r"with 5 shots it is # times .*? 8 shots # times, .*? its own # times, .*? batches of 8 "
        r"these are #, # and # times",
        "harness",
        [cell(way, 1, after=task) for way in ("vllm", "transformers_8") for task in HARNESS_TASKS],
    ),
    (
        r"kinds of task were tried: # to # times its model of vLLM, # to # times its model of",
        "harness",
        [of_tasks(way, pick) for way in ("vllm", "transformers_8") for pick in (min, max)],
    ),
    (
        r"8B shape, bfloat16 \| one H100 \| # pairs/s \| .*?: # \| # x",
        "gpu-nvidia-h100-80gb-hbm3",
        [cell("jostle", 2), cell("vLLM, whole-prompt", 2), cell("jostle", 5)],
    ),
    (
        r"weights, verified \| 2 CPU cores \| # s \| .*?: # \| # x",
        "reload",
        [
            cell("POST /v1/weights", 1),
            cell("restart on the checkpoint", 1),
            line(r"a load is (#) times faster"),
        ],
    ),
    (
        r"left is # times .* read right before or after \(# .*?, and # times .*? there \(#\)",
        "scoring",
        [
            cell("jostle", 4),
            line(r"at (#) GFLOP/s of matrix products, read beside"),
            of_fastest_turn(r".*? around it; x(#) at"),
            of_fastest_turn(rf".*? around it; x{NUMBER} at (#),"),
        ],
    ),
    (
        r"faster cores \(# GFLOP/s\), .*? made # pairs/s, # times .*? made and # times",
        "scoring_faster_cores",
        [
            line(r"at (#) GFLOP/s of matrix products, read beside"),
            cell("jostle", 1),
            cell("jostle", 2),
            cell("jostle", 3),
        ],
    ),
    (r"which that floor leaves out, is # of it", "scoring", [line(r"adds (#)%", 0.01)]),
    (
        r"computes \(# times the .*?: # times with batches of # tokens, # times with #\.",
        "counted",
        [
            cell("SGLang, best order", 3),
            cell("SGLang, as it comes, batches of 2048", 3),
            line(r"SGLang, as it comes, batches of (#) "),
            cell("SGLang, as it comes, batches of 16384", 3),
            line(r"SGLang, as it comes, batches of (16384) "),
        ],
    ),
    (
        r"# samples of # tasks, .*? makes # samples/s, jostle #, # times as many, .*? transformers "
        r"makes #, so jostle # times",
        "sampling",
        [
            line(r"(#) samples, seconds"),
            lambda text: 1 + found(r"tasks: ([\s\S]*?)\n +\d+ samples", text).count(","),
            cell("vLLM offline, n = m", 1),
            cell("jostle", 1),
            cell("jostle", 3),
            cell("transformers, generate", 1),
            cell("jostle", 2),
        ],
    ),
    (
        r"the three make #, # and #: # and # times",
        "sampling_avx2",
        [
            cell("vLLM offline, n = m", 1),
            cell("jostle", 1),
            cell("transformers, generate", 1),
            cell("jostle", 3),
            cell("jostle", 2),
        ],
    ),
    (r"shares whole blocks of 16 tokens: # times", "counted", [cell("vLLM, fixed ids", 3)]),
    (
        r"same # pairs: # pairs/s, # times vLLM .*? whole prompts \(#\), and # times",
        "gpu-nvidia-h100-80gb-hbm3",
        [
            cell("jostle", 0),
            cell("jostle", 2),
            cell("jostle", 5),
            cell("vLLM, whole-prompt", 2),
            cell("jostle", 6),
        ],
    ),
    (
        r"to # in float32, and to # in bfloat16, where transformers itself is # off",
        "gpu-nvidia-h100-80gb-hbm3",
        [cell("float32", 0), cell("bfloat16", 0), cell("transformers in bfloat16", 0)],
    ),
    (
        r"single tokens by up to # nats",
        "probe_noise",
        [line(rf"\| bfloat16 \| base \| {NUMBER} \| (#)")],
    ),
    (r"good loads pass in # to # %", "probe_noise", [accepted(min), accepted(max)]),
    (
        r"On # real tasks two measurements .*? have # % of their top 12 in common; it finds # % of "
        r"the top 12 of a design four times as large, of which it is a part",
        "adaptive",
        [
            line(r"top 12 of (#) real"),
            cell("10x10", 0, 100),
            line(r"uniform, n = k │ 10x10 │ \d+ │ (#)", 100),
        ],
    ),
    (
        r"agree as well \(# of the top 12, against #\) for # times the tokens",
        "adaptive",
        [
            cell("10x10, 2 each", 0),
            cell("10x10", 0),
            lambda text: cell("10x10, 2 each", 4)(text) / cell("10x10", 4)(text),
        ],
    ),
    (
        r"needs # to # times the tokens of equal shares",
        "adaptive",
        [ratios("--design auto, assisted", min), ratios("--design auto, assisted", max)],
    ),
    (
        r"still open: # to # times .*? halves of these tasks # to #, on the # tasks",
        "adaptive",
        [
            ratios("race", min),
            ratios("race", max),
            ratios("race", min, "random halves"),
            ratios("race", max, "random halves"),
            line(r"of (#) tasks that come with"),
        ],
    ),
    (
        r"says little, # to # up to an overlap",
        "adaptive",
        [ratios("race", min, ROW_OF_56), ratios("race", max, ROW_OF_56)],
    ),
]


SETTINGS = (
    r"SmolLM2-135M|AVX2|b?float\d\d|H100|8B shape|20 real tasks|2 CPU cores|330 pairs|365 tokens",
    r"10 instances, 10 perturbations|2 of the 10 instances|\| 1 \||2,000 draws|steps at 1e-5",
    r"equal to 1e-5|\(0\.70 to 0\.95\)|overlap of 0\.90|below 0\.95|with 5 shots|8 shots",
    r"prompts of 365 tokens|blocks of 16 tokens|k \+ 1 prompts|temperature 1|at most 32 tokens",
    r"scoring 1,650 pairs|scoring 330 pairs|1e-5 in float32|One H100|5 shots|batches of 8|"
    r"```.*?```|`[^`]+`",
)
"""What is said in the same sentences and was not measured by them."""


CLAIMS += [
    (
        rf"\| {says} \| # \| # \| # \|",
        "scaling",
        [cell(axis, before, after="power with which") for before in (3, 0, 1)],
    )
    for says, axis in {
        "tasks": "tasks",
        "instances": "instances",
        "perturbations": "perturbations",
        "length of prompts": "prompt",
        "length of outputs": "output",
    }.items()
]
CLAIMS += [
    (
        r"# short tasks go through at # tasks/s, at most # MB in the client and # MB",
        "scaling",
        [
            line(r"(#) tasks of 2 instances"),
            line(r"made up: (#) tasks/s"),
            line(r"most (#) MB"),
            line(r"and (#) MB"),
        ],
    ),
]


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """README and pages, each on one line."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return {page.name: " ".join(page.read_text().split()) for page in pages}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim[1]}: {claim[0][:30]}")
def test_what_is_said_stands_in_the_results(
    claim: tuple[str, str, list[Source]], texts: dict[str, str]
) -> None:
    pattern, name, sources = claim
    says = [match for text in texts.values() for match in re.finditer(_filled(pattern), text)]
    assert says, "nobody says this any more"
    result = section(RESULTS / f"{name}.txt")
    assert result in PAGE.read_text(), "run python -m benchmarks.results_page"
    for match in says:
        for quoted, source in zip(match.groups(), sources, strict=True):
            digits = len(quoted.partition("e")[0].partition(".")[2])
            unit = 10.0 ** (int(quoted.partition("e")[2] or 0) - digits)
            assert number(quoted) == pytest.approx(source(result), abs=0.501 * unit), quoted


def test_no_other_figure_is_said(texts: dict[str, str]) -> None:
    start, end = "## What came out", "## What it does not do"
    came_out = texts["README.md"].partition(start)[2].partition(end)[0]
    measured = texts["benchmarking.md"].partition("## Scoring on a CPU")[2]
    for text in (came_out, measured):
        assert text
        for pattern, _, _ in CLAIMS:
            for match in re.finditer(_filled(pattern), text):
                for group in range(len(match.groups()), 0, -1):
                    first, last = match.span(group)
                    text = text[:first] + "x" * (last - first) + text[last:]
        text = re.sub("|".join(SETTINGS), "", text)
        assert re.findall(r".{,40}\d.{,20}", text) == []


def _filled(pattern: str) -> str:
    return pattern.replace("#", f"({NUMBER})")
