"""What was measured about the laws themselves: ablation, choice of a metric, cross-validation, noise."""
