"""A gRPC mesh as a first version has it: aio everywhere, a message a candidate, stock parts."""
