"""Our policies beside other products' rules, on recorded traces and simulated engines. `python -m bench.pool`."""
