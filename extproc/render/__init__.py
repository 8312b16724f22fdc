"""Resources in, Envoy configuration out."""
