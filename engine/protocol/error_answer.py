"""What every route answers where it fails."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from engine.schema_text import describe


class Answer(BaseModel):
    """Base of what vLLM answers as well, perhaps with more in it."""

    model_config = ConfigDict(json_schema_extra=describe)


class ErrorInfo(Answer):
    """What went wrong, in vLLM's own shape.

    Attributes:
        message: What is wrong; names the record and the field.
        type: The kind of error, such as `BadRequestError`.
        param: The field at fault.
        code: The HTTP status; of a stream's error line the status it would have had.
        record: The record at fault: a task id, or `pairs[3]`.
    """

    message: str
    type: str
    param: str | None = None
    code: int
    record: str | None = None


class ErrorAnswer(Answer):
    """Body of every answer that is no success, and last line of a stream that failed.

    Attributes:
        error: What went wrong.
    """

    error: ErrorInfo
