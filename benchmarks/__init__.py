"""dparallel beside its peers: `python -m benchmarks` lists the commands."""
