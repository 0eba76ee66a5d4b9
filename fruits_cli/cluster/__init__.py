"""An EMR cluster from wish to bill."""
