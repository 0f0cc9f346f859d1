"""The claims ledger: what the paper and the theory predict, measured on one model with one command."""
