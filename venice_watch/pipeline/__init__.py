"""One image's way, top to bottom: read, probe, choose, prepare, send, stage, deliver, retire."""
