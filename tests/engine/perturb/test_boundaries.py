"""Where words begin and end: as ever where blanks part them, by Unicode where nothing does."""

# ruff: noqa: RUF001

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.perturb import DropWords, LetterCase, MaskWords, Perturbation, ShuffleWords, Typos
from engine.perturb.base import Step
from engine.perturb.boundaries import words
from engine.pools import open_pool
from tests.engine.examples import make_task

DATA = Path(__file__).parents[3].parent / "shared" / "data"
CHINESE = "请把下面的句子翻译成英文。"


def units(text: str) -> list[str]:
    return [word.text + word.blanks for word in words(text, ())]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CHINESE, "请|把|下|面|的|句|子|翻|译|成|英|文。"),
        ("今天SQL查询3.14个（好）吗？", "今|天|SQL|查|询|3.14|个|（好）|吗？"),
        ("「日本語の」テキストを Tokyo駅で。", "「日|本|語|の」|テキスト|を |Tokyo|駅|で。"),
        ("ภาษาไทยไม่มี 5%", "ภ|า|ษ|า|ไ|ท|ย|ไ|ม่|มี |5%"),
        ("ພາສາລາວ", "ພ|າ|ສ|າ|ລ|າ|ວ"),
        ("ភាសាខ្មែរ", "ភា|សា|ខ្មែ|រ"),
        ("မြန်မာ", "မြ|န်|မ|ာ"),
        ("བོད་ཡིག་གི", "བོད་|ཡིག་|གི"),
        ("ሰላም፡ለዓለም", "ሰላም፡|ለዓለም"),
        ("ꦧꦱꦗꦮ", "ꦧ|ꦱ|ꦗ|ꦮ"),
        ("ᬪᬵᬱᬩᬮᬶ", "ᬪᬵ|ᬱ|ᬩ|ᬮᬶ"),
        ("ꆈꌠꁱꂷ", "ꆈ|ꌠ|ꁱ|ꂷ"),
        ("សូម\u200bបកប្រែ", "សូ|ម\u200b|ប|ក|ប្រែ"),
        ("翻译　这句话", "翻|译　|这|句|话"),
        ("用Python写hello-world程序", "用|Python|写|hello-|world|程|序"),
        ("ይህን ተርጉም", "ይህን |ተርጉም"),
        ("ترجم الجملة", "ترجم |الجملة"),
        ("𠀀𠀁𠀂", "𠀀|𠀁|𠀂"),
        ("🙂🙃 https://example.org/a?b=c", "🙂🙃 |https://example.org/a?b=c"),
        ("한국어 텍스트, 네", "한국어 |텍스트, |네"),
        ("——《红》！！", "——《红》！！"),
        ("we're mid-way, at 3.5%", "we're |mid-way, |at |3.5%"),
    ],
)
def test_words_of_scripts_with_and_without_blanks(text: str, expected: str) -> None:
    assert units(text) == expected.split("|")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_nothing_of_a_text_is_lost(text: str) -> None:
    assert "".join(units(text)) == text.lstrip()
    assert all(word.text for word in words(text, ()))


@pytest.mark.parametrize(
    "source",
    [
        "bundled",
        *(
            pytest.param(
                str(DATA / name),
                marks=pytest.mark.skipif(not (DATA / name).exists(), reason="needs the real data"),
            )
            for name in ("niv2/tasks", "self_instruct/seed_tasks.jsonl")
        ),
    ],
)
def test_units_of_blank_separated_text_are_as_ever(source: str) -> None:
    for task in open_pool(source):
        for text in (task.definition, *(one.input for one in task.positive_examples)):
            expected = re.findall(r"(\S+)(\s*)", text)
            assert [(word.text, word.blanks) for word in words(text, ())] == expected


@pytest.mark.parametrize(
    "step",
    [DropWords(), MaskWords(mask="□"), ShuffleWords(), Typos(rate=0.2)],
    ids=lambda s: s.name,
)
@pytest.mark.parametrize("text", [CHINESE, "この文を英語に訳してください。", "แปลประโยคนี้"])
def test_scripts_without_blanks_are_perturbed(step: Step, text: str) -> None:
    perturbed = Perturbation(step, 0)
    found = {perturbed.apply(make_task(definition=text), j).definition for j in range(1, 11)}
    assert len(found - {text}) >= 5
    assert not any(" " in one for one in found)


def test_latin_words_within_chinese_change_case_alone() -> None:
    step = LetterCase(rate=1, styles=("upper",))
    task = make_task(definition="用sql和python写代码")
    assert Perturbation(step, 0).apply(task, 1).definition == "用SQL和PYTHON写代码"


def test_chinese_labels_are_protected_and_the_rest_is_not() -> None:
    step = DropWords(rate=0.9, protect_labels=True)
    task = make_task(definition="请判断情感是积极还是消极。").model_copy(
        update={"labels": ("积极", "消极")}
    )
    found = {Perturbation(step, 0).apply(task, j).definition for j in range(1, 11)}
    assert len(found) > 1
    assert all("积极" in one and "消极。" in one for one in found)
