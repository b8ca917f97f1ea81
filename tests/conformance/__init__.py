"""What every public estimator promises, checked for all of them alike."""
