"""What each API says of its fields, as far as it decides whether a value may be left unread.

One table for requests and answers of OpenAI's chat, completions, responses and embeddings, Anthropic's messages and
Gemini's generateContent. A value is left unread only where this says that it is one of a few words, a short id, a small
number or media, and it looks like that too; everything else is text. A value whose field is not here is read whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec


class Schema(msgspec.Struct, frozen=True):
    """One field. The default is text: a string is, and an object or array is read as the JSON source that it is."""

    fields: Mapping[str, Schema] = {}
    """Of an object."""
    items: Schema | None = None
    """Of an array; None: it is read whole."""
    pattern: re.Pattern[bytes] | None = None
    """A JSON string that fits is no text."""
    number: bool = False
    """A number of up to ten digits is no text."""
    media: bool = False
    """Base64 and arrays of numbers are no text, and cannot be looked into."""
    rest: Schema | None = None
    """Fields of an object that are not named, if their names are plain words."""


MEDIA = re.compile(
    rb'"(?:data:[a-z0-9.+-]+(?:/|\\\\/)[a-z0-9.+-]+(?:;[a-z0-9=-]+)*;base64,|(?=[^"]{128}))[A-Za-z0-9+/_\\-]*={0,2}"'
)
"""Base64: a data URL, or more of it than any value to be found; JSON may write a slash with a backslash."""
NUMBERS = re.compile(rb"[\[\], \t\n\r0-9.eE+-]*")
TOKENS = re.compile(rb"(?:[\[\], \t\n\r]|[0-9]{1,7}(?![0-9]))*")
"""Arrays of tokens, which a client may send in place of text."""
WORD = re.compile(rb"[a-z][a-z_]{0,39}")
"""A field's name that is one of an API's own kind."""

_ID_PREFIXES = (
    "call|toolu|srvtoolu|mcptoolu|msg|fc|fco|ctc|rs|ws|fs|ci|ig|mcp|mcpl|mcpr|lsh|cu|resp|chatcmpl|cmpl|gen|tool|item|event"
    "|evt|file|conv|run|step|asst|thread|fp|req|batch|vs|cntr|emb|functions"
)
ID = re.compile(
    rb'"(?:(?:(?:' + _ID_PREFIXES.encode() + rb")(?:[_-][a-z]{2,10}){0,2}[_.:-])?"
    rb"(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{24,64})"
    rb"|(?:" + _ID_PREFIXES.encode() + rb')[_.:-](?![^"]*[0-9]{7})[A-Za-z0-9_.:-]{1,64}'
    rb'|(?![^"]*[0-9]{5})[A-Za-z0-9-]{0,9})"'
)
"""What ids of these APIs look like: a known prefix, a UUID or hexadecimal digits, or a few characters."""
_LABEL = re.compile(rb'"(?:[a-z](?:[a-z_.-]|[0-9]{1,3}(?![0-9])|20[0-9]{6}(?![0-9])){0,63})?"')
_NAME_OF_MODEL = re.compile(rb'"[A-Za-z](?:[A-Za-z_./:@-]|[0-9]{1,6}(?![0-9])|20[0-9]{6}(?![0-9])){0,127}"')
_FINISH = re.compile(rb'"[A-Za-z_]{0,32}"')
_MIME = re.compile(rb'"[a-z]+/[a-z0-9.+-]{1,60}"')


def one_of(*values: str) -> Schema:
    """One of these words."""
    return Schema(pattern=re.compile(b'"(?:' + b"|".join(re.escape(each.encode()) for each in values) + b')"'))


def fields(**named: Schema) -> Schema:
    return Schema(fields=named)


def array(items: Schema) -> Schema:
    return Schema(items=items)


TEXT = Schema()
NUMBER = Schema(number=True)
SHORT_ID = Schema(pattern=ID)
LABEL = Schema(pattern=_LABEL)
MIME = Schema(pattern=_MIME)
BASE64 = Schema(media=True)
COUNTS = Schema(number=True, rest=Schema(number=True, rest=NUMBER))

ROLE = one_of("system", "developer", "user", "assistant", "tool", "function", "model")
_STATUS = one_of("completed", "incomplete", "in_progress", "failed", "searching", "calling", "generating")
_DETAIL = one_of("auto", "low", "high", "original")
_CACHE = fields(type=one_of("ephemeral"), ttl=one_of("5m", "1h"))
_TYPE = one_of(
    *("text", "image", "image_url", "input_audio", "audio", "file", "video_url", "refusal", "document", "thinking"),
    *("redacted_thinking", "tool_use", "tool_result", "server_tool_use", "web_search_tool_result", "search_result"),
    *(
        "input_text",
        "output_text",
        "input_image",
        "input_file",
        "summary_text",
        "reasoning_text",
        "message",
        "reasoning",
    ),
    *("function", "custom", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"),
    *("item_reference", "base64", "url", "content", "url_citation", "file_citation"),
)
_SOURCE = fields(type=_TYPE, media_type=MIME, data=BASE64, url=BASE64, file_id=SHORT_ID)
_FUNCTION = fields(name=TEXT, arguments=TEXT)
_CALL = fields(id=SHORT_ID, type=_TYPE, index=NUMBER, function=_FUNCTION, custom=fields(name=TEXT, input=TEXT))
_INLINE = fields(mimeType=MIME, mime_type=MIME, data=BASE64)
_FILE = fields(mimeType=MIME, mime_type=MIME, fileUri=TEXT, file_uri=TEXT)


def _part(content: Schema) -> Schema:
    """A part of a message's content, in any of the APIs."""
    return Schema(
        fields={
            **dict.fromkeys(("type",), _TYPE),
            **dict.fromkeys(("id", "tool_use_id", "file_id", "call_id"), SHORT_ID),
            **dict.fromkeys(("text", "refusal", "thinking", "name", "input", "title", "context"), TEXT),
            **dict.fromkeys(("is_error", "thought"), TEXT),
            **dict.fromkeys(("data", "signature", "file_data", "thoughtSignature", "encrypted_content"), BASE64),
            "image_url": Schema(fields={"url": BASE64, "detail": _DETAIL}, media=True),
            "video_url": Schema(fields={"url": BASE64}, media=True),
            "detail": _DETAIL,
            "input_audio": fields(data=BASE64, format=one_of("wav", "mp3")),
            "file": fields(file_data=BASE64, file_id=SHORT_ID, filename=TEXT),
            "filename": TEXT,
            "source": _SOURCE,
            "cache_control": _CACHE,
            "content": content,
            "inlineData": _INLINE,
            "inline_data": _INLINE,
            "fileData": _FILE,
            "functionCall": fields(name=TEXT, args=TEXT, id=SHORT_ID),
            "functionResponse": fields(name=TEXT, response=TEXT, id=SHORT_ID),
        }
    )


