"""What the engine and the detectors share of the libraries that they compute with, in one worker process."""
