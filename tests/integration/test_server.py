"""What a real server offers beside scores: OpenAI's routes, metrics, one error shape."""

from __future__ import annotations

import httpx
import openai
import pytest

from engine.client import EngineClient
from engine.pools.bundled import training_pool
from engine.process.engine_process import EngineProcess
from engine.weights.identity import weights_identity
from tests.integration.reference import Reference
from tests.integration.test_scoring_exact import CONFIG

pytestmark = pytest.mark.integration


def test_an_ordinary_openai_client(
    server: EngineProcess, client: EngineClient, base: Reference
) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as ordinary:
        model = ordinary.models.list().data[0].id
        completion = ordinary.completions.create(
            model=model, prompt="The capital of France is", max_tokens=4, temperature=0
        )
        assert "Paris" in completion.choices[0].text
        chat = ordinary.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "Say hello."}],
            max_tokens=8,
            temperature=0,
        )
        assert chat.choices[0].message.content


def test_what_is_served_is_named_by_digests_that_a_client_can_compute(
    client: EngineClient, base: Reference
) -> None:
    served = client.weights().served
    assert served.weights == weights_identity(base.folder)
    assert served.tokenizer_model == served.model == str(base.folder)
    served.check_tokenizer(base.tokenizer, "own")
    assert served.dtype == "float32"
    assert served.max_model_len == base.model.config.max_position_embeddings
    assert served.version.startswith("base-")


def test_metrics_stand_on_vllms_own_route(server: EngineProcess, client: EngineClient) -> None:
    (score,) = client.score(training_pool()[:1], CONFIG)
    text = httpx.get(f"{server.url}/metrics", timeout=600).text
    assert "vllm:" in text
    for name in ("pairs_total", "tokens_computed_total", "tokens_reused_total", "reloads_total"):
        assert f"jostle:{name}" in text
    assert f'jostle:live_version{{version="{score.weights_version}"}} 1.0' in text
    assert 'jostle:requests_total{route="POST /v1/prompt_uncertainty",status="200"}' in text


def test_every_error_has_one_shape(server: EngineProcess) -> None:
    json = {"Content-Type": "application/json"}
    with httpx.Client(base_url=server.url, timeout=600, headers=json) as http:
        for path, content in (
            ("/v1/prompt_uncertainty", b"\xff\xfe"),
            ("/v1/completion_logprobs", b'{"pairs": ' + b"[" * 100_000),
            ("/v1/completion_logprobs", b" " * (33 * 2**20)),
            ("/v1/completions", b" " * (33 * 2**20)),
            ("/v1/nowhere", b"{}"),
        ):
            answer = http.post(path, content=content)
            assert answer.status_code in (400, 404, 413)
            assert answer.json()["error"]["code"] == answer.status_code
    assert httpx.get(f"{server.url}/ready", timeout=600).status_code == 200
