"""Every form in which tasks are written down: what it becomes, and one line for each fault."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from engine.errors import InputError
from engine.pools import PoolOptions, open_pool
from engine.pools.options import Columns, parse_columns
from engine.pools.validate import validate_pool
from engine.tasks import Task

ALPACA = {"instruction": "Say it.", "input": "x", "output": "y"}
CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]
SYSTEM = {"role": "system", "content": "Be kind."}
SHAREGPT = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]
NIV1 = {
    "Title": "t",
    "Things to Avoid": "-",
    "Definition": "Do it.",
    "Examples": {
        "Positive Examples": [{"input": "a", "output": "b", "reason": "c"}],
        "Negative Examples": [],
    },
    "Instances": [{"input": "q", "output": ["r"]}],
}


def write(folder: Path, name: str, content: Any) -> Path:
    """A file: bytes and texts as they are, a list as JSON Lines where it is called so, or JSON."""
    file = folder / name
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, str):
        file.write_text(content, encoding="utf-8")
    elif name.endswith(".jsonl"):
        file.write_text("".join(json.dumps(row) + "\n" for row in content))
    else:
        file.write_text(json.dumps(content))
    return file


def read(file: Path, **options: Any) -> list[tuple[str, str, tuple[str, ...]]]:
    """Definition, input and outputs of every instance."""
    return [
        (task.definition, one.input, one.outputs)
        for task in open_pool(file, PoolOptions(**options))
        for one in task.instances
    ]


def found(file: Path, **options: Any) -> tuple[list[str], tuple[str, ...], int]:
    """The faults without the file's name, the notes, and how many tasks are in order."""
    told: list[str] = []
    done = validate_pool(file, PoolOptions(**options), lambda fault: told.append(str(fault)))
    assert done.faults == len(told)
    assert all(line.startswith(str(file)) for line in told)
    told = [line.removeprefix(str(file)).lstrip(",: ") for line in told]
    assert not any("\n" in line for line in told)
    return told, done.notes, done.tasks


