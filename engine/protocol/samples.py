"""Outputs that were sampled."""

from __future__ import annotations

from engine.protocol.api import TokenIds
from engine.protocol.completions import TokenPair
from engine.tasks import Record


class Sample(Record):
    """A sampled output.

    Attributes:
        index: The prompt, counted from 0.
        number: Which of the prompt's samples it is, from 0.
        text: The output, special tokens left out.
        finish_reason: `stop` (it came to its end) or `length`.
        prompt_token_ids: The prompt as the engine saw it.
        token_ids: The output, the token that ended it included.
    """

    index: int
    number: int
    text: str
    finish_reason: str
    prompt_token_ids: TokenIds
    token_ids: TokenIds

    @property
    def pair(self) -> TokenPair:
        """Prompt and output, to be scored exactly as they were sampled."""
        return TokenPair(
            prompt_token_ids=self.prompt_token_ids, completion_token_ids=self.token_ids
        )
