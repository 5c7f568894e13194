"""A study's cells as W&B runs, written from what is stored of them. Only `writer` imports wandb, where it writes."""
