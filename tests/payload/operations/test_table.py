"""Which row a method and a path lead to, in every spelling, and what a row says about fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.payload.operations.openai import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES
from extproc.payload.operations.operation import Body, ModelIn, System, UsageForm
from extproc.payload.operations.others import MESSAGES
from extproc.payload.operations.table import OPERATIONS, OTHER, call_of, chat_path, is_base, operation_of, with_model

ROWS = [
    ("POST", "/v1/chat/completions", "chat_completions"),
    ("POST", "/compatible-mode/v1/chat/completions?a=/x/embeddings", "chat_completions"),
    ("POST", "/chat/completions", "chat_completions"),
    ("POST", "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21", "chat_completions"),
    ("GET", "/v1/chat/completions", "stored_chats"),
    ("GET", "/v1/chat/completions/c1/messages", "stored_chats"),
    ("POST", "/v1/completions", "completions"),
    ("POST", "/v1/embeddings", "embeddings"),
    ("POST", "/openai/responses?api-version=1", "responses"),
    ("GET", "/v1/responses/abc", "stored_responses"),
    ("HEAD", "/v1/responses/abc", "stored_responses"),
    ("DELETE", "/v1/responses/abc", "stored_responses"),
    ("POST", "/v1/responses/abc/cancel", "stored_responses"),
    ("GET", "/v1/responses/abc/input_items", "stored_responses"),
    ("POST", "/v1/responses/input_tokens", "response_tokens"),
    ("POST", "/v1/rerank", "rerank"),
    ("POST", "/v1/moderations", "moderations"),
    ("POST", "/v1/images/generations", "images"),
    ("POST", "/v1/images/edits", "image_edits"),
    ("POST", "/v1/audio/speech", "speech"),
    ("POST", "/v1/audio/transcriptions", "transcription"),
    ("POST", "/v1/audio/translations", "transcription"),
    ("GET", "/v1/files", "files"),
    ("POST", "/v1/files", "files"),
    ("GET", "/v1/files/f/content", "files"),
    ("POST", "/v1/batches/b/cancel", "batches"),
    ("POST", "/v1/fine_tuning/jobs/j/cancel", "fine_tuning"),
    ("GET", "/v1/models", "models"),
    ("HEAD", "/v1/models", "models"),
    ("GET", "/v1beta/models?pageSize=5", "models"),
    ("GET", "/v1/models/org/name", "model"),
    ("GET", "/v1/models/a%2Fb", "model"),
    ("GET", "/v1/realtime?model=m", "realtime"),
    ("POST", "/v1/threads/t/messages", "assistants"),
    ("POST", "/v1/threads/t/runs/r/cancel", "assistants"),
    ("POST", "/v1/messages", "messages"),
    ("POST", "/anthropic/v1/messages", "messages"),
    ("POST", "/v1/messages/count_tokens?beta=true", "count_tokens"),
    ("GET", "/v1/messages/batches/b/results", "message_batches"),
    ("POST", "/v1beta/models/gemini-2.5-pro:generateContent", "generate_content"),
    ("POST", "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse", "stream_generate_content"),
    (
        "POST",
        "/v1/projects/p/locations/l/publishers/google/models/gemini-2.5-pro:generateContent",
        "generate_content",
    ),
    ("POST", "/v1beta/models/text-embedding-004:embedContent", "embed_content"),
    ("POST", "/v1beta/models/gemini-2.5-pro:countTokens", "gemini_count_tokens"),
    ("POST", "/tokenize", "tokenize"),
    ("POST", "/detokenize", "tokenize"),
    ("POST", "/pooling", "pooling"),
    ("POST", "/v1/score", "pooling"),
    ("POST", "/generate", "sglang_generate"),
    ("POST", "/api/chat", "ollama_chat"),
    ("POST", "/api/generate", "ollama_generate"),
    ("POST", "/api/embed", "ollama_embed"),
    ("GET", "/api/tags", "ollama_models"),
    ("POST", "/v2/chat", "cohere_chat"),
    ("POST", "/v2/embed", "cohere_embed"),
    ("POST", "/model/anthropic.claude-v2%3A1/converse", "converse"),
    ("POST", "/model/anthropic.claude-v2:1/converse-stream", "converse_stream"),
    ("POST", "/model/anthropic.claude-v2:1/invoke-with-response-stream", "invoke_model_stream"),
    ("POST", "/v1/xcompletions", "other"),
    ("PUT", "/v1/chat/completions", "other"),
    ("GET", "/v1/embeddings", "other"),
    ("POST", "/", "other"),
    ("POST", "", "other"),
    ("POST", "?/v1/completions", "other"),
]


@pytest.mark.parametrize(("method", "path", "name"), ROWS)
def test_the_row_of_a_path(method: str, path: str, name: str) -> None:
    assert operation_of(method, path).name == name


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions/",
        "/v1/Chat/COMPLETIONS",
        "/V1/chat/completions",
        "/v1/chat/completions;version=1",
        "/v1;a/chat;b/completions//",
        "/v1%2fchat%2Fcompletions",
        "/v1/chat/%63ompletions",
        "/v1//chat/completions",
    ],
)
def test_every_spelling_leads_to_the_same_row_and_is_put_right(path: str) -> None:
    call = call_of("POST", path + "?q=1")
    assert (call.operation, call.path, call.base) == (CHAT, "/v1/chat/completions", "/v1")


def test_the_usual_spelling_stays() -> None:
    assert call_of("POST", "/v1/chat/completions").path is None
    assert call_of("GET", "/v1/models/a%2Fb").path is None


@given(st.text(max_size=40), st.sampled_from(["GET", "POST", "DELETE", "x"]))
def test_any_path_has_a_row(path: str, method: str) -> None:
    assert call_of(method, path).operation in OPERATIONS
    assert call_of(method, "/" + path + "/v1/chat/completions").operation in (CHAT, *OPERATIONS)


@pytest.mark.parametrize(
    ("method", "path", "model", "renamed"),
    [
        ("POST", "/v1beta/models/a:generateContent", "a", "/v1beta/models/t/x:generateContent"),
        ("POST", "/v1beta/Models/a:generatecontent/", "a", "/v1beta/models/t/x:generateContent"),
        ("POST", "/model/a%3A1/converse", "a:1", "/model/t/x/converse"),
        ("POST", "/openai/deployments/a/chat/completions", "a", "/openai/deployments/t/x/chat/completions"),
        ("GET", "/v1/models/a/b", "a/b", "/v1/models/t/x"),
        ("POST", "/v1/chat/completions", "", None),
    ],
)
def test_models_in_paths(method: str, path: str, model: str, renamed: str | None) -> None:
    call = call_of(method, path)
    assert call.model == model
    assert with_model(call, "t/x") == renamed


@pytest.mark.parametrize(
    ("path", "chats"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/api/v3", "/api/v3/chat/completions"),
        ("/api/v3/", "/api/v3/chat/completions"),
        ("/", "/chat/completions"),
        ("/v1/messages", "/v1/messages"),
    ],
)
def test_a_base_url_is_completed(path: str, chats: str) -> None:
    assert chat_path(path) == chats
    assert is_base(path) == (path != chats)


def test_rows_are_consistent() -> None:
    names = [operation.name for operation in OPERATIONS]
    assert len(set(names)) == len(names)
    for operation in OPERATIONS:
        assert operation.consumes == (operation.usage is not UsageForm.NONE), operation
        assert operation.consumes or not (operation.estimated or operation.cacheable or operation.predictable)
        assert operation.prompt or not operation.consumes, operation
        assert operation.limits or operation.system is System.NOWHERE or "invoke" in operation.name, operation
        assert operation.body is not Body.NONE or operation.model is not ModelIn.BODY, operation
    assert not OTHER.consumes


@pytest.mark.parametrize(
    ("operation", "field", "name"),
    [
        (CHAT, "temperature", "temperature"),
        (CHAT, "enable_thinking", "enable_thinking"),
        (CHAT, "max_output_tokens", "max_tokens"),
        (CHAT, "input", None),
        (COMPLETIONS, "tools", None),
        (RESPONSES, "max_tokens", "max_output_tokens"),
        (RESPONSES, "frequency_penalty", None),
        (RESPONSES, "temperature", "temperature"),
        (MESSAGES, "stop", "stop_sequences"),
        (MESSAGES, "n", None),
        (EMBEDDINGS, "temperature", None),
        (EMBEDDINGS, "dimensions", "dimensions"),
        (OTHER, "temperature", None),
        (operation_of("POST", "/v1beta/models/m:generateContent"), "top_p", "generationConfig.topP"),
        (operation_of("POST", "/api/chat"), "temperature", "options.temperature"),
    ],
    ids=str,
)
def test_names_of_fields(operation: object, field: str, name: str | None) -> None:
    assert operation.name_of(field) == name  # type: ignore[attr-defined]