SAID = ("Say it.", "x", ("y",))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", [ALPACA], [SAID]),
        ("a.json", [ALPACA, ALPACA], [SAID, SAID]),
        ("lines.json", json.dumps(ALPACA) + "\n\n" + json.dumps(ALPACA) + "\n", [SAID, SAID]),
        ("below.json", {"version": 1, "data": [ALPACA, ALPACA]}, [SAID, SAID]),
        ("single.json", ALPACA, [SAID]),
        ("columns.json", {name: [text] * 2 for name, text in ALPACA.items()}, [SAID, SAID]),
        (
            "pandas.json",
            {name: {"0": text, "7": text} for name, text in ALPACA.items()},
            [SAID, SAID],
        ),
        ("bom.json", b"\xef\xbb\xbf" + json.dumps([ALPACA]).encode(), [SAID]),
        ("bom.jsonl", b"\xef\xbb\xbf" + json.dumps(ALPACA).encode() + b"\r\n", [SAID]),
        ("a.csv", "instruction,input,output\r\nSay it.,x,y\r\n", [SAID]),
        ("a.tsv", "instruction\tinput\toutput\nSay it.\tx\ty\n", [SAID]),
        ("pandas.csv", ",instruction,input,output\n0,Say it.,x,y\n", [SAID]),
        ("again.csv", "Unnamed: 0,instruction,input,output\n0,Say it.,x,y\n", [SAID]),
        ("bom.csv", b"\xef\xbb\xbfinstruction,input,output\nSay it.,x,y\n", [SAID]),
        ("no_gold.jsonl", [ALPACA | {"output": ""}], [("Say it.", "x", ())]),
        ("several.jsonl", [ALPACA | {"output": ["a", "b"]}], [("Say it.", "x", ("a", "b"))]),
        (
            "dolly.jsonl",
            [{"instruction": "Sum up.", "context": "Long.", "output": "S."}],
            [("Sum up.", "Long.", ("S.",))],
        ),
        (
            "system.jsonl",
            [ALPACA | {"system": "Be kind.", "history": []}],
            [("Be kind.\n\nSay it.", "x", ("y",))],
        ),
        (
            "history.jsonl",
            [ALPACA | {"system": "Be kind.", "history": [["a", "b"]]}],
            [("Be kind.", "user: a\n\nassistant: b\n\nuser: Say it.\nx", ("y",))],
        ),
        ("pair.jsonl", [{"prompt": "Hi", "completion": "Yo"}], [("Hi", "", ("Yo",))]),
        (
            "pair_system.jsonl",
            [{"prompt": "Hi", "completion": "Yo", "system_prompt": "Be kind."}],
            [("Be kind.", "Hi", ("Yo",))],
        ),
        ("trl.jsonl", [{"prompt": CHAT[:1], "completion": CHAT[1:]}], [("Hi", "", ("Yo",))]),
        ("trl.json", {"prompt": CHAT[:1], "completion": CHAT[1:]}, [("Hi", "", ("Yo",))]),
        ("chat.jsonl", [{"messages": [SYSTEM, *CHAT]}], [("Be kind.", "Hi", ("Yo",))]),
        (
            "empty_system.jsonl",
            [{"messages": [SYSTEM | {"content": ""}, *CHAT]}],
            [("Hi", "", ("Yo",))],
        ),
        (
            "empty_answer.jsonl",
            [{"messages": [*CHAT[:1], CHAT[1] | {"content": ""}]}],
            [("Hi", "", ())],
        ),
        ("weight.jsonl", [{"messages": [CHAT[0], CHAT[1] | {"weight": 0}]}], [("Hi", "", ())]),
        (
            "parts.jsonl",
            [{"messages": [CHAT[0] | {"content": [{"type": "text", "text": "Hi"}]}, CHAT[1]]}],
            [("Hi", "", ("Yo",))],
        ),
        (
            "beside.jsonl",
            [{"conversations": SHAREGPT, "system": "Be kind.", "tools": "[]", "images": []}],
            [("Be kind.", "Hi", ("Yo",))],
        ),
        (
            "turns.jsonl",
            [{"conversations": [*SHAREGPT, *SHAREGPT]}],
            [("user: Hi\n\nassistant: Yo\n\nuser: Hi", "", ("Yo",))],
        ),
        ("niv1.json", NIV1, [("Do it.", "q", ("r",))]),
        ("dash.json", NIV1 | {"Examples": "-"}, [("Do it.", "q", ("r",))]),
        (
            "dashes.json",
            NIV1 | {"Examples": {"Positive Examples": "-", "Negative Examples": "-"}},
            [("Do it.", "q", ("r",))],
        ),
        (
            "table.json",
            {"schema": {"fields": [{"name": "index"}]}, "data": [ALPACA | {"index": 0}]},
            [SAID],
        ),
        ("old_mac.csv", b"instruction,input,output\rSay it.,x,y\r", [SAID]),
        ("empty_rows.csv", "instruction,input,output\nSay it.,x,y\n,,\n , ,\n  \n", [SAID]),
        ("quoted.tsv", 'instruction\tinput\toutput\nSay it.\t"x"\t"y"\n', [SAID]),
        (
            "one_task_each.jsonl",
            [{"task": "t", "messages": CHAT}, {"task": "t", "messages": CHAT}],
            [("Hi", "", ("Yo",))] * 2,
        ),
    ],
)  # fmt: skip
def test_a_good_file_and_its_tasks(
    name: str, content: Any, expected: list[Any], tmp_path: Path
) -> None:
    file = write(tmp_path, name, content)
    assert read(file) == expected
    faults, _, n_tasks = found(file)
    assert (faults, n_tasks) == ([], len(expected))


