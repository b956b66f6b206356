"""From landing files to accepted rows in the lake, and to quarantine with the reason."""
