"""Finding files: events are hints, scans are the truth, and both end in one tracker."""
