"""What every model shares: data sets, splits, metrics, reasons, the registry and its cards."""
