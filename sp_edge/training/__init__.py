"""Pre-training, episodic tuning and evaluation of the SP Visformer."""
