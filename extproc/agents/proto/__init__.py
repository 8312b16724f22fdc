"""Messages of `proto/`, compiled by `make proto`."""
