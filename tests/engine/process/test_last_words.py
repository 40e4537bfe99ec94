"""The one line of a log that says why."""

from __future__ import annotations

import pytest

from engine.process.last_words import last_words

CONTEXT = """\
(APIServer pid=7) INFO 11-26 13:00:00 [api_server.py:10] starting
(APIServer pid=7) Traceback (most recent call last):
(APIServer pid=7)   File "x.py", line 1, in <module>
(APIServer pid=7)     main()
(APIServer pid=7) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
(APIServer pid=7)   Value error, User-specified max_model_len (9) is greater [type=value_error, x=1]
(APIServer pid=7)     For further information visit https://errors.example
"""
ENGINE = """\
(EngineCore pid=9) ERROR 11-26 13:00:00 [core.py:10] EngineCore failed to start.
(EngineCore pid=9) ERROR 11-26 13:00:00 [core.py:10] Traceback (most recent call last):
(EngineCore pid=9) ERROR 11-26 13:00:00 [core.py:10] ValueError: No available memory for the cache.
(EngineCore pid=9) Process EngineCore:
(APIServer pid=7) RuntimeError: Engine core initialization failed. See root cause above. Failed: {}
"""


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (CONTEXT, "User-specified max_model_len (9) is greater"),
        (ENGINE, "ValueError: No available memory for the cache."),
        (
            ENGINE.splitlines()[-1],
            "RuntimeError: Engine core initialization failed. See root cause above. Failed: {}",
        ),
        ("jostle serve: error: field '--grpc': no\n", "jostle serve: error: field '--grpc': no"),
        (
            "usage: x\napi_server.py: error: unrecognized arguments: --foo\n",
            "api_server.py: error: unrecognized arguments: --foo",
        ),
        ("a.b.OutOfMemoryError: too much\n\n  goodbye\n", "a.b.OutOfMemoryError: too much"),
        ("\x1b[31mValueError: red\x1b[0;0m\n", "ValueError: red"),
        ("KeyboardInterrupt\n", "KeyboardInterrupt"),
        ("Killed\n\n", "Killed"),
        ("the ValueError: of a sentence\nlast\n", "last"),
        ("", ""),
        ("\n \n", ""),
    ],
)
def test_last_words(log: str, said: str) -> None:
    assert last_words(log) == said
