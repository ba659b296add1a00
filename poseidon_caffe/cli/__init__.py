"""The ``poseidon`` command: one module a command, and its flags."""