ALPACA_LINE = json.dumps(ALPACA).encode() + b"\n"
TOOLS = {"tools": "search"}
UTF16 = "not UTF-8: it looks like UTF-16; convert it:"
LOST = "is not used, and without it the task means another thing"
HUGE = b'{"id": ' + b"9" * 5_000 + b', "instruction": "a", "output": "b"}'


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("a.jsonl", [ALPACA, []], "record line 2: expected a JSON object, found a list"),
        ("a.json", ALPACA_LINE + b'{"a"}\n', "record line 2: not JSON: Expecting ':' delimiter at"),
        ("a.jsonl", b'{"a": "\xe9"}\n', "record line 1: not UTF-8: byte 7 cannot be read"),
        ("a.jsonl", HUGE, "record line 1: holds a number of 5,000 digits"),
        ("a.json", b"[" + HUGE + b"]", "record entry 1: holds a number of 5,000 digits"),
        ("a.json", b'{"a": "b', "not JSON: Unterminated string starting at line 1, column 7"),
        ("a.json", b"", "not JSON: Expecting value at line 1, column 1"),
        ("a.json", "[" * 200_000, "not JSON: nested too deeply at line 1, column 2"),
        ("a.jsonl", "[" * 200_000, "record line 1: not JSON: nested too deeply"),
        ("a.json", "[7]", "record entry 1: expected a JSON object, found a number"),
        ("a.json", b"\xff\xfe[\x00]\x00", f"{UTF16} iconv -f UTF-16 -t UTF-8 OLD > NEW"),
        ("a.json", b'["\xff"]', "not UTF-8: invalid start byte"),
        ("a.json", "[]".encode("utf-16-be"), f"{UTF16} iconv -f UTF-16BE -t UTF-8"),
        ("a.jsonl", '{"a": 1}\n'.encode("utf-16"), f"record line 1: {UTF16} iconv -f UTF-16 -t"),
        ("a.jsonl", '{"a": 1}\n'.encode("utf-16-le"), f"record line 1: {UTF16} iconv -f UTF-16LE"),
        ("a.jsonl", b'{"output": "a", "output": "b"}', "record line 1: an object holds the key 'o"),
        ("a.json", b'[{"output": "a", "output": "b"}]', "record entry 1: an object holds the key"),
        ("a.json", {"train": [ALPACA], "test": [ALPACA]}, "holds several lists, 'train', 'test'"),
        ("a.json", {"what": 1}, "field 'format': unknown format: its records have the keys 'what'"),
        ("a.csv", "a,,b\n1,2,3\n", "record line 1: column 2 of the header has no name"),
        ("a.csv", "a,b\n1\n", "record line 2: has 1 fields, the header has 2"),
        (
            "a.csv",
            "instruction,output\n,\nSay it.,x\n",
            "record line 2, field 'instruction': empty",
        ),
        ("a.csv", "a;b\n1;2\n", "record line 1: holds one column, 'a;b'; commas part columns"),
        ("a.tsv", "a,b\n1,2\n", "record line 1: holds one column, 'a,b'; commas part columns"),
        (
            "a.csv",
            'instruction,output\na,b\nc,"d\ne,f\n',
            "record line 3: not CSV: unexpected end of data; lines 3 to 4 are not read: a quota",
        ),
        ("a.csv", 'a,"b\n1,2\n', "record line 1: not CSV: unexpected end of data; lines 1 to 2"),
        (
            "a.csv",
            'instruction,output\na,"b\nc",d\n',
            "record line 2: has 3 fields, the header has 2; lines 2 to 3 are not read",
        ),
        (
            "a.tsv",
            'instruction\toutput\n"a\tb\nc"\td\n',
            "record line 2: a value holds ends of rows; lines 2 to 3 are not read",
        ),
        (
            "a.tsv",
            'instruction\toutput\n"Say\ta\n\nb\tc\nHe"\td\n',
            "record line 2: a value holds ends of rows; lines 2 to 5 are not read",
        ),
        ("a.jsonl", [ALPACA | {"tools": "[{}]"}], f"record line 1, field 'tools': {LOST}"),
        ("a.jsonl", [ALPACA | {"images": ["a.png"]}], f"record line 1, field 'images': {LOST}"),
        ("a.jsonl", [ALPACA | {"context": "c"}], f"record line 1, field 'context': {LOST}"),
        (
            "a.jsonl",
            [ALPACA | {"history": ["a"]}],
            "record line 1, history[0]: expected a list of two",
        ),
        (
            "a.jsonl",
            [{"messages": [SYSTEM, *CHAT], "system": "Be rude."}],
            "record line 1, field 'system': the messages have another system message",
        ),
        (
            "a.jsonl",
            [{"messages": CHAT, "history": [["a", "b"]]}],
            f"record line 1, field 'history': {LOST}",
        ),
        (
            "a.jsonl",
            [{"prompt": "a", "completion": "b", "context": "c"}],
            f"record line 1, field 'context': {LOST}",
        ),
        (
            "a.jsonl",
            [{"prompt": "a", "completion": "b", "label": False}],
            "record line 1, field 'label': false: the completion is one that is not wanted",
        ),
        (
            "a.jsonl",
            [{"messages": [*CHAT, CHAT[0]]}],
            "record line 1, field 'messages': the last message is not the assistant's",
        ),
        (
            "a.jsonl",
            [{"messages": [CHAT[0] | {"content": ""}, CHAT[1]]}],
            "record line 1, field 'messages': a message before the last is empty",
        ),
        (
            "a.jsonl",
            [{"messages": [CHAT[0], CHAT[1] | {"content": None, "tool_calls": [{}]}]}],
            "record line 1, messages[1], field 'tool_calls': calls of tools cannot be scored",
        ),
        (
            "a.jsonl",
            [{"messages": [CHAT[0] | {"content": [{"type": "image_url"}]}, CHAT[1]]}],
            "record line 1, messages[0], field 'content[0]': only parts of text can be read",
        ),
        (
            "a.jsonl",
            [{"messages": [CHAT[0] | {"images": ["a.png"]}, CHAT[1]]}],
            f"record line 1, messages[0], field 'images': {LOST}",
        ),
        ("a.jsonl", [NIV1 | {"id": " a"}], "record line 1, field 'id': an id must not begin or"),
        ("a.jsonl", [NIV1 | {"name": "a\0"}], "record line 1, field 'name': an id must not hold a"),
        ("a.jsonl", [ALPACA | {"id": "a\nb"}], "record line 1, field 'id': an id must not hold a"),
        ("a.jsonl", [ALPACA | {"id": "a "}], "record line 1, field 'id': an id must not begin or"),
        ("a.jsonl", [ALPACA | {"id": "a\u2029b"}], "record line 1, field 'id': an id must not"),
        ("a.jsonl", [ALPACA | {"id": "\xa0a"}], "record line 1, field 'id': an id must not begin"),
        ("a\n.jsonl", [ALPACA], "record line 1, field 'id': an id must not hold a line break"),
        (
            "a.jsonl",
            [{"task": "a\0b", "definition": "d", "prompt": "p", "completion": "c"}],
            "record line 1, field 'task': an id must not hold a line break or a control",
        ),
        (
            "twice.json",
            NIV1 | {"Positive Examples": [{"input": "a", "output": "b"}]},
            "record twice, field 'Positive Examples': stands beside Examples too",
        ),
        ("a.json", {"t1": ALPACA, "t2": ALPACA}, "field 'format': unknown format: its records"),
        ("a.json", b'[{"output": "b"},]', "field 'format': unknown format: its records have"),
        ("a.csv", "instruction,output\na,b\n".encode("utf-16"), UTF16),
        ("a.tsv", "instruction\toutput\na\tb\n".encode("utf-16-le"), UTF16),
        ("a.csv", b"instruction,\xffoutput\na,b\n", "record line 1: not UTF-8"),
        ("a.jsonl", [ALPACA | {"input": "\ud83d"}], "record line 1, field 'input': not Unicode"),
        (
            "a.jsonl",
            [ALPACA | {"input": float("nan")}],
            "record line 1, field 'input': expected a text, found a number",
        ),
        (
            "a.jsonl",
            [{"id": "t", "definition": "d", "instances": [{"id": " ", "input": ""}]}],
            "record line 1, instances[0], field 'id': empty",
        ),
        (
            "a.jsonl",
            [{"id": "t", "instruction": "i", "instances": [{"input": "", "output": ""}]} | TOOLS],
            f"record line 1, field 'tools': {LOST}",
        ),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place(
    name: str, content: Any, fault: str, tmp_path: Path
) -> None:
    faults, _, _ = found(write(tmp_path, name, content))
    assert faults
    assert faults[0].startswith(fault)


