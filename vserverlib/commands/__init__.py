"""What is typed after `vserver`: each command parses, calls one function, and prints what that returns."""
