"""Bytes in, bytes out: JSON bodies, SSE, usage, edits by key, content encodings.

Pure; nothing here knows routes, policies or Envoy.
"""
