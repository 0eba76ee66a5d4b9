"""An EMR cluster: planned, launched, found, watched, ended, billed."""
