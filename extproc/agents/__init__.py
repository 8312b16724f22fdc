"""Engines that report themselves: agents beside the engines, the gateway's side of the connection, and their sessions.

Beside `wire` the only room that knows gRPC; `sessions` is pure.
"""
