"""Providers of models and of search, and their tools."""

from __future__ import annotations

from detectors.secrets.rules import keyed, shaped

_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"

RULES = (
    shaped(
        "openai-key",
        "sk-",
        r"sk-(?:proj|svcacct|admin|service|None)-[\w\-]{20,240}|sk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}",
        entropy=3.2,
    ),
    shaped("anthropic-key", "sk-ant-", r"sk-ant-(?:api\d\d|admin\d\d|sid\d\d|oat\d\d)-[\w\-]{60,200}"),
    shaped("openrouter-key", "sk-or-", r"sk-or-(?:v1-)?[a-f0-9]{64}"),
    shaped(
        "model-provider-key", "sk-", r"sk-(?:[a-z]{2,12}-)?[A-Za-z0-9]{32,64}(?:T3BlbkFJ[A-Za-z0-9]{20})?", entropy=3.0
    ),
    shaped("langfuse-key", "sk-lf-", rf"sk-lf-{_UUID}"),
    shaped("langsmith-key", "lsv2_ ls__", r"lsv2_(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{10}|ls__[a-f0-9]{32}"),
    shaped("huggingface-token", "hf_ api_org_", r"(?:hf_|api_org_)[A-Za-z]{30,40}|hf_[A-Za-z0-9]{34,40}"),
    shaped("replicate-token", "r8_", r"r8_[A-Za-z0-9]{37,40}"),
    shaped("groq-key", "gsk_", r"gsk_[A-Za-z0-9]{52}"),
    shaped("xai-key", "xai-", r"xai-[A-Za-z0-9]{70,90}"),
    shaped("perplexity-key", "pplx-", r"pplx-[A-Za-z0-9]{40,56}"),
    shaped("fireworks-key", "fw_", r"fw_[A-Za-z0-9]{22,40}", entropy=3.2),
    shaped("cerebras-key", "csk-", r"csk-[a-z0-9]{48}"),
    shaped("together-key", "tgp_v1_", r"tgp_v1_[\w\-]{40,60}"),
    shaped("nvidia-key", "nvapi-", r"nvapi-[\w\-]{60,70}"),
    shaped("elevenlabs-key", "sk_", r"sk_[a-f0-9]{48}"),
    shaped("stability-key", "sk-", r"sk-[A-Za-z0-9]{48}"),
    shaped("jina-key", "jina_", r"jina_[A-Za-z0-9]{60}|jina_[a-f0-9]{32}[\w\-]{20,32}"),
    shaped("tavily-key", "tvly-", r"tvly-(?:dev-|prod-)?[A-Za-z0-9]{32}"),
    shaped("firecrawl-key", "fc-", r"fc-[a-f0-9]{32}"),
    shaped("voyage-key", "pa-", r"pa-[\w\-]{43}(?![\w\-])", entropy=3.5),
    shaped("pinecone-key", "pcsk_", r"pcsk_[A-Za-z0-9]{5,6}_[A-Za-z0-9]{50,70}"),
    shaped("apify-token", "apify_api_", r"apify_api_[A-Za-z0-9]{36}"),
    shaped("brave-key", "bsa", r"BSA[A-Za-z0-9_\-]{27,28}(?![\w\-])", entropy=3.5),
    shaped("kagi-key", "iqc.", r"[\w\-]{8}iQc\.[\w\-]{43}(?![\w\-])", before=8),
    keyed("kagi-key", "kagi", r"[\w\-]{11}\.[\w\-]{43}(?![\w\-])"),
    keyed("cohere-key", "cohere co_api", r"[A-Za-z0-9]{40}", entropy=3.2),
    keyed("mistral-key", "mistral", r"[A-Za-z0-9]{32}", entropy=3.2),
    keyed("ai21-key", "ai21", r"[A-Za-z0-9]{32}", entropy=3.2),
    keyed("assemblyai-key", "assemblyai deepgram", r"[a-f0-9]{32}|[a-f0-9]{40}"),
    keyed("wandb-key", "wandb", r"[a-f0-9]{40}"),
    shaped("wandb-key", "wandb_v1_", r"wandb_v1_[\w\-]{60,90}"),
    keyed("serpapi-key", "serpapi serper", r"[a-f0-9]{64}|[a-f0-9]{40}"),
    keyed("pinecone-key", "pinecone", _UUID),
    keyed("qdrant-key", "qdrant weaviate", r"[\w\-|.]{32,120}(?![\w\-])", entropy=3.5),
    keyed("nasa-key", "nasa", r"[A-Za-z0-9]{40}", entropy=3.5),
)
