"""The only room that knows the messages of ext_proc: a stream of them becomes an exchange and goes through the steps.

Nothing is decided here.
"""
