"""Measures on the training rows."""

import numpy as np


def log_loss(margins: np.ndarray, labels: np.ndarray) -> float:
    """Mean log loss of log-odds."""
    signed = np.where(labels == 1.0, margins, -margins)
    return float(np.mean(np.logaddexp(0.0, -signed)))
