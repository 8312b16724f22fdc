"""The local classifier: one small encoder for names, internal business information and prompt injection."""
