"""Post-training: the trainer, how a step is carried out, masks that stay."""