_INNER_PART = _part(TEXT)
PART = _part(Schema(fields=_INNER_PART.fields, items=_INNER_PART))
CONTENT = Schema(fields=PART.fields, items=PART)

MESSAGE = Schema(
    fields={
        **PART.fields,
        "role": ROLE,
        "content": CONTENT,
        "parts": array(PART),
        "status": _STATUS,
        "tool_calls": array(_CALL),
        "function_call": _FUNCTION,
        "tool_call_id": SHORT_ID,
        "reasoning_content": TEXT,
        "arguments": TEXT,
        "output": CONTENT,
        "summary": array(PART),
        "audio": fields(id=SHORT_ID, data=BASE64, transcript=TEXT, expires_at=NUMBER),
    }
)
_MESSAGES = Schema(items=MESSAGE, fields=MESSAGE.fields)

_NUMBERS = (
    *(
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "n",
        "seed",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
    ),
    *("presence_penalty", "frequency_penalty", "repetition_penalty", "top_logprobs", "best_of", "dimensions"),
    *("max_tool_calls", "topP", "topK", "maxOutputTokens", "candidateCount", "presencePenalty", "frequencyPenalty"),
)
_TIERS = one_of("auto", "default", "flex", "priority", "scale", "standard_only")
_CHOICE = one_of("auto", "none", "required", "any")
_SUMMARY = one_of("auto", "concise", "detailed")
_EFFORT = one_of("none", "minimal", "low", "medium", "high", "xhigh", "max")

REQUEST = Schema(
    fields={
        **dict.fromkeys(_NUMBERS, NUMBER),
        **dict.fromkeys(("messages", "input", "contents"), _MESSAGES),
        **dict.fromkeys(("system", "prompt", "instructions", "systemInstruction", "system_instruction"), CONTENT),
        "systemInstruction": Schema(fields={"role": ROLE, "parts": array(PART)}),
        "system_instruction": Schema(fields={"role": ROLE, "parts": array(PART)}),
        **dict.fromkeys(("model", "user", "metadata", "logit_bias", "tools", "functions", "suffix"), TEXT),
        **dict.fromkeys(("stop", "stop_sequences", "safety_identifier", "prompt_cache_key", "response_format"), TEXT),
        **dict.fromkeys(("stream", "store", "background", "parallel_tool_calls", "logprobs", "echo"), NUMBER),
        "stream_options": Schema(rest=NUMBER),
        "service_tier": _TIERS,
        "reasoning_effort": _EFFORT,
        "verbosity": _EFFORT,
        "reasoning": fields(effort=_EFFORT, summary=_SUMMARY, generate_summary=_SUMMARY),
        "thinking": fields(type=one_of("enabled", "disabled", "adaptive"), budget_tokens=NUMBER),
        "encoding_format": one_of("float", "base64"),
        "truncation": one_of("auto", "disabled"),
        "previous_response_id": SHORT_ID,
        "tool_choice": Schema(
            pattern=_CHOICE.pattern,
            fields={
                "type": one_of("auto", "none", "required", "any", "function", "tool", "custom", "allowed_tools"),
                "name": TEXT,
                "function": fields(name=TEXT),
                "disable_parallel_tool_use": NUMBER,
            },
        ),
        "function_call": Schema(pattern=_CHOICE.pattern, fields={"name": TEXT}),
        "modalities": array(one_of("text", "audio")),
    }
)

