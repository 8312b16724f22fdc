"""One HTTP request and its response as a state table: events in, actions out."""
