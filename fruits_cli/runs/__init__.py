"""One run of the job from plan to results."""
