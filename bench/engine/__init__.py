"""A simulated GPU engine: `extproc.simulate.engine` is the pure core, `server` the HTTP driver around it."""