INSTRUCTED = {"instruction": "a", "output": "b"}
SEED = {"id": "t", "instruction": "i", "instances": [{"input": "", "output": "o"}]}


@pytest.mark.parametrize(
    ("name", "content", "column", "meant", "role"),
    [
        ("a.csv", "instruction,inptu,output\na,b,c\n", "inptu", "input", "input"),
        ("a.tsv", "instruction\tInput\toutput\na\tb\tc\n", "Input", "input", "input"),
        ("a.json", [INSTRUCTED | {"inputs": "x"}], "inputs", "input", "input"),
        ("a.jsonl", [INSTRUCTED | {"content": "x"}], "content", "context", "input"),
        ("a.jsonl", [ALPACA | {"sytem": "Be brief."}], "sytem", "system", None),
        ("a.jsonl", [ALPACA | {"Category": "x"}], "Category", "category", "category"),
        ("a.jsonl", [SEED | {"catgeory": "x"}], "catgeory", "category", "category"),
        ("a.json", NIV1 | {"Label": ["x"]}, "Label", "Labels", None),
    ],
)
def test_a_misspelt_column_is_a_fault(
    name: str, content: Any, column: str, meant: str, role: str | None, tmp_path: Path
) -> None:
    """It would be read as one that is not there, as an empty input for instance."""
    file = write(tmp_path, name, content)
    way = f"--column {role}={column}, " if role else ""
    problem = f"is not used, and there is no {meant!r}, which it may be: {way}rename it, or leave"
    with pytest.raises(InputError, match=f"field {column!r}: {re.escape(problem)}"):
        read(file)
    if role:
        read(file, columns={role: column})


