"""Where releases come from: training, metrics, the manifest and its checks; off the hot path."""
