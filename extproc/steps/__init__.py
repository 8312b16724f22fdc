"""What happens to a request, in one visible ordered list."""
