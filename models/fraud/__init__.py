"""Transaction fraud: a calibrated gradient boosting model under label delay."""
