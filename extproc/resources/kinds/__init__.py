"""The resources, a file for each kind: fields, units, defaults and documentation.

No logic beyond a field's own limits.
"""
