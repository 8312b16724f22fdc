"""The resources as JSON Schema and as a reference for people, both read from `kinds`."""