_ANSWER_PART = Schema(
    fields={
        **PART.fields,
        **dict.fromkeys(("type", "role", "status", "object"), LABEL),
        **dict.fromkeys(("id", "tool_call_id", "item_id", "tool_use_id", "call_id", "response_id"), SHORT_ID),
        **dict.fromkeys(("start_index", "end_index", "index"), NUMBER),
        "arguments": TEXT,
        "logprobs": TEXT,
        "annotations": TEXT,
        "citations": TEXT,
        "b64_json": BASE64,
        "partial_image_b64": BASE64,
    },
)
_ANSWER_CALL = fields(id=SHORT_ID, type=LABEL, index=NUMBER, function=_FUNCTION, custom=fields(name=TEXT, input=TEXT))
_ANSWER_MESSAGE = Schema(
    fields={
        **_ANSWER_PART.fields,
        "model": Schema(pattern=_NAME_OF_MODEL),
        "content": Schema(fields=_ANSWER_PART.fields, items=_ANSWER_PART),
        "parts": array(_ANSWER_PART),
        "summary": array(_ANSWER_PART),
        "tool_calls": array(_ANSWER_CALL),
        "function_call": _FUNCTION,
        "reasoning_content": TEXT,
        "reasoning": TEXT,
        "stop_reason": Schema(pattern=_FINISH),
        "stop_sequence": TEXT,
        "usage": COUNTS,
        "partial_json": TEXT,
        "audio": fields(id=SHORT_ID, data=BASE64, transcript=TEXT, expires_at=NUMBER),
    }
)
_ANSWER_CHOICE = Schema(
    fields={
        "index": NUMBER,
        "text": TEXT,
        "message": _ANSWER_MESSAGE,
        "delta": _ANSWER_MESSAGE,
        "logprobs": TEXT,
        "finish_reason": Schema(pattern=_FINISH),
        "native_finish_reason": Schema(pattern=_FINISH),
        "stop_reason": Schema(pattern=_FINISH, number=True),
        "matched_stop": NUMBER,
        "usage": COUNTS,
        # Gemini
        "content": fields(role=LABEL, parts=array(_ANSWER_PART)),
        "finishReason": Schema(pattern=_FINISH),
        "avgLogprobs": NUMBER,
        "tokenCount": NUMBER,
        "safetyRatings": array(
            Schema(
                fields={
                    "category": Schema(pattern=_FINISH),
                    "probability": Schema(pattern=_FINISH),
                    "blocked": NUMBER,
                }
            )
        ),
    }
)
_RESPONSE: dict[str, Any] = {
    "id": SHORT_ID,
    "object": LABEL,
    "status": LABEL,
    "created": NUMBER,
    "created_at": NUMBER,
    "completed_at": NUMBER,
    "model": Schema(pattern=_NAME_OF_MODEL),
    "system_fingerprint": SHORT_ID,
    "service_tier": LABEL,
    "usage": COUNTS,
    "output": array(_ANSWER_MESSAGE),
    "incomplete_details": fields(reason=LABEL),
    "previous_response_id": SHORT_ID,
    "truncation": LABEL,
    "tool_choice": TEXT,
}

ANSWER = Schema(
    fields={
        **_ANSWER_MESSAGE.fields,
        **_RESPONSE,
        **dict.fromkeys(("output_index", "content_index", "summary_index", "sequence_number"), NUMBER),
        **dict.fromkeys(("item_id", "event_id", "responseId", "response_id"), SHORT_ID),
        "provider": LABEL,
        "modelVersion": Schema(pattern=_NAME_OF_MODEL),
        "usageMetadata": Schema(rest=Schema(number=True, pattern=_FINISH, rest=NUMBER, items=TEXT)),
        "createTime": TEXT,
        "obfuscation": Schema(pattern=re.compile(rb'"[A-Za-z0-9]{0,64}"')),
        "choices": array(_ANSWER_CHOICE),
        "candidates": array(_ANSWER_CHOICE),
        "delta": _ANSWER_MESSAGE,
        "message": _ANSWER_MESSAGE,
        "content_block": _ANSWER_PART,
        "part": _ANSWER_PART,
        "item": _ANSWER_MESSAGE,
        "response": Schema(fields=_RESPONSE),
        "error": fields(message=TEXT, type=LABEL, code=LABEL, param=TEXT, status=LABEL),
        "data": array(fields(object=LABEL, index=NUMBER, embedding=BASE64, b64_json=BASE64, url=TEXT)),
        "input": TEXT,
        "args": TEXT,
        "severity": LABEL,
        "code": LABEL,
    }
)
