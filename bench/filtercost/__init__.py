"""What a request costs with the filter, beside what it costs without one and with one that does nothing."""
