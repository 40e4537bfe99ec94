"""Every line that leans on the inside of vLLM."""
