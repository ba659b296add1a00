"""Speed and memory beside PyTorch, measured in one run (``make bench``)."""
