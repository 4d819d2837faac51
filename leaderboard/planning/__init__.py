"""From laws to decisions: budgets, deployments, the next run, what GPUs cost."""
