"""Task heads: a folder for each kind, and the contract they fulfil."""
