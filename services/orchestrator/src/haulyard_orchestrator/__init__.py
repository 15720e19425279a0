"""The orchestrator: owns the jobs. It plans, fans tasks out, takes results in, finishes, retries and repairs."""
