"""What is told of how things stand, as facts for JSON: one function a question, whoever asks.

Made from the configuration, a ledger, and what only a running daemon knows (`live`). Nothing here
prints, and nothing here decides what is done with an image; `retry` alone moves files.
"""
