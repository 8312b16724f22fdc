"""HTTP/2 for gRPC calls: a server's protocol core without I/O, and a thin asyncio driver around it.

Whatever one call or one peer does wrong stays in this room; nothing here knows ext_proc, sessions or Envoy's messages.
"""
