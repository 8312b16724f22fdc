"""What a call is, said once: its body, tokens, streams, fields and errors, by method and path."""