def test_a_column_that_is_no_misspelt_one_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [INSTRUCTED | {"idx": 1, "story": "x", "inptu": ""}, INSTRUCTED | {"idx": 2}]
    pool = open_pool(write(tmp_path, "a.jsonl", rows))
    for _ in range(2):
        assert len(list(pool)) == 2
    file = tmp_path / "a.jsonl"
    told = [f"{file}: {name!r} is not used" for name in ("idx", "story", "inptu")]
    assert [record.getMessage() for record in caplog.records] == told


def test_what_is_not_used_is_named(tmp_path: Path) -> None:
    rows = [ALPACA | {"score": 1}, ALPACA | {"score": 2, "Unnamed: 0": 0, "source": "here"}]
    assert found(write(tmp_path, "a.jsonl", rows))[1] == (
        "'score' is not used: 2 record(s)",
        "'source' is not used: 1 record(s)",
    )
    assert found(write(tmp_path, "t.json", NIV1))[1] == (
        "'Things to Avoid' is not used: 1 record(s)",
    )
    by_task = [ALPACA | {"task": "t"}]
    assert found(write(tmp_path, "b.jsonl", by_task))[1] == (
        "'task' is not used; --column task=task makes a task of rows that share it: 1 record(s)",
    )
    turns = [{"messages": [*CHAT, *CHAT]}]
    assert found(write(tmp_path, "c.jsonl", turns))[1] == (
        "of several answers in a conversation the last alone is a gold output: 1 record(s)",
    )
    more: dict[str, Any] = {"thinking": "Hm.", "refusal": None}
    thoughts = [{"messages": [more | one for one in CHAT]}]
    assert found(write(tmp_path, "d.jsonl", thoughts))[1] == (
        "'thinking' in messages is not used: 1 record(s)",
    )
    instances = [{"input": "", "output": "", "source": "here"}]
    seed = {"id": "t", "instruction": "i", "instances": instances}
    assert found(write(tmp_path, "e.jsonl", [seed]))[1][0] == (
        "'source' in instances is not used: 1 record(s)"
    )
    rows = [{"task": "t", "prompt": "a", "completion": "b"}]
    assert "'task' is not used; --column task=task" in found(write(tmp_path, "f.jsonl", rows))[1][0]


