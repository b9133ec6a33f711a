"""Evolutionary architecture search for LLaMA checkpoints: this package is the program `criadero` and what starts it."""
