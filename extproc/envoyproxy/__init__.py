"""Envoy as a child process: started, fed with files that it watches, restarted, and ended with the filter.

What stands in those files is for `render` to say.
"""