def test_what_systems_keep_beside_a_file_is_not_read(tmp_path: Path) -> None:
    """As the `._name` that macOS leaves, and `.ipynb_checkpoints`."""
    for folder, name, content in (("rows", "a.jsonl", [ALPACA]), ("tasks", "t.json", NIV1)):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, name, content)
        (tmp_path / folder / f"._{name}").write_bytes(b"\0\5\26\7")
        assert found(tmp_path / folder)[0] == []


def test_a_packed_file_is_no_pool(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(ALPACA).encode()))
    with pytest.raises(InputError, match=r"a\.jsonl\.gz: is packed; unpack it first"):
        open_pool(path)


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", [ALPACA]), ("t.json", NIV1)])
def test_a_packed_part_is_not_left_out(name: str, content: Any, tmp_path: Path) -> None:
    write(tmp_path, name, content)
    packed = tmp_path / f"Z{name.upper()}.gz"
    packed.write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    (tmp_path / "others.csv.zip").write_bytes(b"")
    with pytest.raises(InputError, match=rf"{packed.name}: is packed; unpack it first"):
        open_pool(tmp_path)
    packed.with_suffix("").write_bytes((tmp_path / name).read_bytes())
    assert len(read(tmp_path)) == 2, "one that is there unpacked is; endings may be in upper case"


def test_a_packed_task_leads_to_no_other_pool(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/t.json.gz").write_bytes(b"")
    write(tmp_path, "held_out.json", NIV1)
    with pytest.raises(InputError, match=r"t\.json\.gz: is packed; unpack it first"):
        open_pool(tmp_path)


def test_columns_of_a_data_set_that_are_decoded(tmp_path: Path) -> None:
    from datasets import (  # type: ignore[import-untyped]
        Dataset,
        Features,
        Image,
        Json,
        List,
    )

    images = [None, {"bytes": b"no image", "path": None}]
    rows = {"messages": [CHAT, [CHAT[0] | {"name": "x"}, CHAT[1]]], "image": images}
    features = Features(messages=List(Json()), image=Image())
    Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "set")
    faults, _, n_tasks = found(tmp_path / "set")
    assert n_tasks == 1
    assert [told.startswith(f"record row 2, field 'image': {LOST}") for told in faults] == [True]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.timestamp("us"), 2**60),  # what of this Python says, and when, differs
        (pa.timestamp("us", "UTC"), 2**60),
        (pa.timestamp("ms"), 2**60),
        (pa.date32(), 2**31 - 1),
        (pa.duration("ms"), 2**62),
    ],
)
def test_a_time_that_python_has_none_for_is_a_fault_of_its_row(
    kind: Any, value: int, tmp_path: Path
) -> None:
    from datasets import Dataset

    integers = pa.int32() if kind == pa.date32() else pa.int64()
    times = pa.array([0, value, None], integers).view(kind)
    table = pa.table({**{name: [text] * 3 for name, text in ALPACA.items()}, "at": times})
    pq.write_table(table, tmp_path / "a.parquet")
    Dataset(table).save_to_disk(tmp_path / "set")
    for pool in (tmp_path / "a.parquet", tmp_path / "set"):
        (fault,), _, n_tasks = found(pool)
        assert fault.startswith("record row 2: cannot be read, a time out of range? (")
        assert n_tasks == 2


