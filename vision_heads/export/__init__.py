"""Files that run without torch, each proved against the network it was made from."""
