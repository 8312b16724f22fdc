"""A simulated GPU engine: `model` is the pure core, `server` the HTTP driver around it."""
