"""Operations of OpenAI's API, with what engines and other vendors serve beside it."""

from __future__ import annotations

from extproc.payload.operations.operation import Body, Dialect, ModelIn, Operation, Streams, System, UsageForm

_SAMPLING = frozenset(("temperature", "top_p", "seed", "stop", "frequency_penalty", "presence_penalty", "logit_bias"))
_INPUTS = frozenset(("messages", "prompt", "input", "instructions", "system", "contents", "inputs", "texts", "query"))
_NAMED_ELSEWHERE = frozenset(
    ("stop_sequences", "max_output_tokens", "generationConfig", "inferenceConfig", "options", "keep_alive")
)
_CHAT_ONLY = frozenset(
    [
        *("max_completion_tokens", "tools", "tool_choice", "functions", "function_call", "parallel_tool_calls"),
        *("modalities", "audio", "prediction", "reasoning_effort", "verbosity", "web_search_options"),
    ]
)

CHAT = Operation(
    name="chat_completions",
    paths=("POST chat/completions",),
    dialect=Dialect.CHAT,
    consumes=True,
    estimated=True,
    usage=UsageForm.USAGE,
    usage_option=True,
    required=("messages",),
    prompt=("messages", "tools", "functions"),
    streams=Streams.FIELD,
    system=System.MESSAGES,
    limits=("max_tokens", "max_completion_tokens"),
    open=True,
    foreign=(_INPUTS | _NAMED_ELSEWHERE) - {"messages"},
    renamed={"max_output_tokens": "max_tokens"},
    cacheable=True,
    replayable=True,
    predictable=True,
)
COMPLETIONS = Operation(
    name="completions",
    paths=("POST completions",),
    dialect=Dialect.COMPLETIONS,
    consumes=True,
    estimated=True,
    usage=UsageForm.USAGE,
    usage_option=True,
    required=("prompt", "prompt_embeds"),
    prompt=("prompt", "suffix"),
    streams=Streams.FIELD,
    system=System.PROMPT,
    limits=("max_tokens",),
    open=True,
    foreign=(_INPUTS | _NAMED_ELSEWHERE | _CHAT_ONLY | {"top_logprobs"}) - {"prompt"},
    renamed={"max_output_tokens": "max_tokens", "max_completion_tokens": "max_tokens"},
    cacheable=True,
    replayable=True,
    predictable=True,
)
RESPONSES = Operation(
    name="responses",
    paths=("POST responses",),
    dialect=Dialect.RESPONSES,
    consumes=True,
    estimated=True,
    usage=UsageForm.USAGE,
    required=("input", "prompt", "previous_response_id", "conversation"),
    prompt=("input", "instructions", "tools", "prompt"),
    streams=Streams.FIELD,
    system=System.INSTRUCTIONS,
    limits=("max_output_tokens",),
    open=True,
    foreign=(
        (_INPUTS | _NAMED_ELSEWHERE | _CHAT_ONLY | _SAMPLING | {"n", "logprobs", "response_format", "stream_options"})
        - {"input", "prompt", "instructions", "tools", "tool_choice", "parallel_tool_calls", "temperature", "top_p"}
        - {"max_output_tokens"}
    ),
    renamed={"max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens"},
    predictable=True,
)
EMBEDDINGS = Operation(
    name="embeddings",
    paths=("POST embeddings",),
    dialect=Dialect.EMBEDDINGS,
    consumes=True,
    usage=UsageForm.USAGE,
    required=("input", "messages"),
    prompt=("input", "messages"),
    parameters=frozenset(
        [
            *("dimensions", "encoding_format", "user", "input_type", "truncate", "truncation", "priority", "task"),
            *("truncate_prompt_tokens", "output_dimension", "output_dtype", "normalized", "late_chunking"),
            "add_special_tokens",
        ]
    ),
    cacheable=True,
)
RERANK = Operation(
    name="rerank",
    paths=("POST rerank",),
    dialect=Dialect.RERANK,
    consumes=True,
    usage=UsageForm.USAGE,
    prompt=("query", "documents"),
    parameters=frozenset(
        ("top_n", "return_documents", "max_chunks_per_doc", "max_tokens_per_doc", "truncate_prompt_tokens", "priority")
    ),
    cacheable=True,
)
MODERATIONS = Operation(
    name="moderations", paths=("POST moderations",), dialect=Dialect.MODERATIONS, required=("input",)
)
_IMAGE_FIELDS = frozenset(
    [
        *("n", "size", "quality", "style", "background", "moderation", "output_format", "output_compression"),
        *("response_format", "user", "partial_images", "input_fidelity", "seed", "negative_prompt", "aspect_ratio"),
    ]
)
IMAGES = Operation(
    name="images",
    paths=("POST images/generations",),
    dialect=Dialect.IMAGES,
    consumes=True,
    usage=UsageForm.USAGE,
    prompt=("prompt",),
    streams=Streams.FIELD,
    parameters=_IMAGE_FIELDS,
)
IMAGE_EDITS = Operation(
    name="image_edits",
    paths=("POST images/edits", "POST images/variations"),
    dialect=Dialect.IMAGES,
    consumes=True,
    usage=UsageForm.USAGE,
    body=Body.FORM,
    prompt=("prompt",),
    streams=Streams.FIELD,
    parameters=_IMAGE_FIELDS,
)
SPEECH = Operation(
    name="speech",
    paths=("POST audio/speech",),
    dialect=Dialect.SPEECH,
    consumes=True,
    usage=UsageForm.USAGE,
    prompt=("input", "instructions"),
    streams=Streams.UNKNOWN,
    parameters=frozenset(("voice", "response_format", "speed", "instructions", "stream_format")),
)
TRANSCRIPTION = Operation(
    name="transcription",
    paths=("POST audio/transcriptions", "POST audio/translations"),
    dialect=Dialect.TRANSCRIPTION,
    consumes=True,
    usage=UsageForm.USAGE,
    body=Body.FORM,
    prompt=("prompt",),
    streams=Streams.FIELD,
    parameters=frozenset(("language", "response_format", "temperature", "chunking_strategy", "top_p", "seed")),
)
TOKENIZE = Operation(
    name="tokenize",
    paths=("POST tokenize", "POST detokenize", "POST apply-template"),
    dialect=Dialect.TOKENIZE,
    versioned=False,
)
POOLING = Operation(
    name="pooling",
    paths=("POST pooling", "POST score", "POST classify"),
    dialect=Dialect.EMBEDDINGS,
    versioned=False,
    consumes=True,
    usage=UsageForm.USAGE,
    prompt=("input", "messages", "text_1", "text_2", "queries", "documents"),
    parameters=frozenset(("truncate_prompt_tokens", "priority", "dimensions", "encoding_format", "user")),
)
SGLANG_GENERATE = Operation(
    name="sglang_generate",
    paths=("POST generate",),
    dialect=Dialect.SGLANG_GENERATE,
    consumes=True,
    estimated=True,
    usage=UsageForm.SGLANG,
    prompt=("text",),
    versioned=False,
    streams=Streams.FIELD,
    system=System.PROMPT,
    limits=("sampling_params.max_new_tokens",),
    parameters=frozenset(("sampling_params", "lora_path", "return_logprob")),
    renamed={
        "temperature": "sampling_params.temperature",
        "top_p": "sampling_params.top_p",
        "top_k": "sampling_params.top_k",
        "stop": "sampling_params.stop",
        "n": "sampling_params.n",
        "max_tokens": "sampling_params.max_new_tokens",
        "max_completion_tokens": "sampling_params.max_new_tokens",
        "max_output_tokens": "sampling_params.max_new_tokens",
    },
)
MODELS = Operation(name="models", paths=("GET models",), body=Body.NONE, model=ModelIn.NOWHERE)
MODEL = Operation(name="model", paths=("GET models/{model+}",), body=Body.NONE, model=ModelIn.PATH)
_REST = (
    Operation(
        name="stored_responses",
        paths=(
            "GET responses/{id}",
            "DELETE responses/{id}",
            "POST responses/{id}/cancel",
            "GET responses/{id}/input_items",
        ),
        dialect=Dialect.RESPONSES,
        body=Body.OPTIONAL,
        model=ModelIn.NOWHERE,
        streams=Streams.QUERY,
    ),
    Operation(
        name="response_tokens",
        paths=("POST responses/input_tokens", "POST responses/compact"),
        dialect=Dialect.RESPONSES,
    ),
    Operation(
        name="conversations",
        paths=(
            "POST conversations",
            "GET conversations/{rest+}",
            "POST conversations/{rest+}",
            "DELETE conversations/{rest+}",
        ),
        body=Body.OPTIONAL,
        model=ModelIn.NOWHERE,
    ),
    Operation(
        name="stored_chats",
        paths=(
            "GET chat/completions",
            "GET chat/completions/{id}",
            "POST chat/completions/{id}",
            "DELETE chat/completions/{id}",
            "GET chat/completions/{id}/messages",
        ),
        dialect=Dialect.CHAT,
        body=Body.OPTIONAL,
        model=ModelIn.NOWHERE,
    ),
    Operation(
        name="assistants",
        paths=(
            *("GET threads/{id}/messages", "POST threads/{id}/messages"),
            *(f"{method} threads/{{rest+}}" for method in ("GET", "POST", "DELETE")),
            *("POST threads", "POST assistants", "GET assistants", "GET assistants/{id}"),
            *("POST assistants/{id}", "DELETE assistants/{id}"),
        ),
        body=Body.OPTIONAL,
        streams=Streams.UNKNOWN,
    ),
    Operation(
        name="files",
        paths=("POST files", "GET files", "GET files/{id}", "DELETE files/{id}", "GET files/{id}/content"),
        body=Body.FORM,
        model=ModelIn.NOWHERE,
    ),
    Operation(
        name="uploads",
        paths=("POST uploads", "POST uploads/{id}/parts", "POST uploads/{id}/complete", "POST uploads/{id}/cancel"),
        body=Body.FORM,
        model=ModelIn.NOWHERE,
    ),
    Operation(
        name="vector_stores",
        paths=(
            "POST vector_stores",
            "GET vector_stores",
            *(f"{method} vector_stores/{{rest+}}" for method in ("GET", "POST", "DELETE")),
        ),
        body=Body.OPTIONAL,
        model=ModelIn.NOWHERE,
    ),
    Operation(
        name="batches",
        paths=("POST batches", "GET batches", "GET batches/{id}", "POST batches/{id}/cancel"),
        dialect=Dialect.BATCH,
        body=Body.OPTIONAL,
        model=ModelIn.NOWHERE,
    ),
    Operation(
        name="fine_tuning",
        paths=(
            "POST fine_tuning/jobs",
            "GET fine_tuning/jobs",
            *(f"{method} fine_tuning/jobs/{{rest+}}" for method in ("GET", "POST")),
        ),
        body=Body.OPTIONAL,
    ),
    Operation(name="realtime", paths=("GET realtime",), body=Body.NONE, streams=Streams.ALWAYS, model=ModelIn.NOWHERE),
    Operation(
        name="realtime_sessions",
        paths=("POST realtime/sessions", "POST realtime/transcription_sessions", "POST realtime/client_secrets"),
        body=Body.OPTIONAL,
    ),
    Operation(name="delete_model", paths=("DELETE models/{model+}",), body=Body.OPTIONAL, model=ModelIn.NOWHERE),
)

ROWS = (
    CHAT,
    COMPLETIONS,
    RESPONSES,
    EMBEDDINGS,
    RERANK,
    MODERATIONS,
    IMAGES,
    IMAGE_EDITS,
    SPEECH,
    TRANSCRIPTION,
    TOKENIZE,
    POOLING,
    SGLANG_GENERATE,
    MODELS,
    MODEL,
    *_REST,
)
