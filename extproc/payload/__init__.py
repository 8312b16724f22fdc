"""Bytes in, bytes out: OpenAI-style JSON, SSE, usage, key-level edits, content encodings."""