def test_what_lies_beside_tasks_does_not_make_them_rows(tmp_path: Path) -> None:
    write(tmp_path, "about.json", {"source": "me"})
    for name in ("t1.json", "t2.json"):
        write(tmp_path, name, NIV1)
    told: list[InputError] = []
    assert validate_pool(tmp_path, PoolOptions(), told.append).tasks == 2
    assert {fault.file for fault in told} == {str(tmp_path / "about.json")}
    for name in ("t1.json", "t2.json"):
        write(tmp_path, name, [ALPACA])
    assert open_pool(tmp_path).format == "alpaca"


def test_tasks_without_an_id_in_several_parts(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        write(tmp_path, name, [NIV1, NIV1])
    assert [task.id for task in open_pool(tmp_path)] == ["a-1", "a-2", "b-1", "b-2"]


def test_examples_of_the_first_natural_instructions(tmp_path: Path) -> None:
    (task,) = open_pool(write(tmp_path, "niv1.json", NIV1))
    assert isinstance(task, Task)
    assert [(one.input, one.output, one.explanation) for one in task.positive_examples] == [
        ("a", "b", "c")
    ]


def test_a_row_at_fault_leaves_the_rest_of_its_task(tmp_path: Path) -> None:
    rows = [{"task": "t", "definition": "d", "prompt": p, "completion": "c"} for p in "ab"]
    rows.insert(1, rows[0] | {"prompt": ""})
    faults, _, n_tasks = found(write(tmp_path, "a.jsonl", rows))
    assert faults == ["record line 2, field 'prompt': empty"]
    assert n_tasks == 1


def test_a_data_set_that_wants_to_run_a_script_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load(*_: object) -> None:
        raise RuntimeError("Dataset scripts are no longer supported, but found old.py")

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr("engine.pools.tables.ask_hub", lambda *_: "found")
    with pytest.raises(InputError, match=r"^hub:old/one: cannot be loaded .* no longer supported"):
        open_pool("hub:old/one")


def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    from huggingface_hub import constants

    asked: list[tuple[str, str]] = []

    def silent(repo: str, kind: str) -> str:
        asked.append((repo, kind))
        return "unreachable"

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("engine.pools.tables.ask_hub", silent)
    with pytest.raises(InputError, match=r"^hub:no/such: cannot be loaded as a data set: Couldn't"):
        open_pool("hub:no/such")
    assert asked == [("no/such", "datasets")]


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("bundled", {"split": "train"}, "bundled, field 'split': the bundled pool is read as it"),
        ("bundled", {"format": "chat"}, "bundled, field 'format': the bundled pool is read as it"),
        (
            "bundled",
            {"columns": parse_columns(["id=x"], Columns)},
            "bundled, field 'columns': the bundled",
        ),
        ("bundled", {"subset": "x"}, "bundled, field 'subset': only data sets of the hub have"),
        (
            "niv1.json",
            {"columns": parse_columns(["id=x"], Columns)},
            "niv1.json, field 'columns': files of",
        ),
        ("a.jsonl", {"split": "train"}, "a.jsonl, field 'split': this pool has no splits"),
        ("hub:", {}, "hub:: names no data set"),
        ("hub:///", {}, "hub:///: names no data set; its form is hub:OWNER/NAME"),
        ("hub:a/b/c", {}, "hub:a/b/c: names no data set"),
        ("x" * 300, {}, "File name too long"),
        ("~nobody-here/x", {}, "cannot be opened"),
        ("fifo", {}, "fifo: can be read but once, and is gone through several times"),
        ("-", {}, "-: no such file or folder"),
    ],
)
def test_what_is_no_pool(
    spec: str, options: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "niv1.json", NIV1)
    write(tmp_path, "a.jsonl", [ALPACA])
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InputError) as caught:
        open_pool(spec, PoolOptions(**options))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
